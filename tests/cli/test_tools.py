"""Subcommands without a trainer: each is there, and none waits for what it does not need."""

import subprocess
import sys
from importlib import import_module

import pytest

from idlora_pl.cli import main
from idlora_pl.cli.tools import COMMANDS, TOOLS, run_tool
from idlora_pl.results.row import ScoreRow
from idlora_pl.results.scores_file import append_scores
from idlora_pl.scorers.registry import CARDS
from idlora_pl.scorers.scores import SCORES

HELP = """
import sys
from idlora_pl.cli import main
for name in sys.argv[1:]:
    try:
        main([name, "--help"])
    except SystemExit as ended:
        assert ended.code == 0
print("lightning" in sys.modules, file=sys.stderr)
"""

HEAVY = {"torch", "torchaudio", "torchmetrics", "lightning", "diffusers", "transformers", "matplotlib", "av", "wandb"}
LOADED_BY = """
import sys
from idlora_pl.cli import main
try:
    main(sys.argv[1:])
except SystemExit:
    pass
print(*sys.modules, file=sys.stderr)
"""


def loaded_by(*arguments):
    """The libraries that a command loads, and what it prints."""
    command = [sys.executable, "-c", LOADED_BY, *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in ended.stderr.splitlines()[-1].split()}, ended.stdout


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",)])
def test_help_names_every_command_with_one_line_and_loads_no_heavy_library(arguments):
    loaded, text = loaded_by(*arguments)
    assert loaded & (HEAVY | {"numpy", "scipy", "jsonargparse"}) == set()
    lines = [line.split() for line in text.splitlines()]
    for name, command in COMMANDS.items():
        (line,) = [line for line in lines if line[:1] == [name] or line[1:2] == [name]]
        assert line[-len(command.what.split()) :] == command.what.split()
    assert [line[0] for line in lines if line and line[0] in ("train", "measure", "files")] == [
        *("train", "measure", "files")
    ]


def test_a_table_of_scores_loads_no_heavy_library(tmp_path):
    rows = [ScoreRow(key, "ours", key, 0, {"lip_sync": 0.5, "wer": 0.1}) for key in "abc"]
    append_scores(tmp_path / "scores.jsonl", rows)
    loaded, text = loaded_by("table", str(tmp_path / "scores.jsonl"))
    assert loaded & HEAVY == set()
    assert "lip-sync" in text


def test_the_scores_that_need_no_network_are_those_of_the_cards():
    assert {name: card.scores for name, card in CARDS.items()} == SCORES


@pytest.mark.parametrize("name", TOOLS)
def test_every_tool_has_a_help_of_its_name(capsys, name):
    with pytest.raises(SystemExit) as ended:
        run_tool(name, ["--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: idlora {name} ")


@pytest.mark.parametrize("name", TOOLS)
def test_every_tool_says_what_it_does(name):
    module, _, place = TOOLS[name].partition(":")
    tool = getattr(import_module(module), place)
    assert all(verb.__doc__ for verb in (tool.values() if isinstance(tool, dict) else [tool]))


def test_bad_input_ends_in_one_line(tmp_path):
    (tmp_path / "scores.jsonl").write_text("no json\n")
    with pytest.raises(SystemExit, match=r"^idlora: .*scores\.jsonl") as ended:
        run_tool("table", [str(tmp_path / "scores.jsonl")])
    assert "\n" not in str(ended.value)


SLOW_TO_LOAD = ["adapter"]
"""Tools that load diffusers, which takes longer than all that the others load."""


@pytest.mark.parametrize(
    "names",
    [
        ["manifest"],
        pytest.param(sorted(TOOLS.keys() - SLOW_TO_LOAD), marks=pytest.mark.slow),
        pytest.param(SLOW_TO_LOAD, marks=pytest.mark.slow),
    ],
    ids=["one", "light", "heavy"],
)
def test_no_tool_waits_for_lightning(names):
    ended = subprocess.run([sys.executable, "-c", HELP, *names], capture_output=True, text=True, check=True)
    assert ended.stderr.splitlines()[-1] == "False"


@pytest.mark.parametrize(("word", "said"), [("tabel", ", did you mean table?"), ("xyz", ".")])
def test_a_command_that_is_none_is_named_with_those_there_are(capsys, word, said):
    with pytest.raises(SystemExit) as ended:
        main([word])
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith(f"idlora: there is no command '{word}'{said} It has fit, validate, test")
