"""Tools take their arguments from the command line and end with one sentence on bad input."""

import subprocess
import sys

import pytest

from data_tools.verb.command import run

VERBS = (
    "cut_clips",
    "find_speakers",
    "clean_reference",
    "caption_clips",
    "pair_clips",
    "encode_clips",
    "write_shards",
    "inspect_shard",
    "import_released",
)


def tool(source: str, times: int = 1, loud: bool = False) -> None:
    """Print a word.

    Args:
        source: The word.
        times: How often.
        loud: In capitals.
    """
    if times < 1:
        raise ValueError(f"times must be at least 1; got {times}")
    print((source.upper() if loud else source) * times)


@pytest.mark.parametrize(
    ("arguments", "printed"),
    [(["ab"], "ab"), (["ab", "--times", "2", "--loud"], "ABAB"), (["--loud", "false", "ab"], "ab")],
)
def test_parameters_become_arguments_and_options(arguments, printed, capsys):
    run(tool, arguments)
    assert capsys.readouterr().out.strip() == printed


def test_bad_input_ends_with_one_sentence():
    with pytest.raises(SystemExit, match=r"^tool: times must be at least 1; got 0$"):
        run(tool, ["ab", "--times", "0"])


def test_a_misspelt_option_is_refused(capsys):
    with pytest.raises(SystemExit) as ended:
        run(tool, ["ab", "--tims", "2"])
    assert ended.value.code == 2
    assert "--tims" in capsys.readouterr().err


def test_every_tool_has_a_documented_option_for_every_parameter():
    for verb in VERBS:
        module = __import__(f"data_tools.{verb}", fromlist=[verb])
        with pytest.raises(SystemExit) as ended:
            run(getattr(module, verb), ["--help"])
        assert ended.value.code == 0


def test_a_tool_runs_as_a_module_and_fails_with_status_1(tmp_path):
    command = [sys.executable, "-m", "data_tools.write_shards", str(tmp_path / "nowhere"), str(tmp_path / "out")]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 1
    assert ended.stderr.strip().splitlines()[-1].startswith("write_shards: ")
    assert "is not a folder; give the one that data_tools.encode_clips wrote" in ended.stderr
