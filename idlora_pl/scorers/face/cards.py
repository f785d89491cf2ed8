"""The face scorers: ArcFace as the authors use it, and MobileFaceNet.

What proves them are public pictures and clips with known values.
"""

from collections.abc import Sequence
from pathlib import Path

import torch

from idlora_pl.media.reading import read_clip, read_image
from idlora_pl.metrics.clip_mean import ClipMean
from idlora_pl.metrics.embedders import FaceEmbedder
from idlora_pl.metrics.face import FaceSimilarity, spread_frames
from idlora_pl.metrics.functional import cosine_similarity
from idlora_pl.metrics.scorable import Unscorable
from idlora_pl.scorers.card import Anchor, Card, Inputs
from idlora_pl.scorers.face.mtcnn import MTCNN_FILES
from idlora_pl.scorers.scores import SCORES
from idlora_pl.scorers.weights import UnusableInput, WeightFile

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


_GET_BUFFALO = (
    "curl -L --create-dirs -o WEIGHTS/face/buffalo_l.zip "
    "https://github.com/deepinsight/insightface/releases/download/v0.7/buffalo_l.zip && "
    "unzip -o WEIGHTS/face/buffalo_l.zip det_10g.onnx w600k_r50.onnx -d WEIGHTS/face/buffalo_l"
)
_RESEARCH = "non-commercial research (insightface)"
_DETECTOR = WeightFile(
    "face/buffalo_l/det_10g.onnx",
    "5838f7fe053675b1c7a08b633df49e7af5495cee0493c7dcf6697200b85b5b91",
    _GET_BUFFALO,
    _RESEARCH,
)
_ARCFACE = WeightFile(
    "face/buffalo_l/w600k_r50.onnx",
    "4c06341c33c2ca1f86781dab0e829f88ad5b64be9fba56e56bc9ebdefc619e43",
    _GET_BUFFALO,
    _RESEARCH,
)
_MOBILEFACENET = WeightFile(
    "face/foamliu_MobileFaceNet.onnx",
    "b7120c095d60094f28a4a54ba6a8bf51b297a6273fb40ef6350dfec1f63d9507",
    "curl -L --create-dirs -o WEIGHTS/face/foamliu_MobileFaceNet.onnx "
    "https://github.com/foamliu/MobileFaceNet/raw/a6cc9032a659/weights/MobileFaceNet.onnx",
    "Apache-2.0 (foamliu/MobileFaceNet); trained on MS-Celeb-1M, which was withdrawn",
)


def _arcface(weights: Path) -> ClipMean:
    from idlora_pl.scorers.face.embedding import load_arcface

    return FaceSimilarity(load_arcface(weights / _DETECTOR.path, weights / _ARCFACE.path))


def _mobilefacenet(weights: Path) -> ClipMean:
    from idlora_pl.scorers.face.embedding import load_mobilefacenet

    return FaceSimilarity(load_mobilefacenet(weights, weights / _MOBILEFACENET.path), name="face_sim_mobilefacenet")


CARDS = (
    Card(
        "face_sim",
        "Cosine of ArcFace embeddings (insightface buffalo_l) with the target clip, five frames a clip.",
        SCORES["face_sim"],
        (_DETECTOR, _ARCFACE),
        _arcface,
        Anchor(
            "Labeled Faces in the Wild, the 600 pairs of the first fold: share that one threshold decides rightly; "
            "0.9983 is published for these files on all ten folds (insightface's model zoo), which looks at faces that "
            "were cut out before.",
            {"accuracy": 0.9983},
            {"accuracy": 0.01},
            lfw_accuracy,
            LFW,
            "mkdir -p INPUTS && curl -L https://ndownloader.figshare.com/files/5976018 | tar xz -C INPUTS && "
            "curl -L -o INPUTS/lfw/pairs.txt https://ndownloader.figshare.com/files/5976006",
        ),
        packages=("torch", "onnxruntime"),
        extra="eval",
        notes="The authors' scale. Both networks run in onnxruntime without the package insightface, whose steps "
        "(detection at 320 pixels with threshold 0.3, alignment, colours) are written here and tested against it.",
    ),
    Card(
        "face_sim_mobilefacenet",
        "Cosine of MobileFaceNet embeddings with the target clip, five frames a clip, faces found by MTCNN.",
        SCORES["face_sim_mobilefacenet"],
        (_MOBILEFACENET, *MTCNN_FILES),
        _mobilefacenet,
        Anchor(
            "Ten GRID clips of six people: least cosine of one person, largest of two; 0.926 and 0.246 on all 27 "
            "clips with this code, recorded elsewhere with other landmarks as at least 0.907 and at most 0.407.",
            {"same": 0.926, "different": 0.246},
            {"same": 0.02, "different": 0.06},
            grid_faces,
            GRID,
            "the GRID corpus, zenodo.org/records/3625687, clips of s1 to s5 and s20 into INPUTS/grid/<speaker>",
            quick=True,
        ),
        packages=("torch", "onnxruntime"),
        extra="eval",
        notes="A small network: people it has not seen lie closer together than for ArcFace. Its values are no "
        "Face Sim of the paper.",
    ),
)
