"""What takes noise out of a recorded voice, behind a protocol of one method.

Letters: C channels, S samples.
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Protocol

import numpy as np

from data_tools.voices.noise import quiet_part

N_FFT_S = 0.032


class Denoiser(Protocol):
    """Takes noise out of a recording."""

    def denoise(self, waveform: np.ndarray, rate_hz: int) -> np.ndarray:
        """Return a recording float32 (C, S) in [-1, 1] without its noise, of the same shape and not delayed."""


class SpectralGate:
    """Spectral gating of the library noisereduce (Sainburg, MIT licence); needs no weights.

    The noise that is gated is measured in the quietest tenth of the recording itself: without that the library takes
    the whole recording for noise, and cuts into speech. What is gated is lowered by 20 dB, not removed, which leaves
    no holes.
    """

    def denoise(self, waveform: np.ndarray, rate_hz: int) -> np.ndarray:
        """Denoise each channel of a recording (C, S)."""
        from noisereduce import reduce_noise

        size = 1 << round(np.log2(N_FFT_S * rate_hz))
        settings = {"n_fft": size, "stationary": True, "prop_decrease": 0.9}
        cleaned = [
            reduce_noise(channel, rate_hz, y_noise=quiet, **settings)
            for channel, quiet in zip(waveform, quiet_part(waveform, rate_hz), strict=True)
        ]
        return np.stack(cleaned).astype(np.float32)


BACKENDS = {"noisereduce": SpectralGate}
_PACKAGES = {"noisereduce": "noisereduce"}


def load_denoiser(backend: str) -> tuple[Denoiser, str]:
    """Return a denoiser, and its name with the version of its library, on which its results depend.

    Args:
        backend: a key of `BACKENDS`, or "package.module:Class" of a class of your own without arguments.

    Raises:
        ValueError: there is no such backend, or its library is not installed.
    """
    if backend in BACKENDS:
        package = _PACKAGES[backend]
        try:
            return BACKENDS[backend](), f"{package} {version(package)}"
        except PackageNotFoundError:
            raise ValueError(
                f"--backend {backend} needs {package}, which is not installed; pip install 'idlora_pl[data]'"
            ) from None
    module, _, name = backend.partition(":")
    if not name:
        raise ValueError(f"--backend must be one of {', '.join(BACKENDS)} or 'package.module:Class'; got '{backend}'")
    try:
        found = getattr(import_module(module), name)()
    except (ImportError, AttributeError, TypeError) as error:
        raise ValueError(f"--backend {backend} cannot be made ({error}); name a class without arguments") from error
    if not callable(getattr(found, "denoise", None)):
        raise ValueError(f"--backend {backend} has no method denoise(waveform, rate_hz); add it")
    return found, backend
