"""Speakers, scripts and prompts of the nano world; every one is a pure function of an integer seed.

A clip lasts 1.32 s: 33 frames of 64x64 pixels at 25 fps and 21,120 samples at 16 kHz. A speaker is a voice
(pitch, vocal tract, spectral tilt, breath, vibrato, a notch) and a face drawn independently of it, so that a
prompt and a first frame tell nothing about the voice. A script is four vowels and a place; the moment and the
loudness of each vowel are drawn from the clip's seed and are *not* in the prompt, so that sound and lips can
only agree if they are generated together.

Letters: B clips, F frames, S samples, T analysis frames of 10 ms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from idlora_pl.benchmark.prompt import PromptSections

FRAME_RATE_FPS = 25.0
N_FRAMES = 33
FRAME_SIZE = 64
SAMPLE_RATE_HZ = 16000
N_SAMPLES = 21120
"""Samples of one clip: 33 frames at 25 fps."""

VOWELS: dict[str, tuple[float, float]] = {
    "aa": (760.0, 1250.0),
    "eh": (560.0, 1850.0),
    "ee": (290.0, 2350.0),
    "oh": (520.0, 880.0),
    "oo": (320.0, 750.0),
    "er": (480.0, 1380.0),
}
"""Word -> first and second formant in Hz for an average vocal tract."""

MOUTH_WIDTHS = {"aa": 1.0, "eh": 1.15, "ee": 1.3, "oh": 0.8, "oo": 0.6, "er": 0.95}
ENVIRONMENTS = ("quiet room", "steady rain", "engine hum", "bird song", "howling wind")
WORDS_PER_CLIP = 4
_VISUALS = (
    "A person faces the camera and talks.",
    "Close view of somebody talking to the camera.",
    "A talking head in front of a plain wall.",
)


@dataclass(frozen=True)
class Speaker:
    """One person: a voice and, drawn independently, a face.

    Attributes:
        seed: The integer that everything else is a function of.
        pitch_hz: Mean fundamental frequency, 85 to 260 Hz.
        tract_scale: Factor on all formants, 0.84 to 1.2 (a short vocal tract is above 1).
        tilt_db: Spectral slope above 500 Hz, in dB per octave (negative).
        breath_db: Level of breath noise relative to the voice, in dB.
        vibrato_hz: Rate of the pitch vibrato.
        vibrato_depth: Relative depth of the vibrato, 0 to 0.04.
        notch_hz: Centre of a 15 dB notch that is specific to the speaker.
        face: 14 numbers in [0, 1]: colours and proportions, see `face.py`.
    """

    seed: int
    pitch_hz: float
    tract_scale: float
    tilt_db: float
    breath_db: float
    vibrato_hz: float
    vibrato_depth: float
    notch_hz: float
    face: tuple[float, ...]


@dataclass(frozen=True)
class Script:
    """What is said, where, and how: words and environment are in the prompt, timing and loudness are not.

    Attributes:
        seed: The integer that everything else (and the noise of the clip) is a function of.
        words: Four of `VOWELS`, neighbours differ.
        environment: One of `ENVIRONMENTS`.
        starts_s: Start of each word in seconds.
        durations_s: Length of each word in seconds.
        levels: Loudness of each word, 0.45 to 1.
    """

    seed: int
    words: tuple[str, ...]
    environment: str
    starts_s: tuple[float, ...]
    durations_s: tuple[float, ...]
    levels: tuple[float, ...]

    @property
    def prompt(self) -> str:
        """The prompt in the paper's format; it never tells who speaks."""
        visual = _VISUALS[self.seed % len(_VISUALS)]
        return PromptSections(visual, " ".join(self.words), f"{self.environment} in the background").join()


def speaker(seed: int) -> Speaker:
    """Draw the speaker of a seed.

    Example:
        >>> speaker(7) == speaker(7), speaker(7).pitch_hz == speaker(8).pitch_hz
        (True, False)
    """
    rng = np.random.default_rng([seed, 1])
    voice = rng.uniform(size=7)
    return Speaker(
        seed=seed,
        pitch_hz=float(85.0 * (260.0 / 85.0) ** voice[0]),
        tract_scale=float(0.84 + 0.36 * voice[1]),
        tilt_db=float(-3.0 - 8.0 * voice[2]),
        breath_db=float(-34.0 + 26.0 * voice[3]),
        vibrato_hz=float(4.0 + 4.0 * voice[4]),
        vibrato_depth=float(0.04 * voice[5]),
        notch_hz=float(1300.0 * (5200.0 / 1300.0) ** voice[6]),
        face=tuple(float(value) for value in np.random.default_rng([seed, 2]).uniform(size=14)),
    )


