"""Faces in frames: against facenet-pytorch, against brute force, and on real clips of every size and rate."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from idlora_pl.media.reading import read_clip
from idlora_pl.metrics.scorable import Unscorable
from idlora_pl.scorers.face.mtcnn import (
    PLACES,
    Faces,
    Mtcnn,
    best_apart,
    best_apart_by_frame,
    detect,
    load_mtcnn,
    overlaps,
    squares,
)
from idlora_pl.scorers.face.tracking import MtcnnTracker, face_paths, load_tracker

# Keys and shapes of the files that facenet-pytorch publishes.
LAYOUT = {
    "face/mtcnn_pnet.pt": {
        "conv1": (10, 3, 3, 3),
        "prelu1": (10,),
        "conv2": (16, 10, 3, 3),
        "prelu2": (16,),
        "conv3": (32, 16, 3, 3),
        "prelu3": (32,),
        "conv4_1": (2, 32, 1, 1),
        "conv4_2": (4, 32, 1, 1),
    },
    "face/mtcnn_rnet.pt": {
        "conv1": (28, 3, 3, 3),
        "prelu1": (28,),
        "conv2": (48, 28, 3, 3),
        "prelu2": (48,),
        "conv3": (64, 48, 2, 2),
        "prelu3": (64,),
        "dense4": (128, 576),
        "prelu4": (128,),
        "dense5_1": (2, 128),
        "dense5_2": (4, 128),
    },
    "face/mtcnn_onet.pt": {
        "conv1": (32, 3, 3, 3),
        "prelu1": (32,),
        "conv2": (64, 32, 3, 3),
        "prelu2": (64,),
        "conv3": (64, 64, 3, 3),
        "prelu3": (64,),
        "conv4": (128, 64, 2, 2),
        "prelu4": (128,),
        "dense5": (256, 1152),
        "prelu5": (256,),
        "dense6_1": (2, 256),
        "dense6_2": (4, 256),
        "dense6_3": (10, 256),
    },
}
# What facenet-pytorch 2.6.0 finds in one frame with thresholds 0.6, 0.7, 0.9, factor 0.709 and a smallest face of a
# tenth of the shorter side: box, probability, and x y of eyes, nose and corners of the mouth.
FACENET = {
    ("grid/s1/bbaf2n.mpg", 0): (
        (98.3778, 103.0218, 206.3805, 252.3953),
        0.99999,
        (131.383, 161.816, 179.712, 159.923, 159.299, 191.785, 140.028, 219.958, 180.521, 217.489),
    ),
    ("grid/s4/lwbsza.mpg", 30): (
        (113.6605, 105.3218, 220.8242, 253.3891),
        0.99989,
        (141.195, 156.783, 189.820, 154.869, 165.233, 189.073, 148.280, 217.089, 186.225, 213.970),
    ),
    ("published/speaker_154_pair23/ours.mp4", 60): (
        (130.9354, 169.0768, 353.0918, 468.6784),
        0.99910,
        (241.210, 273.246, 331.231, 269.101, 322.495, 313.049, 264.697, 393.735, 331.279, 389.196),
    ),
    ("published/speaker_844_pair3/reference.mp4", 50): (
        (174.4252, 104.9502, 413.0649, 438.8650),
        0.99999,
        (248.784, 229.009, 357.804, 244.164, 303.680, 316.892, 241.646, 356.581, 332.490, 371.238),
    ),
}


def random_files(folder: Path) -> Path:
    """Write seeded random weights in the published layout."""
    for place, shapes in LAYOUT.items():
        tensors = {f"{name}.weight": torch.randn(shape) / 10 for name, shape in shapes.items()}
        tensors |= {f"{name}.bias": torch.randn(shape[0]) / 10 for name, shape in shapes.items() if "prelu" not in name}
        (folder / place).parent.mkdir(exist_ok=True)
        torch.save(tensors, folder / place)
    return folder


@pytest.fixture(scope="module")
def networks(checkpoints: Path) -> Mtcnn:
    return load_mtcnn(checkpoints)


@pytest.fixture
def tracker(networks: Mtcnn) -> MtcnnTracker:
    return MtcnnTracker(networks)


@pytest.fixture(scope="module")
def talking(media: Path) -> torch.Tensor:
    """One second of a GRID speaker, 25 fps, 288x360."""
    return read_clip(media / "grid" / "s1" / "bbaf2n.mpg", n_frames=25).frames


def boxes_of(*corners: tuple[float, float, float, float]) -> torch.Tensor:
    return torch.tensor(corners).reshape(-1, 4)


def test_the_published_layout_is_loaded_key_by_key(tmp_path: Path) -> None:
    networks = load_mtcnn(random_files(tmp_path))
    for network, place in zip((networks.proposal, networks.refine, networks.output), PLACES, strict=True):
        stored = torch.load(tmp_path / place, weights_only=True)
        assert network.state_dict().keys() == stored.keys()
        assert all(torch.equal(tensor, stored[name]) for name, tensor in network.state_dict().items())


def test_a_file_of_another_network_is_refused(tmp_path: Path) -> None:
    random_files(tmp_path)
    (tmp_path / "face/mtcnn_rnet.pt").replace(tmp_path / "face/mtcnn_onet.pt")
    random = torch.load(tmp_path / "face/mtcnn_pnet.pt", weights_only=True)
    torch.save(random, tmp_path / "face/mtcnn_rnet.pt")
    with pytest.raises(ValueError, match=r"mtcnn_rnet.pt does not fit RefineNet"):
        load_mtcnn(tmp_path)


def test_the_public_files_have_the_layout_that_is_written_here(checkpoints: Path) -> None:
    for place, shapes in LAYOUT.items():
        stored = torch.load(checkpoints / place, weights_only=True)
        assert {
            name.removesuffix(".weight"): tuple(stored[name].shape) for name in stored if "weight" in name
        } == shapes


def test_the_proposal_network_looks_at_every_window_alone(tmp_path: Path) -> None:
    network = load_mtcnn(random_files(tmp_path)).proposal
    image = torch.randn(1, 3, 20, 16)
    probability, shift = network(image)
    for row, column in ((0, 0), (2, 1), (4, 2)):
        alone = network(image[..., 2 * row : 2 * row + 12, 2 * column : 2 * column + 12])
        torch.testing.assert_close(probability[:, row, column], alone[0][:, 0, 0])
        torch.testing.assert_close(shift[:, :, row, column], alone[1][:, :, 0, 0])


@pytest.mark.parametrize(("file", "index"), FACENET)
def test_the_cascade_finds_what_facenet_pytorch_finds(media: Path, networks: Mtcnn, file: str, index: int) -> None:
    frame = read_clip(media / file).frames[index : index + 1]
    (faces,) = detect(networks, frame, longest_side=max(frame.shape[-2:]))
    box, probability, points = FACENET[file, index]
    assert len(faces.boxes) == 1
    torch.testing.assert_close(faces.boxes[0], torch.tensor(box), atol=0.01, rtol=0)
    torch.testing.assert_close(faces.landmarks[0].flatten(), torch.tensor(points), atol=0.01, rtol=0)
    assert faces.scores.item() == pytest.approx(probability, abs=2e-5)


def test_frames_together_give_what_each_gives_alone(networks: Mtcnn, talking: torch.Tensor) -> None:
    together = detect(networks, talking[:2])
    for frame, faces in zip(talking[:2], together, strict=True):
        (alone,) = detect(networks, frame[None])
        torch.testing.assert_close(faces.boxes, alone.boxes)
        torch.testing.assert_close(faces.landmarks, alone.landmarks)


def test_overlaps_by_hand() -> None:
    found = overlaps(boxes_of((0, 0, 4, 4), (1, 1, 1, 1)), boxes_of((2, 0, 6, 4), (0, 0, 4, 4), (9, 9, 9, 9)))
    torch.testing.assert_close(found, torch.tensor([[8 / 24, 1.0, 0.0], [0.0, 0.0, 0.0]]))


def test_squares_keep_the_centre_and_the_longer_side() -> None:
    assert squares(boxes_of((0, 0, 2, 6))).tolist() == [[-2, 0, 4, 6]]


@given(seed=st.integers(0, 10_000), n_boxes=st.integers(0, 12), limit=st.sampled_from([0.2, 0.5, 0.7]))
def test_kept_boxes_equal_a_brute_force_search(seed: int, n_boxes: int, limit: float) -> None:
    random = torch.Generator().manual_seed(seed)
    corner, side = (10 * torch.rand(n_boxes, 2, generator=random) for _ in range(2))
    boxes, scores = torch.cat([corner, corner + side], 1), torch.rand(n_boxes, generator=random)
    kept: list[int] = []
    for index in sorted(range(n_boxes), key=lambda i: -scores[i].item()):
        if all(overlaps(boxes[[index]], boxes[[other]]).item() <= limit for other in kept):
            kept.append(index)
    assert best_apart(boxes, scores, limit).tolist() == kept
    owners = torch.arange(n_boxes) % 2
    apart = best_apart_by_frame(boxes, scores, owners, limit)
    for owner in owners.unique().tolist():
        mine = (owners == owner).nonzero()[:, 0]
        expected = mine[best_apart(boxes[mine], scores[mine], limit)]
        assert apart[owners[apart] == owner].tolist() == expected.tolist()


def test_the_largest_face_of_a_frame_without_faces_is_refused() -> None:
    with pytest.raises(ValueError, match="shows no face"):
        Faces(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, 5, 2)).largest()


def test_a_track_has_a_box_in_every_frame_around_the_landmarks(tracker: MtcnnTracker, talking: torch.Tensor) -> None:
    track = tracker.track(talking, 25.0)
    assert track.boxes.shape == (25, 4)
    assert track.landmarks.shape == (25, 5, 2)
    assert (track.landmarks > track.boxes[:, None, :2]).all()
    assert (track.landmarks < track.boxes[:, None, 2:]).all()
    assert track.notes["faces"] == "1"
    assert track.notes["face_found"] == "1.00"
    # The head hardly moves in GRID: a frame's own detection stays near the interpolated box.
    (own,) = detect(tracker.networks, talking[7:8])
    assert overlaps(own.boxes, track.boxes[7:8]).item() > 0.9


@pytest.mark.parametrize("size", [(64, 80), (144, 180), (1080, 1350)])
def test_a_face_is_found_at_every_size(tracker: MtcnnTracker, talking: torch.Tensor, size: tuple[int, int]) -> None:
    frames = F.interpolate(talking[:2], size=size, mode="bilinear", antialias=True)
    expected = tracker.track(talking[:2].clone(), 25.0).boxes * (size[0] / 288)
    assert overlaps(tracker.track(frames, 25.0).boxes, expected).diag().min() > 0.75


@pytest.mark.parametrize("frame_rate_fps", [16.0, 24.0, 25.0, 30.0, 60.0])
def test_a_track_covers_every_frame_at_any_rate(
    tracker: MtcnnTracker, talking: torch.Tensor, frame_rate_fps: float
) -> None:
    assert len(tracker.track(talking[:11], frame_rate_fps).boxes) == 11


def test_one_frame_is_a_track(tracker: MtcnnTracker, talking: torch.Tensor) -> None:
    assert tracker.track(talking[:1], 25.0).boxes.shape == (1, 4)


@pytest.mark.parametrize("shape", [(5, 3, 64, 64), (3, 3, 8, 8), (2, 3, 1, 300), (1, 3, 200, 30)])
def test_noise_shows_no_face(tracker: MtcnnTracker, shape: tuple[int, ...]) -> None:
    noise = torch.randint(256, shape, generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    with pytest.raises(Unscorable, match="no_face"):
        tracker.track(noise, 25.0)


def test_a_face_that_is_away_for_half_the_clip_is_lost(tracker: MtcnnTracker, talking: torch.Tensor) -> None:
    frames = talking.clone()
    frames[13:] = 0
    with pytest.raises(Unscorable, match="face_lost"):
        tracker.track(frames, 25.0)


def test_a_face_that_jumps_at_a_cut_is_lost(tracker: MtcnnTracker, talking: torch.Tensor) -> None:
    frames = F.pad(talking, (0, 360))
    frames[12:] = F.pad(talking[12:], (360, 0))
    with pytest.raises(Unscorable, match="face_lost"):
        tracker.track(frames, 25.0)


def test_a_short_gap_is_bridged(tracker: MtcnnTracker, talking: torch.Tensor) -> None:
    frames = talking.clone()
    frames[8] = 0
    track = tracker.track(frames, 25.0)
    assert track.notes["face_found"] == "0.86"
    torch.testing.assert_close(track.boxes[8], (track.boxes[4] + track.boxes[12]) / 2)


def test_the_larger_of_two_faces_is_followed(tracker: MtcnnTracker, talking: torch.Tensor) -> None:
    small = F.interpolate(talking, size=(144, 180), mode="bilinear", antialias=True)
    frames = torch.cat([F.pad(small, (0, 0, 0, 144)), talking], 3)
    track = tracker.track(frames, 25.0)
    assert track.notes["faces"] == "2"
    assert track.boxes[:, 0].min() > 180


def test_the_same_frames_are_looked_at_once_and_changed_frames_again(
    tracker: MtcnnTracker, talking: torch.Tensor
) -> None:
    frames = talking[:3].clone()
    first = tracker.track(frames, 25.0)
    assert tracker.track(frames, 25.0) is first
    frames[:] = 0
    with pytest.raises(Unscorable, match="no_face"):
        tracker.track(frames, 25.0)
    with pytest.raises(Unscorable, match="no_face"):
        tracker.track(frames, 25.0)


def test_scorers_of_one_folder_share_a_tracker(checkpoints: Path) -> None:
    assert load_tracker(checkpoints) is load_tracker(checkpoints)


def sample_of(*boxes: tuple[float, ...], scores: tuple[float, ...] = ()) -> Faces:
    """The faces that were found in one sample."""
    found = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    return Faces(found, torch.tensor(scores) if scores else torch.ones(len(found)), torch.zeros(len(found), 5, 2))


OUTER, INNER, MOVED = (100, 100, 300, 400), (110, 150, 260, 400), (105, 140, 265, 400)


@pytest.mark.parametrize("doubled", [range(18, 19), range(1), range(31), range(5, 20, 3)])
@pytest.mark.parametrize("scores", [(1.0, 0.9), (0.9, 1.0)])
def test_a_face_that_is_found_twice_is_one_face(doubled: range, scores: tuple[float, float]) -> None:
    faces = [
        sample_of(OUTER, INNER, scores=scores) if k in doubled else sample_of(OUTER if k < 18 else MOVED)
        for k in range(31)
    ]
    (path,) = face_paths(faces, max_gap=6)
    assert path.samples == list(range(31))
    assert all(member < len(found.boxes) for member, found in zip(path.members, faces, strict=True))


@pytest.mark.parametrize("times", [2, 3])
@pytest.mark.parametrize("share", [2, 3])
def test_a_part_of_a_face_with_a_higher_score_does_not_end_its_path(times: int, share: int) -> None:
    parts = ((160, 180, 220, 260), (120, 250, 200, 330))[: times - 1]
    faces = [sample_of(OUTER, *parts, scores=(0.8, *(0.9,) * len(parts))) if k % share == 0 else sample_of(OUTER)
             for k in range(31)]  # fmt: skip
    (path,) = face_paths(faces, max_gap=6)
    assert path.samples == list(range(31))
    assert set(path.members) == {0}


def test_a_larger_box_around_a_face_that_is_followed_does_not_end_its_path() -> None:
    small, around = (160, 180, 220, 260), (60, 60, 340, 420)
    faces = [sample_of(around, small) if k % 2 else sample_of(small) for k in range(31)]
    (path,) = face_paths(faces, max_gap=6)
    assert path.samples == list(range(31))


def test_paths_of_a_face_that_splits_are_joined() -> None:
    # the two boxes overlap by half only, so that they are two faces while both are there
    low, high = (100, 100, 300, 400), (100, 200, 300, 500)
    faces = [sample_of(low)] * 10 + [sample_of(low, high)] * 2 + [sample_of(high)] * 10
    assert [path.samples for path in face_paths(faces, max_gap=6)] == [list(range(22))]


def test_two_people_stay_two() -> None:
    left, right = (0, 0, 100, 120), (90, 10, 190, 130)
    faces = [sample_of(left, right)] * 5 + [sample_of(right)] * 3 + [sample_of(left, right)] * 4
    assert sorted(len(path.samples) for path in face_paths(faces, max_gap=6)) == [9, 12]
    # after a longer absence, somebody at the same place may be somebody else
    away = [sample_of(left)] * 5 + [sample_of()] * 8 + [sample_of(left)] * 5
    assert [len(path.samples) for path in face_paths(away, max_gap=6)] == [5, 5]


@given(st.integers(0, 10_000))
def test_doubling_any_detections_changes_no_number_of_faces(seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    boxes = [(200.0 * k, 0.0, 200.0 * k + 80 + 40 * torch.rand((), generator=random).item(), 110.0) for k in range(3)]
    single = [sample_of(*boxes) for _ in range(9)]
    doubled = []
    for _ in range(9):
        again = [(b[0] + 5, b[1] + 12, b[2] - 8, b[3]) for b in boxes if torch.rand((), generator=random).item() < 0.5]
        scores = torch.rand(len(boxes) + len(again), generator=random).tolist()
        doubled.append(sample_of(*boxes, *again, scores=tuple(scores)))
    found = [[path.samples for path in face_paths(faces, max_gap=3)] for faces in (single, doubled)]
    assert found[0] == found[1] == [list(range(9))] * 3
