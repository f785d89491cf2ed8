"""LR-ASD: whether the face that is seen is the one that is heard, frame by frame.

Liao et al. 2025, "LR-ASD: lightweight and robust network for active speaker detection"; layers, key names and inputs
of the published weights (Junhua-Liao/LR-ASD). Letters: N clips, S samples, F frames at 25 fps, A = 4 F steps of 10
ms, C channels.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from idlora_pl.metrics.face_track import CROP_SIZE
from idlora_pl.metrics.scorable import Unscorable
from idlora_pl.scorers.lips.mfcc import as_16_bit, mfcc

FACE_SIZE = 112
CEPSTRA_PER_FRAME = 4
_LUMA = (0.299, 0.587, 0.114)


class LrAsd(nn.Module):
    """The network with its head; satisfies `metrics.embedders.ActiveSpeakerDetector`."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.ModuleDict(
            {
                "visualEncoder": FaceEncoder(),
                "audioEncoder": SoundEncoder(),
                "fusion": Gate(256),
                "detector": Detector(),
            }
        )
        self.lossAV = nn.ModuleDict({"FC": nn.Linear(128, 2)})
        # the head for faces without sound is in the file; it is not used
        self.lossV = nn.ModuleDict({"FC": nn.Linear(128, 2)})

    def forward(self, cepstra: Tensor, faces: Tensor) -> Tensor:
        """Map cepstra (N, 4 F, 13) and faces (N, F, 112, 112) to scores (N, F, 2): silent or unheard, and speaking."""
        fused = self.model["fusion"](self.model["audioEncoder"](cepstra), self.model["visualEncoder"](faces))
        return self.lossAV["FC"](self.model["detector"](fused))

    @torch.no_grad()
    def log_odds(self, waveform: Tensor, sample_rate_hz: int, crops: Tensor) -> Tensor:
        """Return the logarithm of the odds that the face is the one that is heard, (F,).

        The whole clip goes through at once, as in the authors' evaluation on AVA.

        Args:
            waveform: (S,) in [-1, 1].
            sample_rate_hz: Of the waveform; it is resampled to 16 kHz.
            crops: uint8 (K, 3, 224, 224) of `face_crops` at 25 fps; their middle 112 pixels are looked at.

        Raises:
            ValueError: The crops have another size.
            Unscorable: `too_short` without one whole frame of sound.
        """
        if crops.shape[1:] != (3, CROP_SIZE, CROP_SIZE):
            raise ValueError(f"crops must be (F, 3, 224, 224) crops of a face; got {tuple(crops.shape)}")
        device = next(self.parameters()).device
        cepstra = mfcc(as_16_bit(waveform, sample_rate_hz))
        n_frames = min(len(crops), len(cepstra) // CEPSTRA_PER_FRAME)
        if n_frames < 1:
            raise Unscorable("too_short")
        edge = (CROP_SIZE - FACE_SIZE) // 2
        middle = crops[:n_frames, :, edge : edge + FACE_SIZE, edge : edge + FACE_SIZE].to(device).float()
        grey = (middle * middle.new_tensor(_LUMA)[:, None, None]).sum(1).round()
        heard = cepstra[: CEPSTRA_PER_FRAME * n_frames].float().to(device)
        scores = self(heard[None], grey[None])[0]
        return scores[:, 1] - scores[:, 0]


def load_lr_asd(path: Path) -> LrAsd:
    """Load the published file, ready to detect.

    Raises:
        ValueError: The file does not hold the tensors of LR-ASD.
    """
    network = LrAsd()
    tensors = torch.load(path, map_location="cpu", weights_only=True)
    try:
        network.load_state_dict(tensors)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"{path} does not fit LR-ASD: {error}") from error
    return network.eval().requires_grad_(False)


GREY_MEAN, GREY_SPREAD = 0.4161, 0.1688