def all_texts() -> tuple[str, ...]:
    """Return every text that a script can have, each as likely as the others: 750 times four vowels.

    Example:
        >>> len(all_texts()), all_texts()[0]
        (750, 'aa eh aa eh')
    """
    texts: list[tuple[str, ...]] = [(name,) for name in VOWELS]
    for _ in range(WORDS_PER_CLIP - 1):
        texts = [(*text, name) for text in texts for name in VOWELS if name != text[-1]]
    return tuple(" ".join(text) for text in texts)


def script(seed: int, *, avoid: Sequence[Script] = ()) -> Script:
    """Draw the script of a seed.

    Args:
        seed: Any integer >= 0.
        avoid: Scripts whose words and places must not be drawn again (the hard, cross-environment pairing).

    Raises:
        ValueError: `avoid` leaves no place.
    """
    rng = np.random.default_rng([seed, 3])
    words = _draw_words(rng)
    while any(words == other.words for other in avoid):
        words = _draw_words(rng)
    places = [place for place in ENVIRONMENTS if all(place != other.environment for other in avoid)]
    if not places:
        raise ValueError(f"avoid must leave one of {len(ENVIRONMENTS)} places; got {len(avoid)} scripts in all of them")
    environment = str(rng.choice(places))
    durations = rng.uniform(0.16, 0.27, size=WORDS_PER_CLIP)
    gaps = rng.uniform(0.03, 0.10, size=WORDS_PER_CLIP)
    scale = min(1.0, 1.24 / float(durations.sum() + gaps.sum()))
    durations, gaps = durations * scale, gaps * scale
    starts = np.cumsum(gaps) + np.concatenate([[0.0], np.cumsum(durations)[:-1]])
    return Script(
        seed=seed,
        words=words,
        environment=environment,
        starts_s=tuple(float(value) for value in starts),
        durations_s=tuple(float(value) for value in durations),
        levels=tuple(float(value) for value in rng.uniform(0.45, 1.0, size=WORDS_PER_CLIP)),
    )


def _draw_words(rng: np.random.Generator) -> tuple[str, ...]:
    words: list[str] = []
    for _ in range(WORDS_PER_CLIP):
        words.append(str(rng.choice([name for name in VOWELS if name not in words[-1:]])))
    return tuple(words)


def loudness(scripts: Sequence[Script], times_s: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Evaluate loudness, articulation weights and spoken word at given times.

    Args:
        scripts: B scripts.
        times_s: (T,) times in seconds.

    Returns:
        The loudness (B, T) in [0, 1]; the weights (B, T, 4) of the four words, summing to one, which move
        smoothly from word to word; the index (B, T) of the word being spoken, -1 between words.
    """
    starts = torch.tensor([item.starts_s for item in scripts])[:, None, :]
    ends = starts + torch.tensor([item.durations_s for item in scripts])[:, None, :]
    levels = torch.tensor([item.levels for item in scripts])[:, None, :]
    times = times_s.float()[None, :, None]
    attack, release = (times - starts) / 0.045, (ends - times) / 0.055
    inside = torch.minimum(attack, release).clamp(0.0, 1.0)
    envelope = 0.5 - 0.5 * torch.cos(torch.pi * inside)
    centres, halves = 0.5 * (starts + ends), 0.5 * (ends - starts)
    weights = torch.softmax(-(((times - centres).abs() - halves) / 0.012), dim=-1)
    spoken = torch.where(envelope.amax(-1) > 0.1, envelope.argmax(-1), torch.tensor(-1))
    return (envelope * levels).amax(-1), weights, spoken


def word_indices(scripts: Sequence[Script]) -> Tensor:
    """Return the vowel index (B, 4) of each word."""
    names = list(VOWELS)
    return torch.tensor([[names.index(word) for word in item.words] for item in scripts])
