"""Quality by hand: pairs counted, margins, and who disagrees."""

import numpy as np
import pytest

from data_tools.speakers.grouping import SeenBy, compare, confidences, disagreements


def test_pairs_are_counted_by_hand():
    found = compare(["a", "a", "b", "b", "b", "c"], ["x", "x", "x", "y", "y", ""])
    # together: aa, three of bbb; belonging: three of xxx, yy; both: aa, one of bbb
    assert (found.precision, found.recall) == (2 / 4, 2 / 4)
    assert (found.n_clips, found.n_found, found.n_true) == (5, 2, 2)


def test_equal_groupings_have_f1_one_whatever_they_are_called():
    assert compare(["1", "2", "2"], ["b", "a", "a"]).f1 == 1.0
    assert compare(["1", "2"], ["a", "b"]).f1 == 1.0
    assert compare(["1", "1"], ["a", "b"]).f1 == 0.0


def test_a_margin_is_the_way_to_the_nearest_other_speaker():
    distances = np.array([[0.0, 0.5, 2.0], [0.5, 0.0, 3.0], [2.0, 3.0, 0.0]])
    margins, nearest = confidences(distances, [0, 0, 1])
    assert margins == [1.5, 2.5, 2.5]
    assert nearest == [1, 1, 0]
    assert confidences(distances, [0, 0, 0]) == ([None] * 3, [-1] * 3)


def test_a_network_that_would_decide_otherwise_is_listed():
    vectors = np.array([[1.0, 0.0], [1.0, 0.1], [1.0, 0.05], [0.0, 1.0]])
    rows = disagreements([SeenBy("face", vectors, 0.9)], [0, 0, 1, 1], list("pqrs"), ["ann", "bob"])
    found = {(row["kind"], row.get("key")) for row in rows}
    assert found == {("nearer_to_other", "r"), ("unlike_own", "s")}
    by_key = {row["key"]: row for row in rows}
    assert by_key["r"] == {
        "kind": "nearer_to_other",
        "key": "r",
        "speaker": "bob",
        "by": "face",
        "threshold": 0.9,
        "similarity": pytest.approx(0.0499, abs=1e-4),
        "other": "ann",
        "other_similarity": pytest.approx(0.9988, abs=1e-4),
    }


def test_two_speakers_that_are_alike_are_listed():
    vectors = np.array([[1.0, 0.0], [1.0, 0.1], [1.0, 0.05]])
    rows = disagreements([SeenBy("voice", vectors, 0.9)], [0, 0, 1], list("pqr"), ["ann", "bob"])
    (alike,) = [row for row in rows if row["kind"] == "alike"]
    assert (alike["speakers"], alike["by"]) == (["ann", "bob"], "voice")
