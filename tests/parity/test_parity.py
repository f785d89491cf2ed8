"""`idlora parity`: the golden cases pass, other shapes pass, changed numbers fail, and what is unclear is named."""

import json
import os
import shutil
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import pytest
import torch

from idlora_pl.cli.parity import PATH_VARIABLE, parity
from idlora_pl.cli.tools import TOOLS, call_tool
from idlora_pl.parity.run import CHECKS, run_folder
from tests.parity.broken import CHANGED, WRONG, write_changed, write_wrong
from tests.parity.made import make_folder

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).parent / "golden"
SHARED = ROOT.parent / "shared" / "golden"
NAMES = sorted(path.stem for path in GOLDEN.glob("*.json"))
LONG = {"m23_sampler_4step", "m23_train_step"}
"""Cases of some seconds with a like of the other layout; the slow tests run them, and `make parity` does."""
OUTSIDE = {"json": "JSON", "alone": "file", "orphan": "wrong_orphan.json", "damaged": "file"}
"""Files that are no cases, and what the message names."""


@dataclass(frozen=True)
class Run:
    """What a run of the command gave: exit status, output, and the rows of its JSON file by name."""

    status: int
    out: str
    err: str
    rows: dict[str, dict]


def rows_of(path: Path) -> dict[str, dict]:
    return {row["name"]: row for row in json.loads(path.read_text())["cases"]}


