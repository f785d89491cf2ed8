"""The track of one face through a clip: the largest that stays.

Letters: F frames, K faces, S sampled frames.
"""

import weakref
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from idlora_pl.metrics.face_track import FaceTrack
from idlora_pl.metrics.scorable import Unscorable
from idlora_pl.scorers.face.mtcnn import Faces, Mtcnn, areas, best_apart, detect, load_mtcnn, overlaps

DETECTIONS_PER_SECOND = 6.25
"""Every fourth frame at 25 fps; boxes between are interpolated. A running median of half a second follows anyway."""
MAX_LOST_SHARE = 0.25
"""A clip whose face is missing in a larger share of the sampled frames is `face_lost`."""
LEAST_OVERLAP = 0.3
"""Intersection over union of boxes of one face, one sample apart."""
SAME_FACE = 0.7
"""Two boxes in one sample of which the smaller lies in the other with this share are of one face, found twice. That of
MTCNN's authors, who look for such boxes at the end with the area of the smaller one, too."""
MAX_GAP_S = 1.0
"""A face that is away for longer starts a new track."""


@dataclass
class FacePath:
    """One face: the samples where it was found, and which face of the sample it is."""

    samples: list[int] = field(default_factory=list)
    members: list[int] = field(default_factory=list)


class MtcnnTracker:
    """Follows the face of a clip with MTCNN; satisfies `metrics.embedders.FaceTracker`.

    The last clip is remembered, so that scorers that share a tracker look for its face once.

    Args:
        networks: MTCNN; stays on the CPU.
    """

    def __init__(self, networks: Mtcnn) -> None:
        self.networks = networks
        self._seen: tuple[weakref.ref[Tensor], int, float] | None = None
        self._found: FaceTrack | str = ""

    def track(self, frames: Tensor, frame_rate_fps: float) -> FaceTrack:
        """Follow the largest face through frames, uint8 (F, 3, H, W).

        The face is the path of overlapping boxes with the largest sum of areas, so a large face that stays wins over
        a larger one that passes by.

        Raises:
            Unscorable: `no_face` where no sampled frame shows one, `face_lost` where more than a quarter does not show
                the one that is followed, as after a cut.
        """
        seen = self._seen
        if seen is None or seen[0]() is not frames or seen[1:] != (frames._version, frame_rate_fps):
            try:
                self._found = self._track(frames, frame_rate_fps)
            except Unscorable as fault:
                self._found = fault.reason
            self._seen = (weakref.ref(frames), frames._version, frame_rate_fps)
        if isinstance(self._found, str):
            raise Unscorable(self._found)
        return self._found

    def _track(self, frames: Tensor, frame_rate_fps: float) -> FaceTrack:
        step = max(1, round(frame_rate_fps / DETECTIONS_PER_SECOND))
        samples = sorted({*range(0, len(frames), step), len(frames) - 1})
        faces = detect(self.networks, frames[samples].cpu())
        paths = face_paths(faces, max_gap=max(1, round(MAX_GAP_S * frame_rate_fps / step)))
        if not paths:
            raise Unscorable("no_face")
        path = max(paths, key=lambda one: sum(_area(faces, one)))
        found_share = len(path.samples) / len(samples)
        if 1 - found_share > MAX_LOST_SHARE:
            raise Unscorable("face_lost")
        chosen = list(zip(path.samples, path.members, strict=True))
        boxes = torch.stack([faces[sample].boxes[member] for sample, member in chosen])
        landmarks = torch.stack([faces[sample].landmarks[member] for sample, member in chosen])
        times = torch.tensor([float(samples[sample]) for sample in path.samples])
        boxes, landmarks = (_between(times, known, len(frames)) for known in (boxes, landmarks))
        box = ",".join(str(round(edge)) for edge in boxes.mean(0).tolist())
        n_faces = max(len(_apart(found)) for found in faces)
        return FaceTrack(boxes, landmarks, {"face_box": box, "face_found": f"{found_share:.2f}", "faces": str(n_faces)})

    def __getstate__(self) -> dict[str, object]:
        """Leave the remembered clip behind when a metric is pickled."""
        return self.__dict__ | {"_seen": None, "_found": ""}


