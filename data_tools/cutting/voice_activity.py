"""Where somebody speaks: Silero VAD (version 5 and later), run with onnxruntime.

https://github.com/snakers4/silero-vad (MIT). Letters: S samples, N windows of 32 ms.
"""

from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchaudio.functional import resample

SAMPLE_RATE_HZ = 16000
WINDOW = 512
_CONTEXT = 64
THRESHOLD = 0.5
"""Least probability of speech of a window that counts (the authors' default)."""
PLACE = "vad/silero_vad.onnx"
"""The weights inside a weights folder."""


class VoiceActivity:
    """Says for every 32 ms how probable speech is.

    Args:
        path: silero_vad.onnx.

    Raises:
        ValueError: when onnxruntime is not installed, or the file is not this network.
    """

    def __init__(self, path: Path) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise ValueError("voice activity needs onnxruntime; get it with: pip install 'idlora_pl[eval]'") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self.session = onnxruntime.InferenceSession(path.read_bytes(), options, ["CPUExecutionProvider"])
        except Exception as error:  # noqa: BLE001  onnxruntime's errors have no class of their own below Exception
            raise ValueError(f"{path} is not a network that onnxruntime reads; get {PLACE} again") from error
        names = {part.name for part in self.session.get_inputs()}
        if names != {"input", "state", "sr"}:
            raise ValueError(f"{path} takes {', '.join(sorted(names))}, not input, state and sr; get Silero VAD 5")

    def probabilities(self, waveform: Tensor, sample_rate_hz: int) -> Tensor:
        """Return the probability of speech (N,) of a waveform (channels, S)."""
        mono = resample(waveform.mean(0), sample_rate_hz, SAMPLE_RATE_HZ).numpy()
        n_windows = len(mono) // WINDOW
        context = np.zeros(_CONTEXT, np.float32)
        state, rate = np.zeros((2, 1, 128), np.float32), np.array(SAMPLE_RATE_HZ, np.int64)
        found = np.zeros(n_windows, np.float32)
        for index in range(n_windows):
            window = mono[index * WINDOW : (index + 1) * WINDOW]
            given = {"input": np.concatenate([context, window])[None], "state": state, "sr": rate}
            probability, state = self.session.run(None, given)
            found[index], context = probability[0, 0], window[-_CONTEXT:]
        return torch.from_numpy(found)

    def speech_s(self, waveform: Tensor, sample_rate_hz: int) -> float:
        """Return how many seconds of a waveform (channels, S) are speech."""
        spoken = self.probabilities(waveform, sample_rate_hz) > THRESHOLD
        return float(spoken.sum()) * WINDOW / SAMPLE_RATE_HZ


def vad_file(weights: Path) -> Path:
    """Return the network of a weights folder, or the file itself.

    Raises:
        ValueError: when it is not there.
    """
    path = weights / PLACE if weights.is_dir() else weights
    if not path.is_file():
        raise ValueError(f"{path} does not exist; give silero_vad.onnx or a folder with {PLACE}")
    return path


@cache
def load_vad(path: Path) -> VoiceActivity:
    """Load the network once a process."""
    return VoiceActivity(path)
