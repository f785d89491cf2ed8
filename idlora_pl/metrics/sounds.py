"""Does the clip sound as its prompt describes? Cosines of its sound with texts: environment, style, all sounds.

And is the place that the prompt names the place that is heard?
"""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor
from torchaudio.functional import resample

from idlora_pl.media.clip import Clip
from idlora_pl.metrics.clip_mean import ClipMean, ClipScore, Expected, mono, scored
from idlora_pl.metrics.embedders import AudioTextEmbedder, EnvironmentClassifier
from idlora_pl.metrics.functional import cosine_similarity
from idlora_pl.metrics.scorable import Unscorable, check_embedding, check_waveform

Described = Literal["environment", "style", "sounds"]
SoundPath = Literal["native", "released"]
NO_ENVIRONMENT = "clear speech with no ambient or environmental sounds"
"""What the authors' metric looks for where the environment is "none"."""
RELEASED_RATE_HZ, RELEASED_S = 16000, 30.0
_REASONS = {"environment": "no_environment_text", "style": "no_style_text", "sounds": "no_sounds_text"}


def released_sound(waveform: Tensor, sample_rate_hz: int) -> tuple[Tensor, int]:
    """Return sound (S,) as the authors' metric hears it: at most 30 s, 16 kHz, in 16 bits.

    Nothing above 8 kHz is left. The authors cut and resample with ffmpeg, this with torchaudio.

    Returns:
        (R,) samples in [-1, 1] and their rate.
    """
    cut = waveform[: round(RELEASED_S * sample_rate_hz)]
    sound = resample(cut, sample_rate_hz, RELEASED_RATE_HZ)
    return (sound * 32768).round().clamp(-32768, 32767) / 32768, RELEASED_RATE_HZ


def environment_text(text: str) -> str:
    """Return what to look for: the description, or the authors' phrase where it is "none".

    Example:
        >>> environment_text("None.")
        'clear speech with no ambient or environmental sounds'
    """
    return NO_ENVIRONMENT if text.strip().rstrip(".").casefold() == "none" else text.strip()


class SoundsSimilarity(ClipMean):
    """Mean cosines between clips and descriptions of them, from one pass of the sound.

    The columns are `clap_environment`, `clap_style` and `clap_sounds` for the sound as it is, and the same with `_16k`
    for the sound as the authors' metric hears it (see `released_sound`). A description that is missing is
    `no_environment_text`, `no_style_text` or `no_sounds_text`; an environment of "none" is looked for as the authors
    do (see `environment_text`).

    Args:
        embedder: The network of sound and text.
        described: Which descriptions are compared.
        path: Which sound the network hears.
        kwargs: Passed to ``torchmetrics.Metric``.
    """

    higher_is_better = True

    def __init__(
        self,
        embedder: AudioTextEmbedder,
        *,
        described: Sequence[Described] = ("environment", "style", "sounds"),
        path: SoundPath = "native",
        **kwargs: bool,
    ) -> None:
        ending = "" if path == "native" else "_16k"
        super().__init__(tuple(f"clap_{what}{ending}" for what in described), **kwargs)
        self.embedder = embedder
        self.described: tuple[Described, ...] = tuple(described)
        self.path = path

    def score(
        self, waveform: Tensor, *, sample_rate_hz: int, environment: str = "", style: str = "", sounds: str = ""
    ) -> ClipScore:
        """Score one clip.

        Args:
            waveform: (S,) samples in [-1, 1].
            sample_rate_hz: Rate of the waveform.
            environment: What is heard behind the voice.
            style: How is spoken.
            sounds: Everything that is heard, in the words of the prompt.
        """
        given = {"environment": environment_text(environment), "style": style.strip(), "sounds": sounds.strip()}

        def similarities() -> ClipScore:
            voice, rate = check_waveform(waveform, sample_rate_hz), sample_rate_hz
            found = ClipScore()
            heard: Tensor | None = None
            for name, what in zip(self.names, self.described, strict=True):
                if not given[what]:
                    found.reasons[name] = _REASONS[what]
                    continue
                if heard is None:
                    sound = (voice, rate) if self.path == "native" else released_sound(voice, rate)
                    heard = check_embedding(self.embedder.embed_audio(sound[0][None], sound[1]))
                try:
                    text = check_embedding(self.embedder.embed_text([given[what]]))
                except Unscorable as fault:
                    found.reasons[name] = fault.reason
                    continue
                found.values[name] = cosine_similarity(heard, text).item()
            return found

        return scored(similarities)

    def score_clip(self, clip: Clip, expected: Expected) -> ClipScore:
        """Score one clip against the expected descriptions."""
        return self.score(
            mono(clip.waveform),
            sample_rate_hz=clip.sample_rate_hz,
            environment=expected.environment_sounds,
            style=expected.speaking_style,
            sounds=expected.sounds,
        )


class EnvironmentAccuracy(ClipMean):
    """Share of clips whose heard environment is the expected one.

    Args:
        classifier: The environment network.
        name: Column name.
        kwargs: Passed to ``torchmetrics.Metric``.
    """

    higher_is_better = True

    def __init__(
        self, classifier: EnvironmentClassifier, *, name: str = "environment_accuracy", **kwargs: bool
    ) -> None:
        super().__init__((name,), **kwargs)
        self.classifier = classifier

    def score(self, waveform: Tensor, environment: str, *, sample_rate_hz: int) -> ClipScore:
        """Score one clip: 1.0 when waveform (S,) in [-1, 1] sounds like the environment, else 0.0."""

        def hit() -> dict[str, float]:
            if not environment:
                raise Unscorable("no_expected_environment")
            voice = check_waveform(waveform, sample_rate_hz)
            (heard,) = self.classifier.classify(voice[None], sample_rate_hz)
            return {self.names[0]: float(heard == environment)}

        return scored(hit)

    def score_clip(self, clip: Clip, expected: Expected) -> ClipScore:
        """Score one clip against the expected place; without one it is ``no_expected_environment``."""
        return self.score(mono(clip.waveform), expected.environment, sample_rate_hz=clip.sample_rate_hz)
