"""Rows of metadata.jsonl find their items by the ends of their paths, and nothing is guessed where they disagree."""

import json

import pytest

from data_tools.released.metadata import Fields, Metadata, read_metadata


def rows(*paths, **values):
    return [{"media_path": path, "speaker": f"s{k}", "caption": f"c{k}"} | values for k, path in enumerate(paths)]


@pytest.mark.parametrize(
    ("item", "speaker"),
    [("a/x", "s0"), ("b/x", "s1"), ("x", None), ("y", "s2"), ("train/videos/a/x", "s0"), ("other/y.v2", "s3")],
)
def test_an_item_is_found_by_the_end_of_its_path(item, speaker):
    metadata = Metadata(Fields(), rows("videos/a/x.mp4", "videos/b/x.mp4", "y.mp4", "videos/other/y.v2.mp4"))
    assert metadata.meta_of(item)["speaker"] == speaker
    assert sum(count for name, count in metadata.counts.items() if "metadata.jsonl" in name) == 1


def test_several_rows_count_where_they_agree():
    metadata = Metadata(Fields(), rows("x.mp4", "x.mp4", speaker="ann"))
    assert metadata.meta_of("x") == {"speaker": "ann"}
    assert metadata.counts["with several rows in metadata.jsonl"] == 1
    assert metadata.counts["without a prompt"] == 1


def test_values_that_are_no_text_are_unknown():
    metadata = Metadata(
        Fields(), rows("x.mp4", speaker=None, caption=["a", "b"]) + rows("y.mp4", speaker=7, caption=" ")
    )
    assert metadata.meta_of("x") == {"speaker": None}
    assert metadata.meta_of("y") == {"speaker": "7"}
    assert metadata.meta_of("z") == {"speaker": None}
    assert metadata.counts["with no row in metadata.jsonl"] == 1


def test_the_file_is_looked_for_in_the_folder_and_in_train(tmp_path):
    (tmp_path / "train").mkdir()
    path = tmp_path / "train" / "metadata.jsonl"
    path.write_text(json.dumps(rows("x.mp4")[0]) + "\n")
    found, where = read_metadata(None, [tmp_path / "precomputed", tmp_path], Fields())
    assert (where, len(found.rows)) == (path, 1)
    (tmp_path / "metadata.jsonl").write_text(path.read_text())
    with pytest.raises(ValueError, match=r"are both there; choose one with --metadata, or --metadata none"):
        read_metadata(None, [tmp_path], Fields())
    assert read_metadata(str(path), [tmp_path], Fields())[1] == path
    assert read_metadata("none", [tmp_path], Fields()) == (Metadata(Fields(), []), None)
    with pytest.raises(ValueError, match=r"gone.jsonl does not exist"):
        read_metadata(str(tmp_path / "gone.jsonl"), [tmp_path], Fields())
