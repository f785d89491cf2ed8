"""Lip-sync: do mouth and sound agree, and at which offset?

LSE-D, LSE-C and the offset of a face are SyncNet's evaluation with its own face track; active speaker detection says
whether the face that is seen looks as if it said what is heard.
"""

from dataclasses import asdict, fields

import torch
from torch import Tensor
from torchaudio.functional import resample

from idlora_pl.media.clip import Clip
from idlora_pl.metrics.clip_mean import ClipMean, ClipScore, Expected, mono, scored
from idlora_pl.metrics.embedders import ActiveSpeakerDetector, FaceTracker, LipSyncEmbedder
from idlora_pl.metrics.face_track import face_crops, frames_at_rate
from idlora_pl.metrics.functional import (
    LipSyncScores,
    OffsetScores,
    lip_sync_scores,
    offset_doubt,
    offset_scores,
    step_distances,
    windowed_offset_scores,
)
from idlora_pl.metrics.scorable import Unscorable, check_embedding, check_frames, check_waveform
from idlora_pl.results.row import Curve


class TalkingClipMean(ClipMean):
    """Mean of scores that need sound and frames of one clip, and nothing else."""

    def score(self, waveform: Tensor, frames: Tensor, *, sample_rate_hz: int, frame_rate_fps: float) -> ClipScore:
        """Score one clip: waveform (S,) in [-1, 1] and frames uint8 (F, 3, H, W)."""
        raise NotImplementedError(f"{type(self).__name__} must define score")

    def score_clip(self, clip: Clip, expected: Expected) -> ClipScore:
        """Score one clip against itself; nothing else is expected."""
        return self.score(
            mono(clip.waveform),
            clip.frames,
            sample_rate_hz=clip.sample_rate_hz,
            frame_rate_fps=clip.frame_rate_fps,
        )


class LipSync(TalkingClipMean):
    """Means of ``lip_sync``, ``lse_d``, ``lse_c`` and ``lip_offset`` over clips (see ``LipSyncScores``).

    Args:
        embedder: The two-stream network.
        max_offset: Largest offset in steps of 0.04 s.
        min_steps: Clips with fewer embedding steps are ``too_short``.
        kwargs: Passed to ``torchmetrics.Metric``.
    """

    higher_is_better = True
    distances: tuple[str, ...] = ("lip_offset",)

    def __init__(self, embedder: LipSyncEmbedder, *, max_offset: int = 15, min_steps: int = 2, **kwargs: bool) -> None:
        super().__init__(tuple(field.name for field in fields(LipSyncScores)), **kwargs)
        if max_offset < 1 or min_steps < 2:
            raise ValueError(f"max_offset must be >= 1 and min_steps >= 2; got {max_offset} and {min_steps}")
        self.embedder = embedder
        self.max_offset = max_offset
        self.min_steps = min_steps

    def score(self, waveform: Tensor, frames: Tensor, *, sample_rate_hz: int, frame_rate_fps: float) -> ClipScore:
        """Score one clip: waveform (S,) in [-1, 1] and frames uint8 (F, 3, H, W)."""

        def sync() -> ClipScore:
            voice = check_waveform(waveform, sample_rate_hz)
            pixels = check_frames(frames, frame_rate_fps)
            audio, video = self.embedder.embed(voice, sample_rate_hz, pixels, frame_rate_fps)
            if len(audio) < self.min_steps:
                raise Unscorable("too_short")
            audio, video = check_embedding(audio), check_embedding(video)
            found = lip_sync_scores(audio, video, max_offset=self.max_offset)
            doubts = offset_doubt(found.lip_offset, self.max_offset, len(audio))
            return ClipScore(asdict(found), notes={"lip_offset_doubt": ", ".join(doubts)} if doubts else {})

        return scored(sync)


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


