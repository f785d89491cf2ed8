"""The files of MTCNN, for the cards of every scorer that looks for faces with it."""

from idlora_pl.scorers.face_tracks.networks import PLACES
from idlora_pl.scorers.weights import WeightFile

_DIGESTS = {
    "face/mtcnn_pnet.pt": "a2a71925e0b9996a42f63e47efc1ca19043e69558b5c523b978d611dfae49c8f",
    "face/mtcnn_rnet.pt": "bbb937de72efc9ef83b186c49f5f558467a1d7e3453a8ece0d71a886633f6a86",
    "face/mtcnn_onet.pt": "165bfbe42940416ccfb977545cf0e976d5bf321f67083ae2aaaa5c764280118d",
}
_SOURCE = "https://github.com/timesler/facenet-pytorch/raw/787da0615608/data"

MTCNN_FILES = tuple(
    WeightFile(
        place,
        _DIGESTS[place],
        f"curl -L --create-dirs -o WEIGHTS/{place} {_SOURCE}/{place.removeprefix('face/mtcnn_')}",
        "MIT (timesler/facenet-pytorch)",
    )
    for place in PLACES
)
