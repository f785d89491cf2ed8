"""What proves the face scorers: public pictures and clips with known values."""

from collections.abc import Sequence
from pathlib import Path

import torch

from idlora_pl.media import read_clip, read_image
from idlora_pl.metrics.clip_mean import ClipMean, Unscorable
from idlora_pl.metrics.embedders import FaceEmbedder
from idlora_pl.metrics.face import FaceSimilarity, spread_frames
from idlora_pl.metrics.functional import cosine_similarity
from idlora_pl.scorers.card import Inputs, UnusableInput

GRID = tuple(
    f"grid/{name}.mpg"
    for name in (
        *("s2/pwij3p", "s2/swwp2s", "s3/sbia1a", "s4/lwbsza", "s5/lbax4n", "s20/brbk7n"),
        *("s1/bbwm4n", "s1/bwbg8n", "s1/lgwg2n", "s1/srbu6n"),
    )
)
LFW = ("lfw/pairs.txt",)
Pair = tuple[Path, Path, bool]


def grid_faces(metric: ClipMean, inputs: Inputs) -> dict[str, float]:
    """Compare all pairs of ten clips of GRID."""
    assert isinstance(metric, FaceSimilarity)
    return closest_and_farthest(metric.embedder, [inputs / name for name in GRID])


def closest_and_farthest(embedder: FaceEmbedder, clips: Sequence[Path]) -> dict[str, float]:
    """Compare all pairs of clips of the GRID corpus.

    Args:
        embedder: The face network.
        clips: Files in a folder for each speaker.

    Returns:
        `same`, the least cosine of one person, and `different`, the largest of two.
    """
    faces = []
    for path in clips:
        frames = read_clip(path).frames
        faces.append(embedder.embed(frames[spread_frames(len(frames))]).mean(0))
    first, second = torch.triu_indices(len(clips), len(clips), offset=1)
    stacked = torch.stack(faces)
    values = cosine_similarity(stacked[first], stacked[second])
    same = [clips[a].parent == clips[b].parent for a, b in zip(first.tolist(), second.tolist(), strict=True)]
    together = torch.tensor(same)
    return {"same": values[together].min().item(), "different": values[~together].max().item()}


def lfw_accuracy(metric: ClipMean, inputs: Inputs) -> dict[str, float]:
    """Decide the first fold of Labeled Faces in the Wild."""
    assert isinstance(metric, FaceSimilarity)
    return {"accuracy": pair_accuracy(metric.embedder, lfw_pairs(inputs / LFW[0]))}


def lfw_pairs(path: Path) -> list[Pair]:
    """Read the first fold of `pairs.txt`: two pictures, and whether they show one person.

    The first line has the number of folds and of pairs of each kind; then come lines of a name and two numbers, and
    lines of two names with a number each. Pictures lie beside the file.

    Raises:
        UnusableInput: The file is another one.
    """
    head, *lines = [line.split("\t") for line in path.read_text().splitlines()]
    if len(head) != 2 or len(lines) < 2 * int(head[1]):
        raise UnusableInput(f"{path} is not the pairs.txt of Labeled Faces in the Wild; get it again")
    n_pairs = int(head[1])
    same = [(name, first, name, second) for name, first, second in lines[:n_pairs]]
    different = [(a, first, b, second) for a, first, b, second in lines[n_pairs : 2 * n_pairs]]
    return [
        (_picture(path.parent, a, first), _picture(path.parent, b, second), a == b)
        for a, first, b, second in same + different
    ]


def _picture(folder: Path, name: str, number: str) -> Path:
    return folder / name / f"{name}_{int(number):04d}.jpg"


def pair_accuracy(embedder: FaceEmbedder, pairs: Sequence[Pair]) -> float:
    """Return the largest share of pairs that one threshold on the cosine decides rightly.

    A picture without a face decides its pair wrongly.
    """
    values = [_cosine(embedder, first, second) for first, second, _ in pairs]
    together = torch.tensor([same for _, _, same in pairs])
    known = torch.tensor([value is not None for value in values])
    cosines = torch.tensor([0.0 if value is None else value for value in values])
    right = [((cosines >= threshold) == together) & known for threshold in cosines.unique()]
    return max(one.float().mean().item() for one in right)


def _cosine(embedder: FaceEmbedder, first: Path, second: Path) -> float | None:
    try:
        faces = [embedder.embed(read_image(path)[None]) for path in (first, second)]
    except Unscorable:
        return None
    return cosine_similarity(*faces).item()
