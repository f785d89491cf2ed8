"""LR-ASD: whether the face that is seen is the one that is heard, frame by frame.

Liao et al. 2025, "LR-ASD: lightweight and robust network for active speaker detection"; key names and inputs of the
published weights (Junhua-Liao/LR-ASD). Letters: N clips, S samples, F frames at 25 fps.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from idlora_pl.metrics.clip_mean import Unscorable
from idlora_pl.metrics.face_track import CROP_SIZE
from idlora_pl.scorers.lips.lr_asd_parts import Detector, FaceEncoder, Gate, SoundEncoder
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
