"""One way to write a command: a typed function, its options in snake case, and one line for what cannot be used."""

from pathlib import Path
from typing import Literal

import pytest

from idlora_pl.cli.command import call
from idlora_pl.cli.tools import TOOLS, run_tool


def pack(
    folder: Path,
    *,
    name: str,
    how: Literal["flat", "deep"] | None = None,
    at_most: int = 3,
    keep_all: bool = False,
    pairs: list[tuple[str, str]] = [],  # noqa: B006
    tag: list[str] = [],  # noqa: B006
) -> None:
    """Pack a folder.

    A second paragraph.

    Args:
        folder: The folder.
        name: Its name.
        how: Which way.
        at_most: Files.
        keep_all: Whether all are kept.
        pairs: A B, repeated.
        tag: One, repeated.
    """
    print(folder, name, how, at_most, keep_all, pairs, tag)


def said(capsys, *words, tool=pack):
    """What a command prints that ends with status 2."""
    with pytest.raises(SystemExit) as ended:
        call(tool, words, prog="idlora pack")
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize(
    ("words", "printed"),
    [
        (["a", "--name=b"], "a b None 3 False [] []"),
        (["--name", "7", "a", "--how", "deep", "--at_most", "2"], "a 7 deep 2 False [] []"),
        (["a", "--name=b", "--at-most=2", "--keep-all"], "a b None 2 True [] []"),
        (["a", "--name=b", "--keep_all", "false"], "a b None 3 False [] []"),
        (["a", "--name", "1e3", "--keep_all", "true", "--tag=x=y", "--tag", "z"], "a 1e3 None 3 True [] ['x=y', 'z']"),
        (
            ["--pairs", "a", "b", "--name=n", "--pairs", "a", "c d", "f"],
            "f n None 3 False [('a', 'b'), ('a', 'c d')] []",
        ),
        (["a", "--name=n", "--tag=[x, y]"], "a n None 3 False [] ['x', 'y']"),
    ],
)
def test_words_become_the_parameters_of_a_function(capsys, words, printed):
    call(pack, words, prog="idlora pack")
    assert capsys.readouterr().out.strip() == printed


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "the following arguments are required: folder, name"),
        (["a"], "the following arguments are required: name"),
        (["a", "--name=b", "--at-mots=2"], "unrecognized arguments: --at-mots=2; did you mean at_most?"),
        (["a", "--name=b", "--na=c"], "unrecognized arguments: --na=c; did you mean name?"),
        (["a", "--name=b", "--how=up"], "key \"how\": Expected a typing.Literal['flat', 'deep']. Got value: up"),
        (["a", "--name=b", "--at_most=x"], "key \"at_most\": Expected a <class 'int'>"),
        (["a", "--name=b", "--pairs", "c"], "Expected a tuple with 2 elements. Got value: ['c']"),
        (["a", "--name=b", "--pairs", "c", "--keep_all"], "Expected a tuple with 2 elements. Got value: ['c']"),
    ],
)
def test_what_cannot_be_used_is_one_line_and_status_2(capsys, words, message):
    line = said(capsys, *words)
    assert line.startswith("idlora: ")
    assert message in line
    assert line.endswith("; `idlora pack --help` lists the options")


def test_options_may_stand_in_a_file_whose_lists_that_are_replaced_are_named(capsys, tmp_path):
    (tmp_path / "pack.yaml").write_text("name: b\npairs: [[a, b]]\n")
    call(pack, ["--config", str(tmp_path / "pack.yaml"), "f", "--pairs", "c", "d"], prog="idlora pack")
    assert capsys.readouterr().out.strip() == "f b None 3 False [('a', 'b'), ('c', 'd')] []"
    call(pack, ["--config", str(tmp_path / "pack.yaml"), "f", "--pairs=[[c, d]]"], prog="idlora pack")
    printed = capsys.readouterr()
    assert printed.out.strip() == "f b None 3 False [('c', 'd')] []"
    assert "idlora: --pairs replaces pairs of" in printed.err


def test_several_functions_are_verbs(capsys):
    def count(file: Path, *, only_some: bool = False) -> None:
        """Count."""
        print("counted", file, only_some)

    call({"pack": pack, "count": count}, ["count", "x", "--only-some"], prog="idlora pack")
    assert capsys.readouterr().out.strip() == "counted x True"
    assert "invalid choice: 'cuont' (choose from 'pack', 'count')" in said(
        capsys, "cuont", tool={"pack": pack, "count": count}
    )


def test_help_is_the_docstring(capsys):
    with pytest.raises(SystemExit) as ended:
        call(pack, ["--help"], prog="idlora pack")
    assert ended.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "Pack a folder. A second paragraph. positional arguments: folder The folder." in text
    assert "--at_most AT_MOST Files." in text


@pytest.mark.parametrize("name", TOOLS)
def test_every_tool_says_what_it_lacks_in_one_line(capsys, name):
    with pytest.raises(SystemExit) as ended:
        run_tool(name, ["--no_such_option"])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("idlora: ")
    assert f"`idlora {name} --help` lists the options" in line


def test_the_spelling_of_before_is_taken(tmp_path):
    words = [str(tmp_path / "m.json"), "--row", "a", "--scores", "s.jsonl", "--bound", "same_speaker"]
    with pytest.raises(SystemExit, match="idlora: .*m.json does not exist"):
        run_tool("score", [*words, "--bound-seed", "3", "--base-weights=w"])
