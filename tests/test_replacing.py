"""Files and folders appear whole or not at all."""

import subprocess
import sys

import pytest

from idlora_pl.files import replacing, replacing_folder


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


def killed(code, path):
    """Run code in a process that ends at `die()` as if it had been killed; it is given the path as `path`."""
    head = (
        "import os, sys\nfrom pathlib import Path\nfrom idlora_pl.files import replacing, replacing_folder\n"
        "path = Path(sys.argv[1])\ndef die(*_): os._exit(9)\n"
    )
    assert subprocess.run([sys.executable, "-c", head + code, str(path)], check=False).returncode == 9


def held(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_process_that_is_killed_within_the_block_leaves_the_old_file(tmp_path):
    path = tmp_path / "rows.json"
    path.write_text("old")
    killed("with replacing(path) as partial:\n    partial.write_text('half')\n    die()", path)
    assert path.read_text() == "old"


@pytest.mark.parametrize("is_there", [True, False])
def test_a_folder_appears_when_the_block_succeeds(tmp_path, is_there):
    folder = tmp_path / "new" / "page"
    if is_there:
        folder.mkdir(parents=True)
    with replacing_folder(folder) as partial:
        (partial / "index.html").write_text("new")
        assert not held(folder)
    assert held(tmp_path) == {"new/page/index.html"}
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["page"]


@pytest.mark.parametrize("full", [True, False])
def test_a_failed_block_leaves_what_stood_there_and_nothing_else(tmp_path, full):
    folder = tmp_path / "page"
    folder.mkdir()
    (folder / "old.html").write_text("old")

    def write_half():
        with replacing_folder(folder, full=full) as partial:
            (partial / "index.html").write_text("half")
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        write_half()
    assert held(tmp_path) == {"page/old.html"}
    assert list(tmp_path.iterdir()) == [folder]


def test_a_folder_that_holds_something_is_replaced_only_where_that_was_asked_for(tmp_path):
    folder = tmp_path / "page"
    folder.mkdir()
    (folder / "old.html").write_text("old")
    with pytest.raises(OSError, match="not empty"), replacing_folder(folder) as partial:
        (partial / "index.html").write_text("new")
    assert held(tmp_path) == {"page/old.html"}
    (tmp_path / "link").symlink_to(folder)
    for name in ("page", "link", "link"):
        with replacing_folder(tmp_path / name, full=True) as partial:
            (partial / f"{name}.html").write_text("new")
        assert held(folder) == {f"{name}.html"}
    assert {path.name for path in tmp_path.iterdir()} == {"page", "link"}


@pytest.mark.parametrize(
    "code",
    [
        "with replacing_folder(path, full=True) as partial:\n    (partial / 'half.html').write_text('half')\n    die()",
        "replace = Path.replace\n"
        "Path.replace = lambda one, other: die() if other.name == 'page' else replace(one, other)\n"
        "with replacing_folder(path, full=True) as partial:\n    (partial / 'new.html').write_text('new')",
    ],
    ids=["within the block", "when the old folder is away and the new one not yet there"],
)
def test_what_a_killed_process_leaves_hides_nothing_and_goes_the_next_time(tmp_path, code):
    folder = tmp_path / "page"
    folder.mkdir()
    (folder / "old.html").write_text("old")
    killed(code, folder)

    def fail():
        with replacing_folder(folder, full=True):
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail()
    assert held(tmp_path) == {"page/old.html"}  # also where the killed process had moved it away
    killed(code, folder)
    with replacing_folder(folder, full=True) as partial:
        (partial / "index.html").write_text("new")
    assert held(tmp_path) == {"page/index.html"}
    assert list(tmp_path.iterdir()) == [folder]


def test_a_folder_is_written_by_one_process_at_a_time(tmp_path):
    with replacing_folder(tmp_path / "page") as partial:
        (partial / "index.html").write_text("first")
        with (
            pytest.raises(ValueError, match=r"another process writes .*page now; wait for it, or choose another"),
            replacing_folder(tmp_path / "page"),
        ):
            pass
    assert (tmp_path / "page" / "index.html").read_text() == "first"
