"""The ECAPA-TDNN head of UniSpeech's speaker verification, with its published key names.

Letters: B clips, C channels, F frames, K hidden states of the body (layers + 1), D width of the body.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

_SCALE = 8


class _ConvReluNorm(nn.Module):
    """Convolution, ReLU, batch norm, in this order."""

    def __init__(self, inputs: int, outputs: int, size: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv1d(inputs, outputs, size, padding=size // 2)
        self.bn = nn.BatchNorm1d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, F) to (B, C', F)."""
        return self.bn(functional.relu(self.conv(x)))


class _Res2(nn.Module):
    """Eight groups of channels, each but the last convolved after the one before it was added."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        width = channels // _SCALE
        convolutions = [nn.Conv1d(width, width, 3, padding=dilation, dilation=dilation) for _ in range(_SCALE - 1)]
        self.convs = nn.ModuleList(convolutions)
        self.bns = nn.ModuleList(nn.BatchNorm1d(width) for _ in range(_SCALE - 1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, F) to (B, C, F)."""
        *groups, last = x.chunk(_SCALE, dim=1)
        made: list[Tensor] = []
        for group, convolution, norm in zip(groups, self.convs, self.bns, strict=True):
            inputs = group + made[-1] if made else group
            made.append(norm(functional.relu(convolution(inputs))))
        return torch.cat([*made, last], dim=1)


class _SqueezeExcite(nn.Module):
    """Channels scaled by what the whole clip says."""

    def __init__(self, channels: int, bottleneck: int = 128) -> None:
        super().__init__()
        self.linear1 = nn.Linear(channels, bottleneck)
        self.linear2 = nn.Linear(bottleneck, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, F) to (B, C, F)."""
        gate = torch.sigmoid(self.linear2(functional.relu(self.linear1(x.mean(dim=2)))))
        return x * gate[:, :, None]


class _Block(nn.Module):
    """One residual block; the names are those of the published checkpoint."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.Conv1dReluBn1 = _ConvReluNorm(channels, channels)
        self.Res2Conv1dReluBn = _Res2(channels, dilation)
        self.Conv1dReluBn2 = _ConvReluNorm(channels, channels)
        self.SE_Connect = _SqueezeExcite(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, F) to (B, C, F)."""
        return x + self.SE_Connect(self.Conv1dReluBn2(self.Res2Conv1dReluBn(self.Conv1dReluBn1(x))))


class _AttentiveStatistics(nn.Module):
    """Mean and standard deviation over time, weighted by attention without global context."""

    def __init__(self, channels: int, bottleneck: int = 128) -> None:
        super().__init__()
        self.linear1 = nn.Conv1d(channels, bottleneck, 1)
        self.linear2 = nn.Conv1d(bottleneck, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, F) to (B, 2C)."""
        weight = self.linear2(torch.tanh(self.linear1(x))).softmax(dim=2)
        mean = (weight * x).sum(dim=2)
        variance = (weight * x.square()).sum(dim=2) - mean.square()
        return torch.cat([mean, variance.clamp(min=1e-9).sqrt()], dim=1)


class EcapaHead(nn.Module):
    """ECAPA-TDNN over a learned mixture of all hidden states of a speech model.

    Args:
        n_states: K; 25 for WavLM-large.
        width: D; 1024 for WavLM-large.
        channels: Of the blocks.
        embedding: Size of the embedding.
        offset: Added to the mixture before the instance norm; 1e-6 in UniSpeech, 0 in the code of ID-LoRA.
    """

    def __init__(
        self, n_states: int = 25, width: int = 1024, *, channels: int = 512, embedding: int = 256, offset: float = 1e-6
    ) -> None:
        super().__init__()
        pooled = 3 * channels
        self.offset = offset
        self.feature_weight = nn.Parameter(torch.zeros(n_states))
        self.instance_norm = nn.InstanceNorm1d(width)
        self.layer1 = _ConvReluNorm(width, channels, 5)
        self.layer2, self.layer3, self.layer4 = (_Block(channels, dilation) for dilation in (2, 3, 4))
        self.conv = nn.Conv1d(3 * channels, pooled, 1)
        self.pooling = _AttentiveStatistics(pooled)
        self.bn = nn.BatchNorm1d(2 * pooled)
        self.linear = nn.Linear(2 * pooled, embedding)

    def forward(self, states: Tensor) -> Tensor:
        """Embed hidden states (K, B, F, D) to (B, 256), not normalised."""
        mixture = torch.einsum("k,kbfd->bdf", self.feature_weight.softmax(dim=0), states)
        x = self.layer1(self.instance_norm(mixture + self.offset))
        outputs = [x]
        for block in (self.layer2, self.layer3, self.layer4):
            outputs.append(block(outputs[-1]))
        pooled = self.pooling(functional.relu(self.conv(torch.cat(outputs[1:], dim=1))))
        return self.linear(self.bn(pooled))
