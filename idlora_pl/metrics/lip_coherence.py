"""Whether the face that is seen looks as if it said what is heard."""

import torch
from torch import Tensor
from torchaudio.functional import resample

from idlora_pl.metrics.clip_mean import ClipScore, Curve, scored
from idlora_pl.metrics.embedders import ActiveSpeakerDetector, FaceTracker
from idlora_pl.metrics.lip_distances import STEPS_PER_SECOND, tracked_crops
from idlora_pl.metrics.scorable import Unscorable, check_embedding, check_frames, check_waveform
from idlora_pl.metrics.talking_clip import TalkingClipMean

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
