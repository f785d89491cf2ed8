"""LSE-D, LSE-C and the offset of a face: SyncNet's evaluation with its own face track."""

from dataclasses import asdict, fields

from torch import Tensor

from idlora_pl.metrics.clip_mean import ClipScore, Curve, scored
from idlora_pl.metrics.embedders import FaceTracker, LipSyncEmbedder
from idlora_pl.metrics.face_track import face_crops, frames_at_rate
from idlora_pl.metrics.functional import (
    OffsetScores,
    offset_doubt,
    offset_scores,
    step_distances,
    windowed_offset_scores,
)
from idlora_pl.metrics.scorable import Unscorable, check_embedding, check_frames, check_waveform
from idlora_pl.metrics.talking_clip import TalkingClipMean

STEPS_PER_SECOND = 25
CURVE_WINDOW, CURVE_HOP = 25, 5
"""Windows of one second, five a second."""


class LipDistances(TalkingClipMean):
    """Means of ``lse_d``, ``lse_c`` and ``lip_offset`` (frames of 0.04 s, + when sound is early) over clips.

    Each row has the offset and LSE-D of every second as curves of the same names. An offset at the edge of the search
    is marked: the detail `lip_offset_doubt` says so, and the curve names the windows.

    Args:
        embedder: The two-stream network, at 25 Hz.
        tracker: Finds the face that is cut out for the embedder; None for clips that are such crops already.
        max_offset: Largest offset in frames.
        min_steps: Clips with fewer embedding steps are ``too_short``; with more than the largest offset, every offset
            is compared on steps that are there.
        kwargs: Passed to ``torchmetrics.Metric``.
    """

    distances = ("lip_offset",)

    def __init__(
        self,
        embedder: LipSyncEmbedder,
        tracker: FaceTracker | None,
        *,
        max_offset: int = 15,
        min_steps: int = 16,
        **kwargs: bool,
    ) -> None:
        super().__init__(tuple(field.name for field in fields(OffsetScores)), **kwargs)
        if max_offset < 1 or min_steps <= max_offset:
            raise ValueError(f"max_offset must be >= 1 and min_steps larger; got {max_offset} and {min_steps}")
        self.embedder = embedder
        self.tracker = tracker
        self.max_offset = max_offset
        self.min_steps = min_steps

    def score(self, waveform: Tensor, frames: Tensor, *, sample_rate_hz: int, frame_rate_fps: float) -> ClipScore:
        """Score one clip: waveform (S,) in [-1, 1] and frames uint8 (F, 3, H, W)."""

        def sync() -> ClipScore:
            voice = check_waveform(waveform, sample_rate_hz)
            pixels = check_frames(frames, frame_rate_fps)
            shortest_s = min(len(pixels) / frame_rate_fps, len(voice) / sample_rate_hz)
            if shortest_s * STEPS_PER_SECOND < self.min_steps:
                raise Unscorable("too_short")
            rate, notes = frame_rate_fps, dict[str, str]()
            if self.tracker is not None:
                pixels, notes = tracked_crops(self.tracker, pixels, frame_rate_fps)
                rate = STEPS_PER_SECOND
            audio, video = self.embedder.embed(voice, sample_rate_hz, pixels, rate)
            if len(audio) < self.min_steps:
                raise Unscorable("too_short")
            audio, video = check_embedding(audio), check_embedding(video)
            distances = step_distances(audio, video, max_offset=self.max_offset).cpu()
            found = offset_scores(distances.mean(0))
            if doubts := offset_doubt(found.lip_offset, self.max_offset, len(audio)):
                notes = notes | {"lip_offset_doubt": ", ".join(doubts)}
            return ClipScore(asdict(found), curves=_curves(distances), notes=notes)

        return scored(sync)


def tracked_crops(tracker: FaceTracker, frames: Tensor, frame_rate_fps: float) -> tuple[Tensor, dict[str, str]]:
    """Cut the face out of frames, uint8 (F, 3, H, W), at 25 fps.

    Returns:
        Crops uint8 (K, 3, 224, 224), and what the row should say of the track.

    Raises:
        Unscorable: The tracker finds no face, or loses it.
    """
    track = tracker.track(frames, frame_rate_fps)
    shown = frames_at_rate(len(frames), frame_rate_fps, STEPS_PER_SECOND)
    return face_crops([frames[index] for index in shown.tolist()], track.at(shown).boxes), track.notes


def _curves(distances: Tensor) -> dict[str, Curve]:
    windows = windowed_offset_scores(distances, window=CURVE_WINDOW, hop=CURVE_HOP)
    step_s = CURVE_HOP / STEPS_PER_SECOND
    offsets, reach = tuple(window.lip_offset for window in windows), distances.shape[1] // 2
    marked = tuple(place for place, offset in enumerate(offsets) if offset_doubt(offset, reach, len(distances)))
    return {
        "lip_offset": Curve(0.0, step_s, offsets, marked),
        "lse_d": Curve(0.0, step_s, tuple(window.lse_d for window in windows)),
    }
