"""Face similarity: is the person of the clip the person of the real clip?"""

import torch
from torch import Tensor

from idlora_pl.media.clip import Clip
from idlora_pl.metrics.clip_mean import ClipMean, ClipScore, Expected, scored
from idlora_pl.metrics.embedders import FaceEmbedder
from idlora_pl.metrics.functional import cosine_similarity
from idlora_pl.metrics.scorable import Unscorable, check_embedding, check_frames

N_FRAMES = 5


def spread_frames(n_frames: int, wanted: int = N_FRAMES) -> Tensor:
    """Return indices of frames from the first to the last, evenly spread and rounded down; short clips repeat some.

    Example:
        >>> spread_frames(121).tolist()
        [0, 30, 60, 90, 120]
    """
    return torch.linspace(0, n_frames - 1, wanted, dtype=torch.float64).long()


class FaceSimilarity(ClipMean):
    """Mean cosine between the faces of clips and of the real clips that their prompts describe.

    Five frames are looked at, the largest face in each; those without a face are left out. The face of a clip is the
    mean of its raw embeddings, as in the authors' metric. The row notes in how many of the five a face was found.

    Args:
        embedder: The face network.
        name: Column name; scales of different networks never share one.
        kwargs: Passed to ``torchmetrics.Metric``.
    """

    higher_is_better = True

    def __init__(self, embedder: FaceEmbedder, *, name: str = "face_sim", **kwargs: bool) -> None:
        super().__init__((name,), **kwargs)
        self.embedder = embedder

    def score(self, frames: Tensor, target: Tensor | None) -> ClipScore:
        """Score one clip.

        Args:
            frames: uint8 (F, 3, H, W).
            target: uint8 (G, 3, I, J) of the real clip; None is `no_target`.
        """

        def similarity() -> ClipScore:
            if target is None:
                raise Unscorable("no_target")
            own, n_own = self._embed(frames, "")
            other, n_other = self._embed(target, "target_")
            value = cosine_similarity(own[None], other[None]).item()
            found = {"face_frames": f"{n_own}/{N_FRAMES}", "target_face_frames": f"{n_other}/{N_FRAMES}"}
            return ClipScore({self.names[0]: value}, notes=found)

        return scored(similarity)

    def _embed(self, frames: Tensor, prefix: str) -> tuple[Tensor, int]:
        """Return the face (D,) of a clip and the number of frames it was found in."""
        try:
            pixels = check_frames(frames, 1.0)
            found = check_embedding(self.embedder.embed(pixels[spread_frames(len(pixels))]))
        except Unscorable as fault:
            raise Unscorable(f"{prefix}{fault.reason}") from fault
        return found.mean(0), len(found)

    def score_clip(self, clip: Clip, expected: Expected) -> ClipScore:
        """Score one clip against the expected target; without one the reason is ``no_target``."""
        return self.score(clip.frames, None if expected.target is None else expected.target.frames)
