"""Pairs of real files become samples, shards and batches through the real diffusers classes at tiny size."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from data_tools.cut_clips import cut_clips
from data_tools.encode_clips import encode_clips
from data_tools.inspect_shard import inspect_shard
from data_tools.pair_clips import pair_clips
from data_tools.pairing.pairing import common_length
from data_tools.shards.encoding import take_own_memory
from data_tools.shards.sample_folder import begin_list, find_samples, read_sample
from data_tools.verb.lists import read_rows, write_rows
from data_tools.write_shards import write_shards
from idlora_pl.data.datamodule import PairedClips
from idlora_pl.data.samples import ShardError
from idlora_pl.generation.base_model import load_codecs, load_text
from idlora_pl.generation.pipeline import IDLoRAPipeline
from idlora_pl.generation.sampling import default_sampling
from idlora_pl.media.reading import read_audio, read_clip
from idlora_pl.media.writing import write_audio
from idlora_pl.method.tokens import patchify_audio
from tests.data_tools.conftest import PROMPT
from tests.media.conftest import write_floats


@pytest.fixture(scope="module")
def kept_pairs(kept_videos, tmp_path_factory) -> Path:
    """Two pairs of 17 frames at 64x64 by one speaker; tests must leave them as they are."""
    folder = tmp_path_factory.mktemp("pairs")
    cut_clips(
        str(kept_videos),
        str(folder / "cut"),
        size="64",
        frames=17,
        clips_per_video=1,
        speaker_from="folder",
        centre_crop=True,
        any_sound=True,
        workers=1,
    )
    pair_clips(str(folder / "cut" / "clips.jsonl"), str(folder / "pairs.jsonl"), prompt=PROMPT)
    return folder


@pytest.fixture
def pairs(kept_pairs, tmp_path) -> Path:
    """A copy of `kept_pairs`."""
    shutil.copytree(kept_pairs, tmp_path, dirs_exist_ok=True)
    return tmp_path / "pairs.jsonl"


def test_samples_hold_what_the_codecs_and_the_text_encoder_give(pairs, tmp_path, prompt):
    encode_clips(str(pairs), str(tmp_path / "samples"), base="smoke", batch_size=1)
    row = read_rows(pairs, ["key"])[0]
    sample = read_sample(tmp_path / "samples", row["key"])
    codecs, text = load_codecs("smoke"), load_text("smoke").encode([prompt])
    clip, (voice, _) = read_clip(tmp_path / row["target"]), read_audio(tmp_path / row["reference"])
    voice = voice[:, : round(0.68 * 16000)]
    assert torch.equal(sample.target_video, codecs.encode_video(clip.frames[None])[0].bfloat16())
    assert torch.equal(sample.target_audio, codecs.encode_audio(clip.waveform[None], 16000, n_tokens=17)[0])
    assert torch.equal(sample.reference, codecs.encode_audio(voice[None], 16000)[0])
    assert sample.reference.shape == (8, 18, 16)
    assert torch.equal(sample.text.video, text.video[0].bfloat16())
    assert torch.equal(sample.text.mask, text.mask[0].bool())
    assert sample.target_audio.dtype == torch.float32
    assert (sample.meta["speaker"], sample.meta["prompt"]) == ("ann", prompt)


@pytest.mark.slow
@pytest.mark.parametrize("rate_hz", [16000, 44100])
def test_a_voice_has_the_reference_tokens_that_the_pipeline_gives_it(pairs, tmp_path, prompt, rate_hz):
    voice = 0.1 * torch.randn(1, round(0.68 * rate_hz))
    write_audio(voice, tmp_path / "voice.wav", rate_hz)
    write_rows(pairs, [read_rows(pairs, ["key"])[0] | {"key": "one", "reference": "voice.wav"}])
    encode_clips(str(pairs), str(tmp_path / "samples"), base="smoke")
    pipeline = IDLoRAPipeline.from_pretrained("smoke", sampling=replace(default_sampling("smoke"), steps=2))
    audio = pipeline.sample([pipeline.request(prompt, voice=tmp_path / "voice.wav")]).audio
    reference = read_sample(tmp_path / "samples", "one").reference
    assert audio.n_reference == reference.shape[1] == 18
    assert torch.equal(audio.latents[:, :18], patchify_audio(reference[None]))


def test_references_of_one_set_have_one_length(pairs, tmp_path):
    row = read_rows(pairs, ["key"])[0]
    rows = [row | {"key": name, "reference": f"{name}.wav"} for name in ("long", "early", "cd")]
    for row, seconds, rate_hz in zip(rows, (1.5, 0.65, 0.9), (16000, 16000, 44100), strict=True):
        write_audio(0.1 * torch.randn(1, round(seconds * rate_hz)), tmp_path / row["reference"], rate_hz)
    write_rows(pairs, rows)
    encode_clips(str(pairs), str(tmp_path / "samples"), base="smoke")
    lengths = {row["key"]: read_sample(tmp_path / "samples", row["key"]).reference.shape[1] for row in rows}
    assert lengths == {"long": 18, "early": 18, "cd": 18}


def test_a_silent_voice_and_one_that_is_no_number_are_listed_by_name(pairs, tmp_path):
    row = read_rows(pairs, ["key"])[0]
    values = {"silent": 0.0, "nan": torch.nan, "inf": torch.inf, "late": 0.0, "good": 0.3}
    rows = [row | {"key": name, "reference": f"{name}.wav"} for name in values]
    for name, value in values.items():
        wave = (value * torch.sin(torch.arange(16000) / 6))[None].numpy()
        if name == "late":
            wave[:, 12000:] = 0.3 * np.sin(np.arange(4000) / 6)  # beyond the part that is encoded
        write_floats(tmp_path / f"{name}.wav", wave)
    write_rows(pairs, rows)
    encode_clips(str(pairs), str(tmp_path / "samples"), base="smoke")
    rejected = {
        row["key"]: (row["reason"], row["detail"]) for row in read_rows(tmp_path / "samples/rejected.jsonl", [])
    }
    assert {key: reason for key, (reason, _) in rejected.items()} == {
        "silent": "silent", "late": "silent", "nan": "not_finite", "inf": "not_finite",
    }  # fmt: skip
    assert all(f"{key}.wav" in detail for key, (_, detail) in rejected.items())
    assert find_samples(tmp_path / "samples") == ["good"]


def test_videos_go_all_the_way_to_batches(pairs, tmp_path, capsys):
    encode_clips(str(pairs), str(tmp_path / "samples"), base="smoke", reference_duration=0.4)
    write_shards(str(tmp_path / "samples"), str(tmp_path / "shards"), consent="signed")
    (batch,) = PairedClips(str(tmp_path / "shards"), batch_size=2, num_workers=0).train_dataloader()
    assert batch.target_video.shape == (2, 128, 3, 2, 2)
    assert batch.target_audio.shape == (2, 8, 17, 16)
    assert batch.reference.shape == (2, 8, 11, 16)
    inspect_shard(str(tmp_path / "shards"), verify=True, picture=str(tmp_path / "latents.png"))
    shown = capsys.readouterr().out
    assert "128 x 3 x 2 x 2" in shown
    assert "verified: 1 checksums and 2 samples" in shown
    assert (tmp_path / "latents.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_a_finished_group_is_kept_and_other_settings_are_refused(pairs, tmp_path):
    samples = tmp_path / "samples"
    encode_clips(str(pairs), str(samples), base="smoke", batch_size=1)
    first, second = find_samples(samples)
    kept = (samples / f"{first}.latents.safetensors").stat().st_mtime_ns
    before = (samples / f"{second}.latents.safetensors").read_bytes()
    (samples / f"{second}.meta.json").unlink()
    encode_clips(str(pairs), str(samples), base="smoke", batch_size=1)
    assert (samples / f"{first}.latents.safetensors").stat().st_mtime_ns == kept
    assert (samples / f"{second}.latents.safetensors").read_bytes() == before
    with pytest.raises(ValueError, match=r"samples was encoded with dtype bfloat16, now it is float32; choose a new"):
        encode_clips(str(pairs), str(samples), base="smoke", dtype="float32")


def test_a_half_written_group_is_encoded_again_to_the_same_bytes(pairs, tmp_path, tree):
    for name in ("whole", "again"):
        encode_clips(str(pairs), str(tmp_path / name), base="smoke", batch_size=2, dtype="float32")
    lost = find_samples(tmp_path / "again")[0]
    (tmp_path / "again" / f"{lost}.meta.json").unlink()
    (tmp_path / "again" / ".encode_clips" / f"of-{lost}.json").unlink()
    encode_clips(str(pairs), str(tmp_path / "again"), base="smoke", batch_size=2, dtype="float32")
    assert tree(tmp_path / "again") == tree(tmp_path / "whole")


def test_a_changed_prompt_is_encoded_again(pairs, tmp_path):
    samples = tmp_path / "samples"
    encode_clips(str(pairs), str(samples), base="smoke")
    key = find_samples(samples)[0]
    before = read_sample(samples, key)
    rows = read_rows(pairs, ["key"])
    rows = [row | {"prompt": row["prompt"].replace("Noise", "Snow")} if row["key"] == key else row for row in rows]
    write_rows(pairs, rows)
    encode_clips(str(pairs), str(samples), base="smoke")
    after = read_sample(samples, key)
    assert not torch.equal(after.text.video, before.text.video)
    assert torch.equal(after.target_video, before.target_video)


def test_weights_are_moved_to_where_torch_puts_new_tensors():
    networks = load_codecs("smoke")
    values = {name: tensor.clone() for name, tensor in networks.state_dict().items()}
    for tensor in networks.parameters():
        tensor.data = torch.empty(tensor.numel() + 1)[1:].copy_(tensor.data.flatten()).view(tensor.shape)
    assert any(tensor.data_ptr() % 64 for tensor in networks.parameters())
    take_own_memory(networks)
    assert not any(tensor.data_ptr() % 64 for tensor in networks.parameters())
    assert all(torch.equal(values[name], tensor) for name, tensor in networks.state_dict().items())


def test_a_pair_that_left_the_list_is_no_sample_any_more(pairs, tmp_path):
    encode_clips(str(pairs), str(tmp_path / "samples"), base="smoke")
    rows = read_rows(pairs, ["key"])
    write_rows(pairs, rows[:1])
    encode_clips(str(pairs), str(tmp_path / "samples"), base="smoke")
    assert find_samples(tmp_path / "samples") == [rows[0]["key"]]


@pytest.mark.slow
def test_two_lists_go_into_one_folder_and_a_half_written_one_is_refused(pairs, tmp_path):
    samples, rows = tmp_path / "samples", read_rows(pairs, ["key"])
    write_rows(tmp_path / "more.jsonl", [row | {"key": f"{row['key']}-more"} for row in rows])
    for name in ("pairs.jsonl", "more.jsonl"):
        encode_clips(str(tmp_path / name), str(samples), base="smoke")
    assert len(find_samples(samples)) == 4
    write_rows(tmp_path / "more.jsonl", rows)
    with pytest.raises(ValueError, match=r"is already a sample of ../pairs.jsonl in .*; choose another folder"):
        encode_clips(str(tmp_path / "more.jsonl"), str(samples), base="smoke", batch_size=1)
    begin_list(samples, "../third.jsonl", ["new"])
    with pytest.raises(ValueError, match=r"is not finished with ../third.jsonl; run data_tools.encode_clips again"):
        find_samples(samples)


@pytest.mark.slow
def test_two_processes_encode_each_pair_once(pairs, tmp_path, tree):
    encode_clips(str(pairs), str(tmp_path / "one"), base="smoke", batch_size=1)
    command = [sys.executable, "-m", "data_tools.encode_clips", str(pairs), str(tmp_path / "two"), "--base", "smoke"]
    command += ["--batch_size", "1", "--accelerator", "cpu", "--devices", "2"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert tree(tmp_path / "one") == tree(tmp_path / "two")


def test_unusable_pairs_are_listed_with_their_reason(pairs, tmp_path, write_video):
    rows = read_rows(pairs, ["key"])
    write_video(tmp_path / "short.mp4", 9)
    rows.append(rows[0] | {"key": "gone", "target": "nowhere.mp4"})
    rows.append(rows[0] | {"key": "hasty", "reference": "short.mp4"})
    rows.append(rows[0] | {"key": "brief", "n_frames": 9})
    rows.append(rows[0])
    rows.append(rows[0] | {"key": "../out"})
    rows.append(rows[0] | {"key": "odd", "n_frames": "17"})
    write_rows(pairs, rows)
    encode_clips(str(pairs), str(tmp_path / "samples"), base="smoke", duration=0.68)
    rejected = read_rows(tmp_path / "samples" / "rejected.jsonl", ["key", "reason", "detail"])
    reasons = {row["key"]: row["reason"] for row in rejected}
    refused = {rows[0]["key"]: "duplicate_key", "../out": "unsafe_key", "odd": "bad_row"}
    assert reasons == {"gone": "unreadable", "hasty": "reference_too_short", "brief": "too_short"} | refused
    assert len(find_samples(tmp_path / "samples")) == 2


def test_a_list_of_different_lengths_needs_a_duration():
    rows = [{"n_frames": 73}, {"n_frames": 121}, {"n_frames": 121}]
    with pytest.raises(ValueError, match=r"\(1 of 73, 2 of 121\); --duration 2.92 uses all"):
        common_length(rows, None, 25.0)
    assert common_length(rows, 2.92, 25.0) == 73
    assert common_length(rows[1:], None, 25.0) == 121
    with pytest.raises(ValueError, match=r"100 frames at 25 fps are not 8k \+ 1; use --duration 3.88 \(97 frames\)"):
        common_length(rows, 4.0, 25.0)


@pytest.mark.slow
def test_samples_of_two_lengths_do_not_fit_into_one_set(pairs, tmp_path):
    encode_clips(str(pairs), str(tmp_path / "samples"), base="smoke")
    encode_clips(str(pairs), str(tmp_path / "shorter"), base="smoke", duration=0.36)
    key = find_samples(tmp_path / "samples")[0]
    for suffix in ("latents.safetensors", "meta.json"):
        (tmp_path / "shorter" / f"{key}.{suffix}").replace(tmp_path / "samples" / f"{key}.{suffix}")
    message = r"has [23] latent frames, shard set has [23]; re-run data_tools.encode_clips with --duration 0.68"
    with pytest.raises(ShardError, match=message):
        write_shards(str(tmp_path / "samples"), str(tmp_path / "shards"), consent="signed")


def test_a_full_size_base_needs_weights(pairs, tmp_path):
    with pytest.raises(ValueError, match=r"base 'ltx2-19b' needs weights"):
        encode_clips(str(pairs), str(tmp_path / "samples"))


def test_the_same_samples_and_seed_give_the_same_shards(pairs, tmp_path):
    encode_clips(str(pairs), str(tmp_path / "samples"), base="smoke")
    for name in ("one", "two"):
        write_shards(str(tmp_path / "samples"), str(tmp_path / name), seed=3, consent="signed")
    index = (tmp_path / "one" / "index.json").read_text()
    assert index == (tmp_path / "two" / "index.json").read_text()
    assert json.loads(index)["codecs"] == "smoke"
