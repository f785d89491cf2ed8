"""The commands of docs/prepare.md on recorded clips, from videos to samples with sound.

The clips are not part of the repository; without them these tests say so and skip.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors import safe_open

from idlora_pl.data.stream import open_shards
from idlora_pl.media.reading import probe

ROOT = Path(__file__).parents[1]
MEDIA = Path(os.environ.get("IDLORA_MEDIA", ROOT.parent / "shared" / "media"))
COMMANDS = "\n".join(re.findall(r"```bash\n(.*?)```", (ROOT / "docs" / "prepare.md").read_text(), re.DOTALL))
PRELUDE = 'set -euo pipefail\nidlora() { python -m idlora_pl.cli "$@"; }\n'

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(not (MEDIA / "grid").is_dir(), reason=f"no recorded clips at {MEDIA}; set IDLORA_MEDIA"),
]


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """The folder in which the documented commands have run."""
    folder = tmp_path_factory.mktemp("prepare")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {"MEDIA": str(MEDIA), "OUT": str(folder), "PATH": path, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(
        ["bash", "-c", PRELUDE + COMMANDS], cwd=ROOT, env=os.environ | environment, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-4000:]
    return folder


def test_one_command_makes_shards_of_pairs_of_one_speaker(out):
    index = open_shards(str(out / "data" / "shards")).index
    assert (index.n_samples, index.shapes["target_video"]) == (5, (128, 10, 4, 4))
    assert index.settings["consent"] == "public benchmark"
    pairs = [json.loads(line) for line in (out / "data" / "pairs" / "pairs.jsonl").read_text().splitlines()]
    assert all(pair["target_key"][0] == pair["reference_key"][0] for pair in pairs)
    rejected = [json.loads(line) for line in (out / "data" / "rejected.jsonl").read_text().splitlines()]
    assert {(row["step"], row["reason"]) for row in rejected} == {("pair_clips", "no_reference")}
    assert (out / "sample.png").read_bytes().startswith(b"\x89PNG")


def test_the_adapter_repeats_the_consent_and_samples_have_sound(out):
    with safe_open(out / "run" / "adapter.safetensors", "pt") as adapter:
        assert adapter.metadata()["consent"] == "public benchmark"
    clips = sorted((out / "generated" / "clips").glob("*.mp4"))
    assert len(clips) == 2
    for clip in clips:
        info = probe(clip)
        assert (info.n_frames, info.size, info.channels) == (73, (128, 128), 2)
        assert info.duration_s == pytest.approx(2.92, abs=0.05)