HEARD_DB = 30.0
"""A frame is heard when its level is at most this far below that of the loud ones."""
LOUD_SHARE, FEWEST_LOUD = 0.05, 3
"""The loudest frames that may be clicks: this share of all, and so many at least. The level is that of the last one."""
SILENT = 1e-8
"""Power, as part of the loudest frame's, of what is no sound beside it (80 dB)."""
LEVEL_HZ = 16_000
MIN_FRAMES = 19
"""Frames of 0.04 s that LR-ASD's convolutions see around one: three blocks of two over time, of 5 and 3 frames. In a
shorter clip no frame is judged without the zeros beyond both ends."""


class LipCoherence(TalkingClipMean):
    """Mean over clips of the log odds that the face speaks, averaged over the frames that are heard.

    Frames in which nothing is heard do not count: a closed mouth is right there, and a clip with more pauses is not a
    worse one. Each row has the log odds of all frames as a curve.

    Args:
        detector: The network.
        tracker: Finds the face that is cut out for it.
        min_frames: Clips with fewer frames of 0.04 s, of picture or of sound, are ``too_short``.
        name: Column name.
        kwargs: Passed to ``torchmetrics.Metric``.
    """

    higher_is_better = True

    def __init__(
        self,
        detector: ActiveSpeakerDetector,
        tracker: FaceTracker,
        *,
        min_frames: int = MIN_FRAMES,
        name: str = "lip_coherence_lrasd",
        **kwargs: bool,
    ) -> None:
        super().__init__((name,), **kwargs)
        self.detector = detector
        self.tracker = tracker
        self.min_frames = min_frames

    def score(self, waveform: Tensor, frames: Tensor, *, sample_rate_hz: int, frame_rate_fps: float) -> ClipScore:
        """Score one clip: waveform (S,) in [-1, 1] and frames uint8 (F, 3, H, W)."""

        def coherence() -> ClipScore:
            voice = check_waveform(waveform, sample_rate_hz)
            pixels = check_frames(frames, frame_rate_fps)
            shortest_s = min(len(pixels) / frame_rate_fps, len(voice) / sample_rate_hz)
            if shortest_s * STEPS_PER_SECOND < self.min_frames - 1e-6:
                raise Unscorable("too_short")
            crops, notes = tracked_crops(self.tracker, pixels, frame_rate_fps)
            odds = check_embedding(self.detector.log_odds(voice, sample_rate_hz, crops)).cpu()
            heard = heard_frames(voice.cpu(), sample_rate_hz, len(odds))
            curve = Curve(0.0, 1 / STEPS_PER_SECOND, tuple(round(x, 3) for x in odds.tolist()))
            notes = notes | {"frames_heard": f"{heard.float().mean().item():.2f}"}
            name = self.names[0]
            return ClipScore({name: odds[heard].mean().item()}, curves={name: curve}, notes=notes)

        return scored(coherence)


def heard_frames(voice: Tensor, sample_rate_hz: int, n_frames: int) -> Tensor:
    """Return which of the first frames of 0.04 s are at most 30 dB below the loud ones, (F,) bool; at least one.

    The loud ones are those behind the loudest twentieth (and the loudest two), so that a click does not mute a clip.
    The steady part of the sound is left out, which is no sound at all.
    """
    size = LEVEL_HZ // STEPS_PER_SECOND
    sound = resample(voice - voice.median(), sample_rate_hz, LEVEL_HZ)  # a click moves the mean, and with it silence
    missing = max(0, n_frames * size - len(sound))
    frames = torch.nn.functional.pad(sound, (0, missing))[: n_frames * size].reshape(n_frames, size)
    power = frames.var(dim=1, correction=0)
    place = max(FEWEST_LOUD, round(LOUD_SHARE * n_frames)) - 1
    loud = power.sort(descending=True).values[min(place, n_frames - 1)]
    # where the sound is a click alone, the rest is silence, and the click is what is heard
    return power >= (loud if loud > power.max() * SILENT else power.max()) * 10 ** (-HEARD_DB / 10)
