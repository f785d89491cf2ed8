"""How long encode_clips takes against its networks alone: reading, writing and bookkeeping are the difference.

    python -m pytest -m speed -s tests/data_tools/test_encoding_speed.py

The networks are the smoke model's, of 0.1 M parameters, on clips of 33 frames at 128x128, so this is the worst case:
with the networks of full size what is beside them takes the same time, and they a thousand times longer.
"""

import statistics
import time
from pathlib import Path

import pytest
import torch

from data_tools.encode_clips import encode_clips
from data_tools.verb.lists import write_rows
from idlora_pl.generation.base_model import load_codecs, load_text
from idlora_pl.media.clip import Clip
from idlora_pl.media.reading import read_clip
from idlora_pl.media.writing import write_clip

N_PAIRS, N_TURNS, BATCH = 8, 3, 4
pytestmark = pytest.mark.speed


@pytest.fixture
def pairs(tmp_path: Path, prompt: str) -> Path:
    """Eight pairs of moving pictures with tones."""
    rows = []
    for k in range(N_PAIRS):
        frames = torch.zeros(33, 3, 128, 128, dtype=torch.uint8)
        for index in range(33):
            frames[index, :, 20:80, index : index + 50] = 90 + 20 * k
        seconds = torch.arange(round(1.32 * 16000)) / 16000
        tone = 0.3 * torch.sin(2 * torch.pi * (150 + 30 * k) * seconds)[None]
        write_clip(Clip(frames, tone, 25.0, 16000), tmp_path / f"{k}.mp4", generated=False)
        row = {"key": f"k{k}", "target": f"{k}.mp4", "reference": f"{k}.mp4", "prompt": prompt, "n_frames": 33}
        rows.append(row | {"speaker": "ann", "consent": "own recording"})
    write_rows(tmp_path / "pairs.jsonl", rows)
    return tmp_path / "pairs.jsonl"


def networks_s(pairs: Path, prompt: str) -> float:
    """CPU seconds of the networks on clips in memory."""
    codecs, text = load_codecs("smoke"), load_text("smoke")
    clips = [read_clip(pairs.parent / f"{k}.mp4") for k in range(N_PAIRS)]
    start = time.process_time()
    with torch.inference_mode():
        text.encode([prompt])
        for first in range(0, N_PAIRS, BATCH):
            group = clips[first : first + BATCH]
            codecs.encode_video(torch.stack([clip.frames for clip in group]))
            waveforms = torch.stack([clip.waveform for clip in group])
            codecs.encode_audio(waveforms, 16000, n_tokens=33)
            codecs.encode_audio(waveforms, 16000)
    return time.process_time() - start


def test_what_is_beside_the_networks_takes_little(pairs: Path, prompt: str, tmp_path: Path) -> None:
    shares, rates = [], []
    for turn in range(N_TURNS + 1):
        alone = networks_s(pairs, prompt)
        start, wall = time.process_time(), time.perf_counter()
        encode_clips(str(pairs), str(tmp_path / f"samples{turn}"), base="smoke", batch_size=BATCH, accelerator="cpu")
        whole = time.process_time() - start
        rates.append(N_PAIRS / (time.perf_counter() - wall))
        shares.append(whole / alone)
    # the first turn compiles and loads
    shares, rates = shares[1:], rates[1:]
    print(
        f"\nencode_clips takes {statistics.median(shares):.2f} x the CPU time of its networks "
        f"[{min(shares):.2f}, {max(shares):.2f}], {statistics.median(rates):.2f} pairs a second "
        f"[{min(rates):.2f}, {max(rates):.2f}]; {N_PAIRS} pairs, {N_TURNS} turns"
    )
    assert statistics.median(shares) < 3