@pytest.fixture(scope="module")
def golden(tmp_path_factory):
    """The command on the golden cases but the long ones."""
    folder = tmp_path_factory.mktemp("golden")
    shutil.copytree(GOLDEN, folder / "cases", ignore=shutil.ignore_patterns(*(f"{name}.*" for name in LONG)))
    return compared(folder / "cases", folder / "rows.json")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The command on the folder of the golden cases as it is."""
    return compared(GOLDEN, tmp_path_factory.mktemp("whole") / "rows.json")


def compared(folder, written):
    """Run the command, in the process that it starts for the cases."""
    environment = {name: value for name, value in os.environ.items() if name != PATH_VARIABLE}
    command = [sys.executable, "-m", "idlora_pl.cli", "parity", str(folder), "--json", str(written)]
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    finished = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert written.is_file(), finished.stderr
    return Run(finished.returncode, finished.stdout, finished.stderr, rows_of(written))


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """The command on cases of other shapes, on changed ones and on unclear ones.

    It runs in this process: the cases are made in it, so the code path of MKL is the same for both.
    """
    folder = tmp_path_factory.mktemp("other")
    make_folder(folder)
    for suffix in (".json", ".safetensors"):
        shutil.copy(GOLDEN / f"train_prep_stored_dtypes{suffix}", folder)
    write_changed(folder)
    write_wrong(folder)
    written, out, err = folder / "rows" / "rows.json", StringIO(), StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setenv(PATH_VARIABLE, "AUTO")
        status = exit_status(folder, "--json", written)
    return Run(status, out.getvalue(), err.getvalue(), rows_of(written))


def exit_status(*arguments: str | Path) -> int:
    threads = torch.get_num_threads()
    try:
        with pytest.raises(SystemExit) as left:
            call_tool("parity", [str(argument) for argument in arguments])
    finally:
        torch.set_num_threads(threads)
    return left.value.code


def check_row(row):
    assert row["status"] == ("information" if row["kind"] == "contrast" else "pass"), row["remarks"] + [row["reason"]]
    assert row["not_compared"] == []
    if (
        row["kind"] != "contrast"
    ):  # inputs that we would make ourselves are the authors', too: positions, noise, schedule
        assert row["differences"]
        assert row["remarks"] == []


def check_output(run, names):
    assert run.status == 0
    assert sorted(run.rows) == names
    lines = run.out.splitlines()
    for name, row in run.rows.items():
        (line,) = [line for line in lines if line.split()[:2] == [name, row["kind"]]]
        assert line.split()[-1] == row["status"]
    assert lines[-1] == f"{len(names) - 1} passed, 1 for information"


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NAMES if name not in LONG])
def test_our_code_agrees_with_the_authors(golden, name):
    check_row(golden.rows[name])


@pytest.mark.slow
def test_all_golden_cases_pass_with_one_row_each(golden):
    check_output(golden, [name for name in NAMES if name not in LONG])


@pytest.mark.slow
def test_the_whole_folder_agrees_with_the_authors(whole):
    check_output(whole, NAMES)
    for row in whole.rows.values():
        check_row(row)


@pytest.mark.slow
def test_the_copies_hold_every_kind_and_both_layouts(golden):
    assert {row["kind"] for row in golden.rows.values()} == set(CHECKS)
    assert {row["layout"] for row in golden.rows.values() if row["layout"]} == {"ltx2-19b", "ltx2.3-22b"}


@pytest.mark.skipif(not SHARED.is_dir(), reason="the authors' numbers are not beside this checkout")
def test_the_copies_equal_the_authors_numbers():
    for path in SHARED.iterdir():
        if path.suffix in (".json", ".safetensors"):
            assert (GOLDEN / path.name).read_bytes() == path.read_bytes(), path.name


MADE = sorted(
    [f"{letter}_{name}" for letter in "ab" for name in ("weights", "lora", "train", "sampler", "perturbed")]
    + [f"{letter}_forward_{name}" for letter in "ab" for name in ("plain", "reference", "masks", "padding")]
    + [f"n_{name}" for name in ("positions", "sigmas", "levels_1", "levels_2", "mel", "keymap")]
    + ["b_high_quality", "n_connectors_a", "n_connectors_b"]
)


@pytest.mark.slow
@pytest.mark.parametrize("name", MADE)
def test_cases_of_other_shapes_agree_with_an_independent_path(other, name):
    row = other.rows[name]
    assert row["status"] == "pass", row["remarks"] + [row["reason"]]
    assert row["not_compared"] == []
    assert row["differences"]


@pytest.mark.slow
@pytest.mark.parametrize("one", CHANGED, ids=lambda one: one.source)
def test_a_changed_number_fails_and_nothing_else_does(other, one):
    row = other.rows[one.name]
    over = {difference["name"] for difference in row["differences"] if not difference["passes"]}
    assert row["status"] == "fail"
    assert over == {*one.tensors, *one.fields}


@pytest.mark.slow
@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_understood_is_named_with_its_file(other, name):
    one, row = WRONG[name], other.rows[f"wrong_{name}"]
    assert row["status"] == "not understood"
    assert (one.file or f"wrong_{name}.") in row["reason"]
    assert f"'{one.place}" in row["reason"]
    assert row["reason"] in other.out


@pytest.mark.slow
@pytest.mark.parametrize("name", OUTSIDE)
def test_files_that_are_no_cases_are_named(other, name):
    row = other.rows[f"wrong_{name}"]
    assert row["status"] == "not understood"
    assert f"'{OUTSIDE[name]}'" in row["reason"]


@pytest.mark.slow
def test_unclear_cases_count_more_than_failing_ones(other):
    assert other.status == 2
    reasons = [row["reason"] for row in other.rows.values() if row["status"] == "not understood"]
    assert len(reasons) == len(WRONG) + len(OUTSIDE)
    assert all(reason.split(":")[0] in other.err for reason in reasons)


@pytest.fixture
def numbers(tmp_path, monkeypatch):
    """A folder with one case that needs no model, for runs in this process."""
    monkeypatch.setenv(PATH_VARIABLE, "COMPATIBLE")
    for suffix in (".json", ".safetensors"):
        shutil.copy(GOLDEN / f"timestep_sampler_v1{suffix}", tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["nowhere", "empty"])
def test_a_folder_without_cases_is_said_in_a_sentence(numbers, capsys, name):
    (numbers / "empty").mkdir()
    assert exit_status(numbers / name) == 2
    assert str(numbers / name) in capsys.readouterr().err


def test_a_number_that_is_none_fails(numbers):
    from safetensors.torch import load_file, save_file

    path = numbers / "timestep_sampler_v1.safetensors"
    tensors = load_file(path)
    tensors["v1.sigma.1024"][3] = float("nan")
    save_file(tensors, path)
    (row,) = run_folder(numbers)
    assert row.status == "fail"
    assert row.worst.name == "v1.sigma.1024"


def test_the_page_names_every_kind():
    page = (ROOT / "docs" / "parity.md").read_text()
    assert [kind for kind in CHECKS if f"| `{kind}` |" not in page] == []


def test_it_is_a_tool_of_the_command_line():
    assert TOOLS["parity"] == f"{parity.__module__}:{parity.__name__}"


def test_help_says_why_it_starts_a_process(capsys):
    with pytest.raises(SystemExit):
        call_tool("parity", ["--help"])
    assert PATH_VARIABLE in capsys.readouterr().out
