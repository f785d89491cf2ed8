"""BiLSTM d-vectors (wq2012/SpeakerRecognitionFromScratch): small, public, weak, and real.

Letters: B clips, S samples, F frames of 32 ms, W windows.
"""

from pathlib import Path

import torch
import torchaudio
from torch import Tensor, nn

_RATE_HZ = 16000
_N_MFCC, _HIDDEN, _LAYERS = 40, 64, 3
_WINDOW, _STEP = 100, 50


class DVector(nn.Module):
    """Mean output of a three-layer BiLSTM over MFCC windows of 3.2 s; clips that are shorter are one window.

    The MFCC are those of librosa's defaults (n_fft 2048, hop 512, 128 Slaney mels, decibels cut at 80 below the
    peak), computed with torchaudio.
    """

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(_N_MFCC, _HIDDEN, _LAYERS, batch_first=True, bidirectional=True)
        mel = {"n_fft": 2048, "hop_length": 512, "n_mels": 128, "mel_scale": "slaney", "norm": "slaney"}
        self.mfcc = torchaudio.transforms.MFCC(_RATE_HZ, _N_MFCC, melkwargs=mel | {"pad_mode": "constant"})

    @classmethod
    def from_pretrained(cls, path: Path) -> "DVector":
        """Load `saved_model.bilstm.mean.all.*.pt`.

        Raises:
            ValueError: The file does not hold this network.
        """
        held = torch.load(path, map_location="cpu", weights_only=True)
        state = held.get("encoder_state_dict") if isinstance(held, dict) else None
        model = cls().eval().requires_grad_(False)
        expected = model.lstm.state_dict()
        if not isinstance(state, dict) or {name.removeprefix("lstm.") for name in state} != expected.keys():
            raise ValueError(
                f"{path} holds no BiLSTM of {_LAYERS} layers under 'encoder_state_dict'; get the file again"
            )
        model.lstm.load_state_dict({name.removeprefix("lstm."): value for name, value in state.items()})
        return model

    @torch.no_grad()
    def embed(self, waveform: Tensor, sample_rate_hz: int) -> Tensor:
        """Embed waveforms (B, S) in [-1, 1]; returns (B, 128)."""
        waveform = waveform.to(next(self.lstm.parameters()).device)
        if sample_rate_hz != _RATE_HZ:
            waveform = torchaudio.functional.resample(waveform, sample_rate_hz, _RATE_HZ)
        features = torch.stack([self.mfcc(one).T for one in waveform.float()])  # decibels are relative to each clip
        size = min(_WINDOW, features.shape[1])
        windows = features.unfold(1, size, _STEP).transpose(2, 3)
        output, _ = self.lstm(windows.flatten(0, 1))
        return output.mean(dim=1).unflatten(0, windows.shape[:2]).mean(dim=1)
