"""The weights of MTCNN, for the cards of scorers that look for a face."""

from idlora_pl.scorers.card import WeightFile
from idlora_pl.scorers.face_tracks.networks import PLACES

_HASHES = (
    "a2a71925e0b9996a42f63e47efc1ca19043e69558b5c523b978d611dfae49c8f",
    "bbb937de72efc9ef83b186c49f5f558467a1d7e3453a8ece0d71a886633f6a86",
    "165bfbe42940416ccfb977545cf0e976d5bf321f67083ae2aaaa5c764280118d",
)


def _file(place: str, digest: str) -> WeightFile:
    name = place.removeprefix("face/mtcnn_")
    source = f"https://github.com/timesler/facenet-pytorch/raw/master/data/{name}"
    return WeightFile(
        place, digest, f"curl -L --create-dirs -o WEIGHTS/{place} {source}", "MIT (timesler/facenet-pytorch)"
    )


MTCNN = tuple(_file(place, digest) for place, digest in zip(PLACES, _HASHES, strict=True))
"""Three files, of the proposal, the refining and the output network."""
