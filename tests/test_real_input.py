"""Recorded clips through the real LTX-2 classes at tiny random size: the commands of docs/real_input.md.

The clips are not part of the repository; without them these tests say so and skip.
"""

import csv
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from idlora_pl.data.stream import open_shards
from idlora_pl.ltx2.codecs import Codecs
from idlora_pl.media.reading import probe, read_clip, read_metadata
from idlora_pl.media.writing import AI_GENERATED_LABEL
from idlora_pl.method.in_context import InContext

ROOT = Path(__file__).parents[1]
MEDIA = Path(os.environ.get("IDLORA_MEDIA", ROOT.parent / "shared" / "media"))
COMMANDS = "\n".join(re.findall(r"```bash\n(.*?)```", (ROOT / "docs" / "real_input.md").read_text(), re.DOTALL))
PRELUDE = 'set -euo pipefail\nidlora() { python -m idlora_pl.cli "$@"; }\n'

pytestmark = pytest.mark.skipif(
    not (MEDIA / "grid").is_dir(), reason=f"no recorded clips at {MEDIA}; set IDLORA_MEDIA to a folder that has them"
)


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """The folder in which the documented commands have run."""
    folder = tmp_path_factory.mktemp("real_input")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {"MEDIA": str(MEDIA), "OUT": str(folder), "PATH": path, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(
        ["bash", "-c", PRELUDE + COMMANDS], cwd=ROOT, env=os.environ | environment, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-4000:]
    return folder


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("n_frames", "n_samples", "latent_frames"), [(73, 4, 10), (121, 6, 16)])
def test_shards_of_recorded_clips_hold_normal_latents_of_one_length(out, n_frames, n_samples, latent_frames):
    found = open_shards(str(out / f"shards_{n_frames}"))
    assert found.index.shapes["target_video"] == (128, latent_frames, 4, 4)
    assert found.index.shapes["target_audio"] == (8, n_frames, 16)
    assert found.index.shapes["reference"] == (8, n_frames + 1, 16)
    samples = [sample for _, sample in found.read([(0, k) for k in range(n_samples)])]
    assert found.index.n_samples == n_samples
    for sample in samples:
        for latents in (sample.target_video, sample.target_audio, sample.reference):
            assert latents.isfinite().all()
            assert 0.1 < latents.float().std() < 10
        assert not torch.equal(sample.reference[:, :n_frames], sample.target_audio), "the voice is another recording"


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_twenty_steps_on_recorded_clips_train_an_adapter(out):
    with open(out / "run" / "metrics.csv") as file:
        rows = [row for row in csv.DictReader(file) if row.get("loss")]
    assert rows
    assert all(math.isfinite(float(row["loss"])) for row in rows)
    assert int(rows[-1]["step"]) == 19
    with safe_open(out / "run" / "adapter.safetensors", "pt") as adapter:
        assert InContext.from_metadata(adapter.metadata()).placement == "negative"
        changed = [adapter.get_tensor(name).abs().max() > 0 for name in adapter.keys() if "lora_B" in name]  # noqa: SIM118
    assert changed
    assert all(changed)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_sampling_with_all_guidance_writes_clips_with_sound(out):
    entries = json.loads((out / "published" / "prompts.json").read_text())
    clips = sorted((out / "generated" / "clips").glob("*.mp4"))
    assert [clip.stem for clip in clips] == sorted(entry["output_name"] for entry in entries)
    for path in clips:
        info, tags = probe(path), read_metadata(path)
        assert (info.n_frames, info.frame_rate_fps, info.size) == (121, 25.0, (128, 128))
        assert (info.sample_rate_hz, info.channels) == (24000, 2)
        assert tags["comment"] == AI_GENERATED_LABEL
        assert tags["prompt"] == entries[0]["prompt"]
        clip = read_clip(path)
        assert clip.waveform.abs().max() > 0.01
        assert clip.frames.float().std() > 5


@pytest.mark.slow
def test_a_recorded_clip_becomes_latents_and_a_clip_again():
    codecs = Codecs.from_preset("smoke")
    clip = read_clip(MEDIA / "grid" / "s1" / "bbaf2n.mpg", frame_rate_fps=25.0, n_frames=73, size=(64, 64))
    assert clip.sample_rate_hz == 44100
    video = codecs.encode_video(clip.frames[None])
    audio = codecs.encode_audio(clip.waveform[None], clip.sample_rate_hz, n_tokens=codecs.n_audio_tokens(73))
    assert (video.shape, audio.shape) == ((1, 128, 10, 2, 2), (1, 8, 73, 16))
    assert codecs.decode_video(video).shape == (1, *clip.frames.shape)
    assert codecs.decode_audio(audio).shape == (1, 2, (4 * 73 - 3) * 240)
