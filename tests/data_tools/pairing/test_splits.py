"""Speakers are dealt out whole, with everybody they share a video with, by the shares and the seed alone."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_tools.pairing.pairs import ClipRecord
from data_tools.pairing.splits import parse_shares, split_speakers

SHARES = {"train": 0.9, "val": 0.05, "test": 0.05}


def clips(n_speakers, n_clips=10):
    return [ClipRecord(f"{who}-{k}", f"{who}", f"{who}/{k}") for who in range(n_speakers) for k in range(n_clips)]


def test_shares_are_met_as_far_as_whole_speakers_can():
    found = split_speakers(clips(40), SHARES)
    assert Counter(found.values()) == {"train": 36, "val": 2, "test": 2}


def test_every_split_gets_somebody():
    assert Counter(split_speakers(clips(3), SHARES).values()) == {"train": 1, "val": 1, "test": 1}
    with pytest.raises(ValueError, match="3 splits need as many speakers who share no video, there are 2"):
        split_speakers(clips(2), SHARES)


def test_the_seed_chooses_and_the_order_does_not():
    records = clips(20)
    assert split_speakers(records, SHARES, seed=1) == split_speakers(records[::-1], SHARES, seed=1)
    assert len({tuple(split_speakers(records, SHARES, seed=seed).items()) for seed in range(5)}) == 5


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 20)), min_size=3, max_size=60), st.integers(0, 9))
def test_no_video_is_in_two_splits(pairs, seed):
    records = [ClipRecord(str(k), f"s{who}", f"v{video}") for k, (who, video) in enumerate(pairs)]
    try:
        found = split_speakers(records, SHARES, seed=seed)
    except ValueError:
        return
    assert set(found) == {record.speaker for record in records}
    videos = {}
    for record in records:
        videos.setdefault(record.source, set()).add(found[record.speaker])
    assert all(len(splits) == 1 for splits in videos.values())
    assert set(found.values()) == set(SHARES)


@pytest.mark.parametrize("text", ["0.9", "0.5,0.5,0.5", "a,b,c", "0,0.5,0.5", "1.5,-0.5,0", ""])
def test_shares_that_are_none_are_refused(text):
    with pytest.raises(ValueError, match="split must be three shares of train, val, test that sum to 1"):
        parse_shares(text)
