"""What is in two splits is found, by name, by hash and by what networks say; what is not is not."""

import numpy as np
import pytest
import torch

from data_tools.pairing.checking import SAME_SOUND, SoundPrint
from data_tools.pairing.leaks import View, find_leaks
from idlora_pl.media.clip import Clip
from idlora_pl.metrics.scorable import Unscorable
from idlora_pl.nano.render import render
from idlora_pl.nano.world import script, speaker


def row(key, who, split, source=None):
    return {"key": key, "speaker": who, "split": split, "source": source or f"v-{key}"}


ROWS = [row("a", "ann", "train"), row("b", "bob", "train"), row("c", "cat", "val"), row("d", "dan", "test")]
HASHES = ["1", "2", "3", "4"]
APART = np.eye(4)


def kinds(rows, hashes=HASHES, views=()):
    return [(leak["kind"], leak["splits"]) for leak in find_leaks(rows, hashes, views)]


def test_splits_that_share_nothing_have_no_leak():
    views = [View(kind, "x", APART, 0.9) for kind in ("same_sound", "same_voice", "same_face")]
    assert kinds(ROWS, views=views) == []


def test_names_videos_and_files_in_two_splits_are_found():
    assert kinds([*ROWS[:3], row("d", "Speaker_Ann", "test")]) == [("speaker", ["test", "train"])]
    assert kinds([*ROWS[:3], row("d", "dan", "test", source="v-a")]) == [("video", ["test", "train"])]
    assert kinds(ROWS, ["1", "2", "3", "1"]) == [("same_file", ["test", "train"])]
    assert kinds([row("a", "ann", "train", "v"), row("b", "ann", "train", "v")], ["1", "1"]) == []


def test_sounds_of_two_splits_are_compared_clip_by_clip(monkeypatch):
    from data_tools.pairing import leaks

    monkeypatch.setattr(leaks, "_BLOCK", 3)
    vectors = np.array([[1, 0, 0], [0.99, 0.01, 0], [0, 1, 0], [0.98, 0.02, 0.0]])
    (one, other) = find_leaks(ROWS, HASHES, [View("same_sound", "x", vectors, 0.95)])
    assert (one["keys"], other["keys"]) == (["a", "d"], ["b", "d"])
    assert one["similarity"] == pytest.approx(0.9998, abs=1e-4)


def test_people_of_two_splits_are_compared_by_their_means_and_unseen_clips_do_not_count():
    rows = [*ROWS, row("a2", "ann", "train")]
    vectors = np.array([[1, 0], [0, 1], [np.nan, np.nan], [1, 0.2], [0.2, 1]], float)
    view = View("same_face", "x", vectors, 0.5)
    (found,) = find_leaks(rows, [*HASHES, "5"], [view])
    assert found["speakers"] == ["ann", "dan"]
    assert found["similarity"] == pytest.approx((0.9806 + 0.3846) / 2, abs=1e-3)


def test_a_print_knows_a_recording_that_is_louder_noisier_or_resampled():
    sound = render([speaker(1)], [script(1)]).waveform[0]
    other = render([speaker(2)], [script(2)]).waveform[0]
    printed = SoundPrint()

    def alike(one, rate=16000):
        pair = [printed.embed(Clip(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), wave[None], 25.0, hz)) for wave, hz in
                ((sound, 16000), (one, rate))]  # fmt: skip
        return float(torch.nn.functional.cosine_similarity(*pair, dim=0))

    noise = 0.01 * sound.std() * torch.randn(len(sound), generator=torch.Generator().manual_seed(0))
    assert alike(0.3 * sound) > SAME_SOUND
    assert alike(sound + noise) > SAME_SOUND
    assert alike(sound.repeat_interleave(2), 32000) > SAME_SOUND
    assert alike(other) < SAME_SOUND - 0.1
    with pytest.raises(Unscorable):
        alike(0 * sound)
