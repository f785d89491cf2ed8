"""What a user asks for: one clip each, from a prompt, a face and a voice.

Letters: H W pixels, S samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from idlora_pl.benchmark.prompt import split_prompt
from idlora_pl.media import read_image, read_voice
from idlora_pl.media.sound import finite
from idlora_pl.method.noise import checked_seed


@dataclass(frozen=True, eq=False)
class Request:
    """One clip to generate.

    Attributes:
        prompt: `[VISUAL]: ... [SPEECH]: ... [SOUNDS]: ...`
        face: First frame, uint8 (3, H, W), or None.
        voice: Reference waveform (channels, S) in [-1, 1], or None.
        voice_rate_hz: Sample rate of the voice.
        seed: Seed of the noise.

    Raises:
        ValueError: If the prompt lacks a section, a face or a voice has another shape, or a sample is not finite.
    """

    prompt: str
    face: Tensor | None = None
    voice: Tensor | None = None
    voice_rate_hz: int = 16000
    seed: int = 42

    def __post_init__(self) -> None:
        """Refuse what could not be generated."""
        split_prompt(self.prompt)
        checked_seed(self.seed, "seed")
        face, voice = self.face, self.voice
        if face is not None and (face.ndim != 3 or len(face) != 3 or face.dtype != torch.uint8):
            raise ValueError(f"face must be uint8 (3, H, W); got {face.dtype} {tuple(face.shape)}; use read_image")
        if voice is not None and (voice.ndim != 2 or voice.shape[1] == 0):
            raise ValueError(f"voice must be (channels, S) with S > 0; got {tuple(voice.shape)}; use read_audio")
        if voice is not None:
            finite(voice, self.voice_rate_hz, "voice")


def read_request(
    prompt: str,
    *,
    face: str | Path | None = None,
    voice: str | Path | None = None,
    size: tuple[int, int],
    seed: int = 42,
) -> Request:
    """Read the files of one request.

    Args:
        prompt: `[VISUAL]: ... [SPEECH]: ... [SOUNDS]: ...`
        face: Image of the first frame, resized to cover `size` and cropped.
        voice: Sound file, or any clip with sound that is not silent.
        size: (H, W) of the clip to generate.
        seed: Seed of the noise.

    Raises:
        ValueError: If the prompt lacks a section or a file is not what it should be; the message names it.
    """
    image = None if face is None else read_image(Path(face), size=size)
    sound, rate_hz = (None, 16000) if voice is None else read_voice(Path(voice))
    return Request(prompt, image, sound, rate_hz, seed)


def alike(requests: Sequence[Request]) -> list[list[int]]:
    """Group the indices of requests that can be sampled together: all with or without a face, voices of one length."""
    groups: dict[tuple[bool, int, int], list[int]] = {}
    for index, request in enumerate(requests):
        length = 0 if request.voice is None else request.voice.shape[-1]
        groups.setdefault((request.face is None, length, request.voice_rate_hz), []).append(index)
    return list(groups.values())
