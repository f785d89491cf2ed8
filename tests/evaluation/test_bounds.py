"""Floors and ceilings: which clip stands in for which is a pure function, and is noted in the row."""

import random
from dataclasses import replace
from functools import partial

import pytest

from idlora_pl.benchmark.items import read_prompts
from idlora_pl.cli.tools import call_tool
from idlora_pl.evaluation.clips import bound_sources
from idlora_pl.evaluation.through_codecs import reconstructed
from idlora_pl.media.reading import probe, read_metadata
from idlora_pl.results.scores_file import read_scores

score = partial(call_tool, "score")


@pytest.fixture(scope="module")
def rows(nano_manifest, proofs, tmp_path_factory):
    """Scores of the real clips and of every floor and ceiling."""
    folder = tmp_path_factory.mktemp("bounds")
    for bound in ("target", "same_speaker", "other_speaker", "vae"):
        made = ["--clips", str(folder / "vae")] if bound == "vae" else []
        common = ["--scores", str(folder / "scores.jsonl"), "--verified", str(proofs)]
        score([str(nano_manifest), "--row", bound, "--bound", bound, *made, *common])
    return {(row.row, row.key): row for row in read_scores(folder / "scores.jsonl")} | {"folder": folder}


@pytest.mark.slow
def test_the_order_of_numbers_is_that_of_the_bounds(rows):
    keys = ("item-0000", "item-0001")
    similarity = {
        bound: [rows[bound, key].scores["speaker_similarity"] for key in keys]
        for bound in ("target", "vae", "same_speaker", "other_speaker")
    }
    assert min(similarity["target"] + similarity["same_speaker"] + similarity["vae"]) > 0.8
    assert max(similarity["other_speaker"]) < 0.5
    assert [rows["vae", key].scores["environment_accuracy"] for key in keys] == [1.0, 1.0]
    assert all(rows["target", key].scores["lip_sync"] > 0.5 for key in keys)


def test_rows_say_what_stands_in(rows):
    other = rows["other_speaker", "item-0001"]
    assert (other.seed, other.notes["bound"], other.notes["bound_seed"]) == (None, "other_speaker", "0")
    assert other.notes["bound_clip_of"] in ("item-0000 target", "item-0002 target")
    assert rows["vae", "item-0000"].notes["bound_base"] == "nano"
    assert rows["same_speaker", "item-0000"].notes["bound_clip_of"] == "item-0000 reference"
    about = probe(rows["folder"] / "vae/item-0000.mp4")
    assert (about.n_frames, about.size) == (33, (256, 256))  # enlarged as its target is


def test_the_choice_depends_on_items_and_seed_alone(nano_manifest):
    entries = read_prompts(nano_manifest)
    shuffled = random.Random(1).sample(entries, len(entries))
    for bound in ("same_speaker", "other_speaker"):
        assert bound_sources(entries, bound) == bound_sources(shuffled, bound)
        chosen = {bound_sources(entries, bound, seed=seed)["item-0001"].path for seed in range(8)}
        assert len(chosen) == (2 if bound == "other_speaker" else 1)


def test_a_clip_that_scores_compare_with_never_stands_in(nano_manifest):
    entries = read_prompts(nano_manifest)
    for entry in entries:
        for seed in range(8):
            chosen = bound_sources(entries, "same_speaker", seed=seed)[entry.id].path
            assert chosen not in (entry.compare, entry.target)


def test_a_speaker_of_one_clip_has_no_other(nano_manifest):
    (alone,) = read_prompts(nano_manifest)[:1]
    alone = replace(alone, compare=None)
    same = bound_sources([alone], "same_speaker")["item-0000"]
    other = bound_sources([alone], "other_speaker")["item-0000"]
    assert (same.path, same.reason, other.path, other.reason) == (None, "no_other_clip", None, "no_other_speaker")


def test_clips_through_the_codecs_are_made_again_where_they_are_of_other_things(nano_manifest, tmp_path):
    first, second, _ = read_prompts(nano_manifest)

    def made(entry, size):
        """Return the tags of the clip, and whether it was written now."""
        path = tmp_path / "a.mp4"
        before = path.stat().st_ino if path.is_file() else None
        source = reconstructed([replace(entry, id="a")], tmp_path, "nano", size=size)["a"]
        return probe(source.path).size, read_metadata(source.path), path.stat().st_ino != before

    size, tags, is_new = made(first, (64, 64))
    assert (size, is_new, tags["base"], tags["size"]) == ((256, 256), True, "nano", "64x64")
    assert made(first, (64, 64)) == (size, tags, False)
    size, _, is_new = made(first, None)
    assert is_new
    _, other, is_new = made(second, None)
    assert is_new
    assert other["target_sha256"] != tags["target_sha256"]
    (tmp_path / "a.mp4").write_bytes(b"half a clip")
    assert made(second, None)[1:] == (other, True)
