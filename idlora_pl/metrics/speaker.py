"""Speaker similarity: does the voice of the clip belong to the person of another clip?"""

from torch import Tensor

from idlora_pl.media import Clip
from idlora_pl.metrics.clip_mean import ClipMean, ClipScore, Expected, mono, scored
from idlora_pl.metrics.embedders import SpeakerEmbedder
from idlora_pl.metrics.functional import cosine_similarity
from idlora_pl.metrics.scorable import check_embedding, check_waveform


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

    def update(
        self,
        waveform: Tensor,
        reference: Tensor,
        *,
        sample_rate_hz: int,
        reference_rate_hz: int | None = None,
    ) -> None:
        """Count waveforms (B, S) against references (B, R)."""
        if waveform.ndim != 2 or reference.ndim != 2 or len(waveform) != len(reference):
            raise ValueError(
                "waveform and reference must be (B, S) and (B, R); "
                f"got {tuple(waveform.shape)} and {tuple(reference.shape)}"
            )
        self.add(
            self.score(one, other, sample_rate_hz=sample_rate_hz, reference_rate_hz=reference_rate_hz)
            for one, other in zip(waveform, reference, strict=True)
        )
