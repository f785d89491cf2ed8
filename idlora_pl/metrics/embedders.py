"""What a metric asks of a network: one method, so that networks are interchangeable.

Letters: B clips, S samples, D embedding size, T steps at 25 Hz, F frames, H W pixels. An embedder resamples
to its own rates, takes its inputs to the device that it is on itself, and raises ``Unscorable`` with a reason
code for a clip that it cannot read.
"""

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from idlora_pl.metrics.face_track import FaceTrack


class SpeakerEmbedder(Protocol):
    """Maps a voice to a vector; vectors of one speaker point the same way."""

    def embed(self, waveform: Tensor, sample_rate_hz: int) -> Tensor:
        """Embed waveforms (B, S) in [-1, 1]; returns (B, D)."""
        ...


class LipSyncEmbedder(Protocol):
    """Maps sound and mouth to one space; vectors of the same moment lie close."""

    def embed(
        self, waveform: Tensor, sample_rate_hz: int, frames: Tensor, frame_rate_fps: float
    ) -> tuple[Tensor, Tensor]:
        """Embed one clip, waveform (S,) and frames uint8 (F, 3, H, W).

        Returns:
            Audio (T, D) and video (T, D).
        """
        ...


class Transcriber(Protocol):
    """Writes down what is said."""

    def transcribe(self, waveform: Tensor, sample_rate_hz: int, *, language: str = "en") -> list[str]:
        """Transcribe waveforms (B, S) in [-1, 1]; returns one string of space-separated words for each.

        Args:
            waveform: Of B clips.
            sample_rate_hz: Their rate.
            language: ISO 639-1 code of what is spoken; recognisers of one language do not look at it.
        """
        ...


class FaceEmbedder(Protocol):
    """Maps a face to a vector; vectors of one person point the same way."""

    def embed(self, frames: Tensor) -> Tensor:
        """Embed the largest face of each frame, uint8 (F, 3, H, W).

        Returns:
            (K, D) vectors of the K frames that show a face, in order, not normalised.

        Raises:
            Unscorable: ``no_face`` when no frame shows one.
        """
        ...


class FaceTracker(Protocol):
    """Finds the face of a clip."""

    def track(self, frames: Tensor, frame_rate_fps: float) -> FaceTrack:
        """Follow one face through frames, uint8 (F, 3, H, W).

        Raises:
            Unscorable: ``no_face`` when no frame shows one, ``face_lost`` when too many do not.
        """
        ...


class ActiveSpeakerDetector(Protocol):
    """Tells whether a face says what is heard."""

    def log_odds(self, waveform: Tensor, sample_rate_hz: int, crops: Tensor) -> Tensor:
        """Judge one clip, waveform (S,) and crops of the face at 25 fps, uint8 (F, 3, 224, 224).

        Returns:
            (K,) log odds that the face speaks, for the first K frames; K is F or little less.
        """
        ...


class MouthReader(Protocol):
    """Measures how far a mouth is open."""

    def opening(self, frames: Tensor) -> Tensor:
        """Measure the largest face of each frame, uint8 (F, 3, H, W).

        Returns:
            (F,) in any unit that does not depend on the size of the face; NaN where no face is found.
        """
        ...


class AudioTextEmbedder(Protocol):
    """Maps sounds and descriptions to one space."""

    def embed_audio(self, waveform: Tensor, sample_rate_hz: int) -> Tensor:
        """Embed waveforms (B, S) in [-1, 1]; returns (B, D)."""
        ...

    def embed_text(self, texts: Sequence[str]) -> Tensor:
        """Embed B texts; returns (B, D)."""
        ...


class EnvironmentClassifier(Protocol):
    """Names the place that is heard behind the voice."""

    def classify(self, waveform: Tensor, sample_rate_hz: int) -> list[str]:
        """Classify waveforms (B, S) in [-1, 1]; returns one name for each."""
        ...
