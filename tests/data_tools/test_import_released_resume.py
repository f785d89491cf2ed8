"""A killed import is continued, and gives the bytes of one that was never interrupted."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data_tools.import_released import import_released
from data_tools.released import passes

ROOT = Path(__file__).parents[2]


def run(source, output, **options):
    import_released(str(source), str(output), workers=1, samples_per_shard=4, **options)
    return output


def killed_at(step, source, output):
    """Run an import in a process that is killed, with SIGKILL, just before its file number `step` appears.

    Returns:
        Whether it was killed; False when it came to its end first.
    """
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        replace, left = os.replace, [step]

        def counted(*names):
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            replace(*names)

        os.replace = counted
        try:
            run(source, output)
        except BaseException:
            os._exit(3)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


@pytest.fixture(params=["folders", "archives"])
def source(request, tmp_path, make_files, save_item, pack, monkeypatch):
    """Ten items, two of them damaged, as folders or as archives; read in blocks of four."""
    monkeypatch.setattr(passes, "_BLOCK", 4)
    for k in range(10):
        save_item(tmp_path / "folders", f"{k:02d}", make_files(k))
    (tmp_path / "folders" / "latents" / "07.pt").unlink()
    (tmp_path / "folders" / "conditions" / "08.pt").write_bytes(b"")
    for folder in ("latents", "audio_latents", "audio_latents_clean", "conditions"):
        pack(tmp_path / "archives" / f"{folder}.tar.zst", tmp_path / "folders", [folder])
    return tmp_path / request.param


@pytest.mark.slow
def test_a_kill_at_any_step_changes_no_byte(source, tmp_path, tree):
    whole = tree(run(source, tmp_path / "whole"))
    assert len([name for name in whole if name.endswith(".tar")]) == 2
    step = 0
    while killed_at(step, source, tmp_path / f"out{step}"):
        assert not (tmp_path / f"out{step}").exists()
        assert tree(run(source, tmp_path / f"out{step}")) == whole
        shutil.rmtree(tmp_path / f"out{step}")
        step += 1
    assert step > 10
    assert [path.name for path in tmp_path.iterdir() if "importing" in path.name] == []


@pytest.mark.slow
def test_an_import_that_is_killed_again_and_again_comes_to_its_end(source, tmp_path, tree):
    kills = 0
    while killed_at(3, source, tmp_path / "out"):
        kills += 1
        assert kills < 30
    assert kills > 2
    assert tree(tmp_path / "out") == tree(run(source, tmp_path / "whole"))


def test_finished_parts_are_not_done_again(source, tmp_path):
    scan, shards = tmp_path / ".out.importing" / "scan", tmp_path / ".out.importing" / "result"
    assert killed_at(4, source, tmp_path / "out")
    blocks = {path: path.stat().st_mtime_ns for path in scan.glob("0*.jsonl")}
    assert killed_at(4, source, tmp_path / "out")
    done = {path: path.stat().st_mtime_ns for path in shards.glob("*.tar")}
    assert (len(blocks), len(done)) == (2, 1)
    assert killed_at(2, source, tmp_path / "out")
    assert len(list(shards.glob("*.tar"))) == 2
    for path, time_ns in (blocks | done).items():
        assert path.stat().st_mtime_ns == time_ns


def test_other_options_or_other_input_are_refused_on_a_half_done_output(source, tmp_path):
    assert killed_at(10, source, tmp_path / "out")
    with pytest.raises(ValueError, match=r"out was begun with lengths cut, now it is pad; go back to that, or remove"):
        run(source, tmp_path / "out", lengths="pad")
    with pytest.raises(ValueError, match=r"was begun with consent unknown, now it is asked; go back to that"):
        run(source, tmp_path / "out", consent="asked")
    file = next(path for path in sorted(source.rglob("*")) if path.is_file())
    os.utime(file, ns=(0, 0))
    with pytest.raises(ValueError, match=r"was begun with input files \(checksum\) \w+, now it is \w+; go back to"):
        run(source, tmp_path / "out")


def test_options_may_change_as_long_as_nothing_was_written(source, tmp_path, read_set):
    with pytest.raises(ValueError, match=r"none of 10 items could be imported"):
        run(source, tmp_path / "out", fps_tolerance=-1.0)
    assert len(read_set(run(source, tmp_path / "out"))) == 8


def test_a_finished_output_is_left_alone(source, tmp_path, tree):
    before = tree(run(source, tmp_path / "out"))
    with pytest.raises(ValueError, match=r"out already holds something; it is complete, or choose another folder"):
        run(source, tmp_path / "out")
    assert tree(tmp_path / "out") == before


@pytest.mark.slow
def test_the_command_is_killed_with_its_workers_and_continued(tmp_path, make_files, save_item, tree):
    """SIGKILL for the process alone: its workers notice, and leave nothing behind that a second run stumbles over."""
    for k in range(60):
        save_item(tmp_path / "in", f"{k:03d}", make_files(k, widths=(3840,), n_text=64))
    command = [sys.executable, "-m", "data_tools.import_released", str(tmp_path / "in"), "--workers", "2"]
    command += ["--samples_per_shard", "4", "--output"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    work = tmp_path / ".out.importing"
    for _ in range(2):
        process = subprocess.Popen([*command, str(tmp_path / "out")], cwd=ROOT, env=environment, start_new_session=True)
        n_done = len(list(work.rglob("*.tar")))
        while process.poll() is None and len(list(work.rglob("*.tar"))) < n_done + 2:
            time.sleep(0.01)
        assert len(_processes_of(process.pid)) >= 4, "the process, its fork server and two workers"
        process.kill()
        process.wait()
        deadline = time.monotonic() + 10
        while _processes_of(process.pid) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert _processes_of(process.pid) == []
    assert 4 <= len(list(work.rglob("*.tar"))) < 15
    ended = subprocess.run([*command, str(tmp_path / "out")], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert "60 of 60 items" in " ".join(ended.stdout.split())
    assert tree(tmp_path / "out") == tree(run(tmp_path / "in", tmp_path / "whole"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out", "whole"]


def _processes_of(session):
    """Return the numbers of the processes of a session that have not ended."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, of = path.read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(of) == session and state != "Z":
            found.append(path.parent.name)
    return found
