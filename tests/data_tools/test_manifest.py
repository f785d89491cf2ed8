"""Lists of clips survive a round trip and say which line is wrong."""

import pytest

from data_tools.verb.lists import located, read_rows, relative_to, write_rows


def test_rows_are_read_back(tmp_path):
    rows = [{"key": "a", "prompt": "Ähm\nzwei"}, {"key": "b", "prompt": ""}]
    write_rows(tmp_path / "new" / "list.jsonl", rows)
    assert read_rows(tmp_path / "new" / "list.jsonl", ["key"]) == rows
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["list.jsonl"]


def test_paths_are_relative_to_their_list(tmp_path):
    clip, listed = tmp_path / "clips" / "a.mp4", tmp_path / "lists" / "pairs.jsonl"
    clip.parent.mkdir()
    listed.parent.mkdir()
    assert relative_to(listed, clip) == "../clips/a.mp4"
    assert located(listed, "../clips/a.mp4").resolve() == clip.resolve()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"list.jsonl does not exist; give the list that the tool before this one wrote"),
        ("\n", r"list.jsonl lists nothing; see the list of rejected items beside it"),
        ('{"key": 1}\n{"key"', r"list.jsonl, line 2 is not JSON \(.*\); correct it"),
        ('{"key": 1}\n{"name": 1}', r"list.jsonl, line 2 lacks 'key'; write the list again"),
    ],
)
def test_an_unusable_list_is_refused(tmp_path, text, message):
    if text is not None:
        (tmp_path / "list.jsonl").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_rows(tmp_path / "list.jsonl", ["key"])