def face_paths(faces: list[Faces], *, max_gap: int) -> list[FacePath]:
    """Join the faces of S samples to paths; each face goes to the open path whose last box it overlaps most.

    A face that was found twice in a sample counts once there, and paths that turn out to be of one face are joined.

    Args:
        faces: What was found in each sample.
        max_gap: Samples for which a face may be away.
    """
    paths: list[FacePath] = []
    for sample, found in enumerate(faces):
        open_paths = [path for path in paths if sample - path.samples[-1] <= max_gap]
        ends = [faces[path.samples[-1]].boxes[path.members[-1]] for path in open_paths]
        close = overlaps(found.boxes, torch.stack(ends)) if ends else torch.zeros(len(found.boxes), 0)
        members = _apart(found, close.amax(1) if close.shape[1] else None)
        for member in members[areas(found.boxes[members]).argsort(descending=True, stable=True)].tolist():
            best = int(close[member].argmax()) if close.shape[1] else -1
            if best >= 0 and close[member, best] > LEAST_OVERLAP:
                path = open_paths[best]
                close[:, best] = 0
            else:
                path = FacePath()
                paths.append(path)
            path.samples.append(sample)
            path.members.append(member)
    return _joined(paths, faces, max_gap)


def _apart(found: Faces, followed: Tensor | None = None) -> Tensor:
    """Return the indices of the faces of one sample, each once: the box that goes on with a path, else the largest.

    Scores do not decide: a part of a face often has a higher one than the whole.

    Args:
        found: K faces.
        followed: How far each overlaps the last box of a path at most, (K,); none without paths.
    """
    best = areas(found.boxes) / areas(found.boxes).amax().clamp(min=1e-9) if len(found.boxes) else found.scores
    if followed is not None:
        best = torch.where(followed > LEAST_OVERLAP, 1 + followed, best)
    return best_apart(found.boxes, best, SAME_FACE, of_smaller=True)


def _joined(paths: list[FacePath], faces: list[Faces], max_gap: int) -> list[FacePath]:
    """Join each path to the earliest one of the same face."""
    joined: list[FacePath] = []
    for path in paths:
        first = next((one for one in joined if _are_one_face(one, path, faces, max_gap)), None)
        if first is None:
            joined.append(path)
            continue
        members = dict(zip(path.samples, path.members, strict=True)) | dict(
            zip(first.samples, first.members, strict=True)
        )
        first.samples, first.members = sorted(members), [members[sample] for sample in sorted(members)]
    return joined


def _are_one_face(a: FacePath, b: FacePath, faces: list[Faces], max_gap: int) -> bool:
    """Say whether two paths overlap in every sample that both have, and where one comes nearest to the other."""
    in_a, in_b = (dict(zip(path.samples, path.members, strict=True)) for path in (a, b))
    shared = sorted(in_a.keys() & in_b.keys())
    if shared:
        pairs = [(sample, sample) for sample in shared]
    else:
        pairs = [min(((one, other) for one in in_a for other in in_b), key=lambda pair: abs(pair[0] - pair[1]))]
    if not shared and abs(pairs[0][0] - pairs[0][1]) > max_gap:
        return False
    return all(
        overlaps(faces[one].boxes[in_a[one]][None], faces[other].boxes[in_b[other]][None]).item() > LEAST_OVERLAP
        for one, other in pairs
    )


def _area(faces: list[Faces], path: FacePath) -> list[float]:
    pairs = zip(path.samples, path.members, strict=True)
    return [float(areas(faces[sample].boxes)[member]) for sample, member in pairs]


def _between(times: Tensor, known: Tensor, n_frames: int) -> Tensor:
    """Interpolate values (S, ...) that are known at frames `times` (S,) to all frames; ends are held."""
    wanted = torch.arange(n_frames, dtype=times.dtype)
    right = torch.searchsorted(times, wanted).clamp(max=len(times) - 1)
    left = (right - 1).clamp(min=0)
    span = (times[right] - times[left]).clamp(min=1e-9)
    share = ((wanted - times[left]) / span).clamp(0, 1)
    share = torch.where(right == left, torch.zeros_like(share), share)
    share = share.reshape(-1, *[1] * (known.ndim - 1))
    return known[left] + share * (known[right] - known[left])


@cache
def load_tracker(weights: Path) -> MtcnnTracker:
    """Return the tracker of a weights folder; one for all scorers, so that they share what it found.

    Raises:
        ValueError: A file does not hold the tensors of its network.
    """
    return MtcnnTracker(load_mtcnn(weights))
