"""Speaker similarity: does the voice of the clip belong to the person of another clip?

Compared with the reference and with the target, at the start of the clip and in the rest of it.
"""

from torch import Tensor

from idlora_pl.media.clip import Clip
from idlora_pl.metrics.clip_mean import ClipMean, ClipScore, Expected, mono, scored
from idlora_pl.metrics.embedders import SpeakerEmbedder
from idlora_pl.metrics.functional import cosine_similarity
from idlora_pl.metrics.scorable import Unscorable, check_embedding, check_waveform
from idlora_pl.results.row import Curve


class SpeakerSimilarity(ClipMean):
    """Mean cosine between the speaker embeddings of clips and of other recordings of the same people.

    Args:
        embedder: The speaker network.
        name: Column name; scales of different networks never share one.
        kwargs: Passed to ``torchmetrics.Metric``.
    """

    higher_is_better = True

    def __init__(self, embedder: SpeakerEmbedder, *, name: str = "speaker_similarity", **kwargs: bool) -> None:
        super().__init__((name,), **kwargs)
        self.embedder = embedder

    def score(
        self,
        waveform: Tensor,
        reference: Tensor,
        *,
        sample_rate_hz: int,
        reference_rate_hz: int | None = None,
    ) -> ClipScore:
        """Score one clip.

        Args:
            waveform: (S,) samples in [-1, 1].
            reference: (R,) samples of another recording of the speaker.
            sample_rate_hz: Rate of the waveform.
            reference_rate_hz: Rate of the reference; None means the rate of the waveform.
        """
        reference_rate_hz = sample_rate_hz if reference_rate_hz is None else reference_rate_hz

        def similarity() -> dict[str, float]:
            voice = check_waveform(waveform, sample_rate_hz)
            other = check_waveform(reference, reference_rate_hz, role="reference")
            pair = [
                check_embedding(self.embedder.embed(voice[None], sample_rate_hz)),
                check_embedding(self.embedder.embed(other[None], reference_rate_hz)),
            ]
            return {self.names[0]: cosine_similarity(*pair).item()}

        return scored(similarity)

    def score_clip(self, clip: Clip, expected: Expected) -> ClipScore:
        """Score one clip against the expected reference; without one the reason is ``no_reference``."""
        if expected.reference is None:
            return ClipScore(reason="no_reference")
        return self.score(
            mono(clip.waveform),
            mono(expected.reference),
            sample_rate_hz=clip.sample_rate_hz,
            reference_rate_hz=expected.reference_rate_hz,
        )


def _cosine(own: Tensor, other: Tensor | str) -> float | str:
    """Return the cosine of two embeddings; a reason why there is no second one stays that."""
    return other if isinstance(other, str) else cosine_similarity(own, other).item()


START_S = 0.5
WINDOW_S = 1.0
STEP_S = 0.25


class VoiceSimilarity(ClipMean):
    """Cosines between speaker embeddings of a clip and of other recordings of the person.

    `<name>` is against the reference and `<name>_target` against the real clip that the prompt describes.
    `<name>_first_0.5s` and `<name>_rest` compare only that part of the clip with the reference, and the curve `<name>`
    does so for windows of one second. Short windows score lower than whole clips with every network, so parts are
    compared with the same part of another row and not with the whole.

    Args:
        embedder: The speaker network.
        name: Column name; scales of different networks never share one.
        kwargs: Passed to ``torchmetrics.Metric``.
    """

    higher_is_better = True

    def __init__(self, embedder: SpeakerEmbedder, *, name: str, **kwargs: bool) -> None:
        super().__init__((name, f"{name}_target", f"{name}_first_0.5s", f"{name}_rest"), **kwargs)
        self.embedder = embedder

    def score(
        self,
        waveform: Tensor,
        *,
        sample_rate_hz: int,
        reference: tuple[Tensor, int] | None = None,
        target: tuple[Tensor, int] | None = None,
    ) -> ClipScore:
        """Score one clip.

        Args:
            waveform: (S,) samples in [-1, 1].
            sample_rate_hz: Rate of the waveform.
            reference: (R,) samples of another recording of the speaker and their rate.
            target: (T,) samples of the real clip and their rate.
        """

        def similarities() -> ClipScore:
            voice = check_waveform(waveform, sample_rate_hz)
            own = self._embed(voice, sample_rate_hz)
            anchor, real = self._embedding(reference, "reference"), self._embedding(target, "target")
            whole, against_target, start, rest = self.names
            cut = round(START_S * sample_rate_hz)
            found = {
                whole: _cosine(own, anchor),
                against_target: _cosine(own, real),
                start: self._part(voice[:cut], sample_rate_hz, anchor),
                rest: self._part(voice[cut:], sample_rate_hz, anchor),
            }
            curves = {} if isinstance(anchor, str) else {whole: self._curve(voice, sample_rate_hz, anchor)}
            values = {name: value for name, value in found.items() if not isinstance(value, str)}
            reasons = {name: value for name, value in found.items() if isinstance(value, str)}
            return ClipScore(values, None, reasons, curves)

        return scored(similarities)

    def _embed(self, voice: Tensor, rate_hz: int) -> Tensor:
        return check_embedding(self.embedder.embed(voice[None], rate_hz))

    def _embedding(self, recording: tuple[Tensor, int] | None, role: str) -> Tensor | str:
        """Return the embedding of a recording and its rate, or the reason why there is none."""
        if recording is None:
            return f"no_{role}"
        try:
            return self._embed(check_waveform(*recording, role=role), recording[1])
        except Unscorable as fault:
            return fault.reason

    def _part(self, voice: Tensor, rate_hz: int, anchor: Tensor | str) -> float | str:
        """Return the cosine of a part of the clip with the reference, or the reason why there is none."""
        if isinstance(anchor, str):
            return anchor
        try:
            return _cosine(self._embed(check_waveform(voice, rate_hz), rate_hz), anchor)
        except Unscorable as fault:
            return fault.reason

    def _curve(self, voice: Tensor, rate_hz: int, anchor: Tensor) -> Curve:
        size, step = round(WINDOW_S * rate_hz), round(STEP_S * rate_hz)
        starts = range(0, max(1, len(voice) - size + 1), step)
        windows = (self._part(voice[at : at + size], rate_hz, anchor) for at in starts)
        return Curve(0.0, STEP_S, tuple(None if isinstance(value, str) else value for value in windows))

    def score_clip(self, clip: Clip, expected: Expected) -> ClipScore:
        """Score one clip against the expected reference and target."""
        reference = target = None
        if expected.reference is not None:
            reference = (mono(expected.reference), expected.reference_rate_hz or clip.sample_rate_hz)
        if expected.target is not None:
            target = (mono(expected.target.waveform), expected.target.sample_rate_hz)
        return self.score(mono(clip.waveform), sample_rate_hz=clip.sample_rate_hz, reference=reference, target=target)
