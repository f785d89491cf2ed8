"""The shape of a metric that compares the sound of a clip with its own picture."""

from torch import Tensor

from idlora_pl.media import Clip
from idlora_pl.metrics.clip_mean import ClipMean, ClipScore, Expected, mono


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

    def update(self, waveform: Tensor, frames: Tensor, *, sample_rate_hz: int, frame_rate_fps: float) -> None:
        """Count waveforms (B, S) with frames uint8 (B, F, 3, H, W)."""
        if waveform.ndim != 2 or frames.ndim != 5 or len(waveform) != len(frames):
            raise ValueError(
                "waveform and frames must be (B, S) and (B, F, 3, H, W); "
                f"got {tuple(waveform.shape)} and {tuple(frames.shape)}"
            )
        self.add(
            self.score(one, pixels, sample_rate_hz=sample_rate_hz, frame_rate_fps=frame_rate_fps)
            for one, pixels in zip(waveform, frames, strict=True)
        )
