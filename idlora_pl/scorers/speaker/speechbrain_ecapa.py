"""SpeechBrain's ECAPA-TDNN (spkrec-ecapa-voxceleb), its networks built from SpeechBrain's classes.

The snapshot's hyperparams.yaml can run any code and its .ckpt files are pickles, so neither is given to SpeechBrain:
the sizes stand here, and the tensors are read with weights_only.
"""

import sys
from pathlib import Path
from typing import Any

import torch
import torchaudio
from speechbrain.lobes.features import Fbank
from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN
from speechbrain.processing.features import InputNormalization
from speechbrain.utils.importutils import LazyModule
from torch import Tensor, nn

# SpeechBrain lists stand-ins for its optional parts as modules, and looking at one raises ImportError. Whatever
# looks at all modules, such as hypothesis, would fail.
for _name in [name for name, module in sys.modules.items() if isinstance(module, LazyModule)]:
    del sys.modules[_name]

_RATE_HZ = 16000
_N_MELS = 80
_SIZES: dict[str, Any] = {
    "channels": [1024, 1024, 1024, 1024, 3072],
    "kernel_sizes": [5, 3, 3, 3, 1],
    "dilations": [1, 2, 3, 4, 1],
    "attention_channels": 128,
    "lin_neurons": 192,
}
"""What hyperparams.yaml of the snapshot says; the defaults of SpeechBrain's class are half as wide."""


class SpeechBrainEcapa(nn.Module):
    """Speaker embeddings of 192 numbers.

    Args:
        model: The network over 80 log-mel bands.
    """

    def __init__(self, model: ECAPA_TDNN) -> None:
        super().__init__()
        self.features = Fbank(n_mels=_N_MELS)
        self.normalise = InputNormalization(norm_type="sentence", std_norm=False)
        self.model = model
        self.eval().requires_grad_(False)

    @classmethod
    def from_pretrained(cls, folder: Path) -> "SpeechBrainEcapa":
        """Load `embedding_model.ckpt` of a snapshot of `speechbrain/spkrec-ecapa-voxceleb`.

        Raises:
            ValueError: The file holds another network.
        """
        path = folder / "embedding_model.ckpt"
        model = ECAPA_TDNN(_N_MELS, **_SIZES)
        try:
            model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        except RuntimeError as error:
            raise ValueError(f"{path} holds another network ({' '.join(str(error).split())[:200]})") from error
        return cls(model)

    @torch.no_grad()
    def embed(self, waveform: Tensor, sample_rate_hz: int) -> Tensor:
        """Embed waveforms (B, S) in [-1, 1]; returns (B, 192)."""
        waveform = waveform.to(self.model.fc.conv.weight.device)
        if sample_rate_hz != _RATE_HZ:
            waveform = torchaudio.functional.resample(waveform, sample_rate_hz, _RATE_HZ)
        whole = torch.ones(len(waveform), device=waveform.device)
        return self.model(self.normalise(self.features(waveform.float()), whole), whole)[:, 0]
