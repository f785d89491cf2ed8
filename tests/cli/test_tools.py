"""Subcommands without a trainer: each is there, and none waits for what it does not need."""

import subprocess
import sys
from importlib import import_module

import pytest

from idlora_pl.cli import main
from idlora_pl.cli.tools import TOOLS, run_tool

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


@pytest.mark.parametrize("name", TOOLS)
def test_every_tool_has_a_help_of_its_name(capsys, name):
    with pytest.raises(SystemExit) as ended:
        run_tool(name, ["--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: idlora {name} ")


@pytest.mark.parametrize("name", TOOLS)
def test_every_tool_says_what_it_does(name):
    module, _, function = TOOLS[name].partition(":")
    assert getattr(import_module(module), function).__doc__


def test_bad_input_ends_in_one_line(tmp_path):
    (tmp_path / "scores.jsonl").write_text("no json\n")
    with pytest.raises(SystemExit, match=r"^idlora: .*scores\.jsonl") as ended:
        run_tool("table", [str(tmp_path / "scores.jsonl")])
    assert "\n" not in str(ended.value)


HEAVY = ["adapter"]
"""Tools that load diffusers, which takes longer than all that the others load."""


@pytest.mark.parametrize(
    "names", [sorted(TOOLS.keys() - HEAVY), pytest.param(HEAVY, marks=pytest.mark.slow)], ids=["light", "heavy"]
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
