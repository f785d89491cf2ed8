"""Grouping: known groups come back, labels are kept whatever voices say, order does not matter."""

import numpy as np
import pytest

from data_tools.speakers.grouping import SeenBy, group, joint_distances, mean_distances


def voices(*degrees: float) -> np.ndarray:
    """Unit vectors in the plane at given angles; NaN is a clip without a voice."""
    angles = np.deg2rad(np.array(degrees))
    return np.stack([np.cos(angles), np.sin(angles)], 1)


def grouped(vectors: np.ndarray, labels: list[str] | None = None, threshold: float = 0.9) -> list[int]:
    return group(joint_distances([SeenBy("voice", vectors, threshold)]), labels or [""] * len(vectors))


def test_clips_above_the_threshold_are_one_speaker():
    assert grouped(voices(0, 90, 5, 95, 180)) == [0, 1, 0, 1, 2]
    assert grouped(voices(0)) == [0]


def test_the_order_of_the_clips_does_not_change_the_groups():
    rng = np.random.default_rng(0)
    vectors = np.repeat(rng.normal(size=(6, 8)), 4, 0) + 0.05 * rng.normal(size=(24, 8))
    order = rng.permutation(24)
    straight, mixed = np.array(grouped(vectors)), np.array(grouped(vectors[order]))
    assert len(set(straight)) == 6
    assert np.array_equal(straight[order][:, None] == straight[order][None], mixed[:, None] == mixed[None])


def test_two_clips_of_one_label_are_never_split():
    assert grouped(voices(0, 180, 1), ["ann", "ann", ""]) == [0, 0, 1]


def test_two_labels_are_never_merged():
    found = grouped(voices(0, 0, 1, 2), ["ann", "bob", "", ""])
    assert found[0] != found[1]
    assert set(found) == {found[0], found[1]}  # whoever is like both joins one of the two


def test_a_clip_without_a_label_joins_the_label_that_it_is_like():
    assert grouped(voices(0, 90, 3, 93, 180), ["ann", "bob", "", "", ""]) == [0, 1, 0, 1, 2]


@pytest.mark.parametrize("seed", range(20))
def test_labels_hold_on_random_voices(seed):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(30, 3))
    labels = [str(name) for name in rng.choice(["", "", "ann", "bob", "cem"], 30)]
    found = grouped(vectors, labels, threshold=0.5)
    by_label = {label: {found[k] for k in range(30) if labels[k] == label} for label in ("ann", "bob", "cem")}
    assert all(len(groups) == 1 for groups in by_label.values() if groups)
    assert len(set.union(*by_label.values())) == sum(bool(groups) for groups in by_label.values())


def test_two_networks_decide_together():
    alike = SeenBy("voice", voices(0, 0, 0), 0.9)
    faces = SeenBy("face", voices(0, 1, 180), 0.9)
    assert group(joint_distances([alike, faces]), [""] * 3) == [0, 0, 1]


def test_a_clip_without_a_face_goes_by_its_voice_and_strangers_to_both_stay_apart():
    unseen = float("nan")
    voice = SeenBy("voice", voices(0, 1, unseen), 0.9)
    face = SeenBy("face", voices(0, unseen, 0), 0.9)
    distances = joint_distances([voice, face])
    assert distances[1, 2] == 2.0
    assert distances[0, 1] == pytest.approx((1 - np.cos(np.deg2rad(1))) / 0.1, rel=1e-4)


def test_mean_distances_leave_out_the_clip_itself():
    distances = np.array([[0.0, 1.0, 4.0], [1.0, 0.0, 6.0], [4.0, 6.0, 0.0]])
    expected = [[1.0, 4.0], [1.0, 6.0], [5.0, np.nan]]
    np.testing.assert_allclose(mean_distances(distances, [0, 0, 1]), expected)
