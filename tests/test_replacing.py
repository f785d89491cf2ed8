"""Files appear whole or not at all."""

import pytest

from idlora_pl.files import replacing


def test_a_file_appears_when_the_block_succeeds_and_folders_are_made(tmp_path):
    path = tmp_path / "new" / "rows.json"
    with replacing(path) as partial:
        partial.write_text("one")
        assert not path.exists()
        assert (partial.parent, partial.suffix) == (path.parent, path.suffix)
    assert path.read_text() == "one"
    assert [file.name for file in path.parent.iterdir()] == ["rows.json"]


def test_a_failed_block_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "rows.json"
    path.write_text("old")

    def write_half():
        with replacing(path) as partial:
            partial.write_text("half")
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        write_half()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_block_that_writes_nothing_leaves_the_old_file(tmp_path):
    path = tmp_path / "rows.json"
    path.write_text("old")
    with pytest.raises(FileNotFoundError), replacing(str(path)):
        pass
    assert path.read_text() == "old"
