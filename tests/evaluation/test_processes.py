"""Processes that score end with the one that started them, however it ends."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest


def children(pid: int) -> list[int]:
    """Processes that a process has started and that are still there."""
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits to be noticed does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def until(reached, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not reached() and time.monotonic() < end:
        time.sleep(0.1)
    return reached()


@pytest.mark.skipif(not Path(f"/proc/{os.getpid()}/task").is_dir(), reason="looks at processes in /proc")
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_workers_end_when_their_parent_is_killed(nano_manifest, proofs, tmp_path):
    content = json.loads(nano_manifest.read_text())
    content["items"] = [content["items"][k % 3] | {"id": f"item-{k}"} for k in range(400)]
    (tmp_path / "many.json").write_text(json.dumps(content))
    scores = tmp_path / "scores.jsonl"
    command = [sys.executable, "-m", "idlora_pl.cli", "score", str(tmp_path / "many.json"), "--row", "r"]
    command += ["--bound", "target", "--scorers", "nano_speaker", "--processes", "2", "--scores", str(scores)]
    with subprocess.Popen([*command, "--verified", str(proofs)], stdout=subprocess.DEVNULL) as parent:
        try:
            assert until(lambda: scores.is_file() and scores.stat().st_size > 0, 120)
            started = children(parent.pid)
            assert len(started) >= 2
        finally:
            parent.send_signal(signal.SIGKILL)
    try:
        assert until(lambda: not any(map(alive, started)), 20), f"{[p for p in started if alive(p)]} live on"
    finally:
        for pid in filter(alive, started):
            os.kill(pid, signal.SIGKILL)
