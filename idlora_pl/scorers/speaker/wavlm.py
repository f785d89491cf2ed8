"""WavLM with UniSpeech's speaker-verification head, in two scales that must not be mixed.

"standard" is the speaker similarity of the field: the fine-tuned body of `wavlm_large_finetune.pth`, input
layer-normed as WavLM-large expects. "idlora" is what the authors' code measures (facts of their
`evaluation_metrics.py`): the stock body of `microsoft/wavlm-large` under the fine-tuned head, raw waveform, no offset
before the instance norm. The head is an ECAPA-TDNN with its published key names.

Letters: B clips, S samples, C channels, K hidden states of the body (layers + 1), F frames, D width of the body.
"""

import re
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Literal

import torch
import torchaudio
from torch import Tensor, nn
from torch.nn import functional
from transformers import WavLMConfig, WavLMModel

from idlora_pl.metrics.scorable import Unscorable
from idlora_pl.scorers.snapshot import load_snapshot

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


Scale = Literal["standard", "idlora"]
_RATE_HZ = 16000
_BODY = "feature_extract.model."

# The published checkpoint's names on the left, transformers' on the right.
_RENAMES = (
    (r"^mask_emb$", "masked_spec_embed"),
    (r"^layer_norm\.", "feature_projection.layer_norm."),
    (r"^post_extract_proj\.", "feature_projection.projection."),
    (r"^(feature_extractor\.conv_layers\.\d+)\.0\.", r"\1.conv."),
    (r"^(feature_extractor\.conv_layers\.\d+)\.2\.1\.", r"\1.layer_norm."),
    (r"^encoder\.pos_conv\.0\.weight_g$", "encoder.pos_conv_embed.conv.parametrizations.weight.original0"),
    (r"^encoder\.pos_conv\.0\.weight_v$", "encoder.pos_conv_embed.conv.parametrizations.weight.original1"),
    (r"^encoder\.pos_conv\.0\.bias$", "encoder.pos_conv_embed.conv.bias"),
    (r"\.self_attn\.grep_linear\.", ".attention.gru_rel_pos_linear."),
    (r"\.self_attn\.grep_a$", ".attention.gru_rel_pos_const"),
    (r"\.self_attn\.relative_attention_bias\.", ".attention.rel_attn_embed."),
    (r"\.self_attn_layer_norm\.", ".layer_norm."),
    (r"\.self_attn\.", ".attention."),
    (r"\.fc1\.", ".feed_forward.intermediate_dense."),
    (r"\.fc2\.", ".feed_forward.output_dense."),
)

LARGE = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "do_stable_layer_norm": True,
    "feat_extract_norm": "layer",
    "conv_bias": False,
    "num_buckets": 320,
    "max_bucket_distance": 800,
}
"""Settings of WavLM-large."""


def body_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of a published WavLM to transformers' names."""
    renamed = {}
    for name, value in state.items():
        new = name
        for pattern, replacement in _RENAMES:
            new = re.sub(pattern, replacement, new)
        renamed[new] = value
    return renamed


