"""The face scorers: ArcFace as the authors use it, and MobileFaceNet."""

from pathlib import Path

from idlora_pl.metrics.clip_mean import ClipMean
from idlora_pl.metrics.face import FaceSimilarity
from idlora_pl.scorers.card import Anchor, Card, Score
from idlora_pl.scorers.face.anchors import GRID, LFW, grid_faces, lfw_accuracy
from idlora_pl.scorers.face_tracks.files import MTCNN_FILES
from idlora_pl.scorers.weights import WeightFile

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
        (Score("face_sim", "Face Sim (ArcFace)", "higher", worst=0.0),),
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
        (Score("face_sim_mobilefacenet", "Face Sim (MobileFaceNet)", "higher", worst=0.0),),
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