class FactoredBlock(nn.Module):
    """Two convolutions over space (or frequency), then two over time, each with norm and ReLU.

    Args:
        prefix: Of the first two in the published key names: "s" for space, "m" for mel cepstra.
        conv: Makes a convolution from channels in, channels out, size, whether it runs over time, and stride.
        norm: Makes a norm from channels.
        channels: In, and out.
        stride: Of the first convolution.
    """

    def __init__(
        self,
        prefix: str,
        conv: Callable[[int, int, int, bool, int], nn.Module],
        norm: Callable[..., nn.Module],
        channels: tuple[int, int],
        *,
        stride: int = 1,
    ) -> None:
        super().__init__()
        inside, outside = channels
        plan = (
            (prefix, 1, inside, outside // 2, 5),
            (prefix, 2, outside // 2, outside, 3),
            ("t", 1, outside, outside, 5),
            ("t", 2, outside, outside, 3),
        )
        self.steps: list[tuple[str, str]] = []
        for kind, number, before, after, size in plan:
            names = (f"{kind}_{number}", f"{kind}_norm_{number}")
            setattr(self, names[0], conv(before, after, size, kind == "t", stride if names[0] == f"{prefix}_1" else 1))
            setattr(self, names[1], norm(after, eps=1e-3))
            self.steps.append(names)

    def forward(self, maps: Tensor) -> Tensor:
        """Map (N, C, ...) to (N, C', ...)."""
        for conv, norm in self.steps:
            maps = getattr(self, norm)(getattr(self, conv)(maps)).relu()
        return maps


def _over_frames(inside: int, outside: int, size: int, time: bool, stride: int) -> nn.Conv3d:
    kernel, edge = ((size, 1, 1), (size // 2, 0, 0)) if time else ((1, size, size), (0, size // 2, size // 2))
    return nn.Conv3d(inside, outside, kernel, (1, stride, stride), edge, bias=False)


def _over_cepstra(inside: int, outside: int, size: int, time: bool, stride: int) -> nn.Conv2d:
    kernel, edge = ((1, size), (0, size // 2)) if time else ((size, 1), (size // 2, 0))
    return nn.Conv2d(inside, outside, kernel, stride, edge, bias=False)


class FaceEncoder(nn.Module):
    """Faces to vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.block1 = FactoredBlock("s", _over_frames, nn.BatchNorm3d, (1, 32), stride=2)
        self.block2 = FactoredBlock("s", _over_frames, nn.BatchNorm3d, (32, 64))
        self.block3 = FactoredBlock("s", _over_frames, nn.BatchNorm3d, (64, 128))
        self.pool = nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1))

    def forward(self, faces: Tensor) -> Tensor:
        """Map faces (N, F, 112, 112), grey in 0..255, to (N, F, 128)."""
        maps = ((faces / 255 - GREY_MEAN) / GREY_SPREAD)[:, None]
        maps = self.block3(self.pool(self.block2(self.pool(self.block1(maps)))))
        return maps.amax((3, 4)).transpose(1, 2)


class SoundEncoder(nn.Module):
    """Cepstra to vectors, one for four steps."""

    def __init__(self) -> None:
        super().__init__()
        self.block1 = FactoredBlock("m", _over_cepstra, nn.BatchNorm2d, (1, 32))
        self.block2 = FactoredBlock("m", _over_cepstra, nn.BatchNorm2d, (32, 64))
        self.block3 = FactoredBlock("m", _over_cepstra, nn.BatchNorm2d, (64, 128))
        self.pool = nn.MaxPool2d((1, 3), (1, 2), (0, 1))

    def forward(self, cepstra: Tensor) -> Tensor:
        """Map cepstra (N, 4 F, 13) to (N, F, 128)."""
        maps = self.pool(self.block1(cepstra.transpose(1, 2)[:, None]))
        return self.block3(self.pool(self.block2(maps))).mean(2).transpose(1, 2)


class Gate(nn.Module):
    """Two vectors side by side, each channel weighted by what both say."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.attention = nn.Conv1d(channels, channels, 1, bias=False)
        self.bn = nn.BatchNorm1d(channels, eps=1e-3)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Map (N, F, C/2) twice to (N, F, C)."""
        both = torch.cat([first, second], 2).transpose(1, 2)
        return (both * self.bn(self.attention(both)).sigmoid()).transpose(1, 2)


class Detector(nn.Module):
    """One recurrent network forwards in time and one backwards."""

    def __init__(self) -> None:
        super().__init__()
        self.gru_forward = nn.GRU(256, 64, batch_first=True)
        self.gru_backward = nn.GRU(256, 64, batch_first=True)
        self.attention = Gate(128)

    def forward(self, steps: Tensor) -> Tensor:
        """Map (N, F, 256) to (N, F, 128)."""
        return self.attention(self.gru_forward(steps)[0], self.gru_backward(steps.flip(1))[0].flip(1))