class WavLMSpeaker(nn.Module):
    """Speaker embeddings of 256 numbers.

    Args:
        body: WavLM; all of its hidden states are used.
        head: The ECAPA-TDNN on top.
        scale: Which of the two measures this is.
    """

    def __init__(self, body: WavLMModel, head: EcapaHead, scale: Scale) -> None:
        super().__init__()
        self.body, self.head, self.scale = body, head, scale
        head.offset = 1e-6 if scale == "standard" else 0.0
        self.eval().requires_grad_(False)

    @classmethod
    def from_pretrained(cls, checkpoint: Path, scale: Scale, body: Path | None = None) -> "WavLMSpeaker":
        """Load UniSpeech's `wavlm_large_finetune.pth`, with the stock body for the scale of ID-LoRA.

        Args:
            checkpoint: The checkpoint, `model` -> tensors by name.
            scale: Which measure; "idlora" needs `body`.
            body: Folder of `microsoft/wavlm-large`.

        Raises:
            ValueError: The checkpoint has other names or shapes; the first ones are named.
        """
        held = torch.load(checkpoint, map_location="cpu", weights_only=True)
        state = held.get("model") if isinstance(held, dict) else None
        if not isinstance(state, dict):
            raise ValueError(f"{checkpoint} holds no tensors under 'model'; get the file again")
        return cls.from_state(state, scale, str(checkpoint), LARGE, body)

    @classmethod
    def from_state(
        cls,
        state: Mapping[str, Tensor],
        scale: Scale,
        where: str,
        settings: Mapping[str, object],
        body: Path | None = None,
    ) -> "WavLMSpeaker":
        """Build from the tensors of a checkpoint; see `from_pretrained`."""
        own = {name: value for name, value in state.items() if not name.startswith("feature_extract.")}
        tuned = {name.removeprefix(_BODY): value for name, value in state.items() if name.startswith(_BODY)}
        head = EcapaHead(*_sizes(own, where))
        _load(head, own, where)
        if scale == "idlora":
            if body is None:
                raise ValueError("the scale idlora needs the folder of the stock WavLM-large; pass body")
            return cls(load_snapshot(WavLMModel, body), head, scale)
        model = WavLMModel(WavLMConfig.from_dict({**settings, **_DETERMINISTIC}))
        _load(model, body_names(tuned), where, optional={"masked_spec_embed"})
        return cls(model, head, scale)

    @torch.no_grad()
    def embed(self, waveform: Tensor, sample_rate_hz: int) -> Tensor:
        """Embed waveforms (B, S) in [-1, 1]; returns (B, 256) of unit length."""
        waveform = waveform.to(self.body.device)
        if sample_rate_hz != _RATE_HZ:
            waveform = torchaudio.functional.resample(waveform, sample_rate_hz, _RATE_HZ)
        if waveform.shape[-1] < 0.1 * _RATE_HZ:
            raise Unscorable("too_short")
        if self.scale == "standard":
            waveform = nn.functional.layer_norm(waveform, waveform.shape[-1:])
        return nn.functional.normalize(self.head(self.hidden_states(waveform.float())), dim=-1)

    def hidden_states(self, waveform: Tensor) -> Tensor:
        """Return what the head reads: the input of every layer and the normed output of the last, (K, B, F, D).

        transformers 5 gives the last state without the final norm; transformers 4 (which the authors used) and the
        published evaluation give it normed.
        """
        output = self.body(waveform, output_hidden_states=True)
        return torch.stack([*output.hidden_states[:-1], output.last_hidden_state])


_DETERMINISTIC = {"apply_spec_augment": False, "layerdrop": 0.0}


def _sizes(own: Mapping[str, Tensor], where: str) -> tuple[int, int]:
    """Read number of hidden states and width from the head's tensors."""
    for name in ("feature_weight", "layer1.conv.weight"):
        if name not in own:
            raise ValueError(f"{where} lacks {name}; it is no speaker-verification checkpoint of UniSpeech")
    return len(own["feature_weight"]), own["layer1.conv.weight"].shape[1]


def _load(model: nn.Module, state: Mapping[str, Tensor], where: str, optional: Set[str] = frozenset()) -> None:
    """Load tensors by name; counters and loss layers of training may be left over, everything else is refused."""
    expected = model.state_dict()
    counters = {name for name in expected if name.endswith("num_batches_tracked")}
    missing = sorted(expected.keys() - state.keys() - counters - optional)
    unexpected = sorted(name for name in state.keys() - expected.keys() if not name.startswith("loss_calculator."))
    wrong = sorted(name for name in expected.keys() & state.keys() if expected[name].shape != state[name].shape)
    if missing or unexpected or wrong:
        found = {"missing": missing, "unexpected": unexpected, "of another shape": wrong}
        said = ", ".join(f"{len(names)} names {kind} {names[:3]}" for kind, names in found.items() if names)
        raise ValueError(f"{where} does not fit {type(model).__name__}: {said}; get the file again")
    model.load_state_dict({name: state[name] for name in expected.keys() & state.keys()}, strict=False)
