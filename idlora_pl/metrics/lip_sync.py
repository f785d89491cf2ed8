"""Lip-sync: do mouth and sound agree, and at which offset?"""

from dataclasses import asdict, fields

from torch import Tensor

from idlora_pl.metrics.clip_mean import ClipScore, scored
from idlora_pl.metrics.embedders import LipSyncEmbedder
from idlora_pl.metrics.functional import LipSyncScores, lip_sync_scores, offset_doubt
from idlora_pl.metrics.scorable import Unscorable, check_embedding, check_frames, check_waveform
from idlora_pl.metrics.talking_clip import TalkingClipMean


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
