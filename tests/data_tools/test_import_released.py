"""What the authors' preprocessed data hold comes out of the shards, tensor for tensor."""

import csv
import json
import math
from collections import Counter

import pytest
import torch

from data_tools.import_released import import_released
from data_tools.inspect_shard import inspect_shard
from data_tools.verb.lists import read_rows
from idlora_pl.cli import main
from idlora_pl.data.datamodule import PairedClips
from idlora_pl.data.stream import open_shards


def run(source, output, **options):
    import_released(str(source), str(output), workers=options.pop("workers", 1), **options)
    return output


def test_every_tensor_comes_back_as_it_was_stored(tmp_path, make_files, save_item, read_set):
    for k in range(5):
        save_item(tmp_path / "in", f"a/{k}", make_files(k))
    samples = read_set(run(tmp_path / "in", tmp_path / "out"))
    assert sorted(samples) == [f"a/{k}" for k in range(5)]
    for k in range(5):
        files, sample = make_files(k), samples[f"a/{k}"]
        for found, folder, key in (
            (sample.target_video, "latents", "latents"),
            (sample.target_audio, "audio_latents", "latents"),
            (sample.reference, "audio_latents_clean", "latents"),
            (sample.text.video, "conditions", "prompt_embeds"),
            (sample.text.audio, "conditions", "prompt_embeds"),
        ):
            assert found.dtype == files[folder][key].dtype
            assert torch.equal(found, files[folder][key])
        assert torch.equal(sample.text.mask, files["conditions"]["prompt_attention_mask"] == 1)
        assert sample.meta["speaker"] is None
        assert "target_tokens" not in sample.meta


@pytest.mark.parametrize(("widths", "base"), [((3840,), "ltx2-19b"), ((4096, 2048), "ltx2.3-22b"), ((24,), "smoke")])
def test_the_base_is_found_from_the_text_features(tmp_path, make_files, save_item, read_set, widths, base):
    files = make_files(0, widths=widths, n_text=4)
    save_item(tmp_path / "in", "one", files)
    sample = read_set(run(tmp_path / "in", tmp_path / "out"))["one"]
    index = open_shards(str(tmp_path / "out")).index
    assert (index.codecs, index.settings["base"]) == (base, base)
    text = [value for key, value in files["conditions"].items() if key.endswith("prompt_embeds")]
    assert torch.equal(sample.text.video, text[0])
    assert torch.equal(sample.text.audio, text[-1])
    run(tmp_path / "in", tmp_path / "again", base=base)
    with pytest.raises(ValueError, match=r"none of 1 items could be imported; .*rejected.jsonl has the reasons"):
        run(tmp_path / "in", tmp_path / "other", base="nano")


def test_text_that_no_base_reads_ends_the_import(tmp_path, make_files, save_item):
    save_item(tmp_path / "in", "one", make_files(0, widths=(30,)))
    with pytest.raises(
        ValueError, match=r"most items have text features of widths 30x30, no base model does \(.*24x24"
    ):
        run(tmp_path / "in", tmp_path / "out")


def test_old_caches_with_flat_latents_and_old_names_are_read(tmp_path, make_files, save_item, read_set, capsys):
    files = make_files(3, grid=(3, 2, 1))
    latents = files["latents"]["latents"]
    flat = files["latents"] | {"latents": latents.permute(1, 2, 3, 0).reshape(6, 128).clone()}
    text = files.pop("conditions")
    save_item(tmp_path / "in", "x/latent_7", files | {"latents": flat})
    save_item(tmp_path / "in", "x/condition_7", {"conditions": text})
    samples = read_set(run(tmp_path / "in", tmp_path / "out"))
    assert torch.equal(samples["x/latent_7"].target_video, latents)
    assert torch.equal(samples["x/latent_7"].text.video, text["prompt_embeds"])
    assert "stored as flat tokens" in capsys.readouterr().out


@pytest.mark.parametrize("child", [".precomputed", "precomputed", "."])
@pytest.mark.parametrize("voices", ["reference_audio_latents", "audio_latents_clean"])
def test_both_names_of_the_references_and_a_child_folder_are_found(
    tmp_path, make_files, save_item, read_set, child, voices
):
    files = make_files(0)
    files = {voices if folder == "audio_latents_clean" else folder: content for folder, content in files.items()}
    save_item(tmp_path / "in" / child, "one", files)
    samples = read_set(run(tmp_path / "in", tmp_path / "out"))
    assert torch.equal(samples["one"].reference, files[voices]["latents"])


def test_references_under_both_names_need_a_choice(tmp_path, make_files, save_item, read_set):
    files = make_files(0)
    save_item(tmp_path / "in", "one", files | {"reference_audio_latents": make_files(1)["audio_latents_clean"]})
    with pytest.raises(
        ValueError, match=r"holds audio_latents_clean and reference_audio_latents; choose one with --ref"
    ):
        run(tmp_path / "in", tmp_path / "out")
    samples = read_set(run(tmp_path / "in", tmp_path / "out", reference_folder="audio_latents_clean"))
    assert torch.equal(samples["one"].reference, files["audio_latents_clean"]["latents"])


def test_lengths_are_cut_to_the_shortest_at_the_end_and_counted(released, tmp_path, make_files, read_set, capsys):
    samples = read_set(run(released, tmp_path / "out"))
    assert len(samples) == 10
    for k in range(10):
        sample = samples[f"speaker_{k % 2}/clip{k}"]
        files = make_files(k, n_target=16 + k % 3, n_reference=17 + k % 2)
        assert torch.equal(sample.target_audio, files["audio_latents"]["latents"][:, :16])
        assert torch.equal(sample.reference, files["audio_latents_clean"]["latents"][:, :17])
        assert torch.equal(sample.target_video, files["latents"]["latents"])
    changed = open_shards(str(tmp_path / "out")).index.settings["tokens_cut_or_padded"]
    assert changed == {"target": {"1": 3, "2": 3}, "reference": {"1": 5}}
    assert "target cut by 2 tokens" in capsys.readouterr().out


def test_a_wanted_length_refuses_what_is_shorter(released, tmp_path, read_set):
    samples = read_set(run(released, tmp_path / "out", target_tokens=17, reference_tokens=18))
    assert {tuple(s.target_audio.shape) for s in samples.values()} == {(8, 17, 16)}
    rejected = read_rows(tmp_path / "out" / "rejected.jsonl", ["key", "file", "reason", "detail"])
    assert {row["reason"] for row in rejected} == {"length"}
    lengths = {f"speaker_{k % 2}/clip{k}": (16 + k % 3, 17 + k % 2) for k in range(10)}
    short = {name for name, (target, voice) in lengths.items() if target < 17 or voice < 18}
    assert {row["key"] for row in rejected} == short
    assert set(samples) == set(lengths) - short
    with pytest.raises(ValueError, match=r"target_tokens 12 is outside 16-18, what is allowed for 17 frames; widen"):
        run(released, tmp_path / "short", target_tokens=12)


def test_every_pair_of_lengths_gets_a_set_of_its_own(released, tmp_path, make_files, read_set):
    run(released, tmp_path / "out", lengths="split")
    folders = sorted(path.name for path in (tmp_path / "out").iterdir() if path.is_dir())
    assert folders == [f"t{target}-r{voice}" for target in (16, 17, 18) for voice in (17, 18)]
    found = {}
    for folder in folders:
        samples = read_set(tmp_path / "out" / folder)
        found |= samples
        for sample in samples.values():
            assert f"t{sample.target_audio.shape[1]}-r{sample.reference.shape[1]}" == folder
    assert len(found) == 10
    stored = make_files(4, n_target=17, n_reference=17)["audio_latents"]["latents"]
    assert torch.equal(found["speaker_0/clip4"].target_audio, stored)
    with pytest.raises(ValueError, match="lengths 'split' makes a set for every length; leave out --target_tokens"):
        run(released, tmp_path / "other", lengths="split", target_tokens=17)


def test_padding_is_zeros_at_the_end_and_the_true_lengths_are_told(released, tmp_path, make_files, read_set):
    samples = read_set(run(released, tmp_path / "out", lengths="pad"))
    for k in range(10):
        sample = samples[f"speaker_{k % 2}/clip{k}"]
        n_target, n_reference = 16 + k % 3, 17 + k % 2
        files = make_files(k, n_target=n_target, n_reference=n_reference)
        assert (sample.meta["target_tokens"], sample.meta["reference_tokens"]) == (n_target, n_reference)
        assert sample.target_audio.shape[1] == sample.reference.shape[1] == 18
        assert torch.equal(sample.target_audio[:, :n_target], files["audio_latents"]["latents"])
        assert torch.equal(sample.reference[:, :n_reference], files["audio_latents_clean"]["latents"])
        assert not sample.target_audio[:, n_target:].any()
        assert not sample.reference[:, n_reference:].any()


def test_metadata_gives_prompt_speaker_and_voice_by_the_fields_that_are_named(released, tmp_path, read_set, capsys):
    text = (released / "metadata.jsonl").read_text()
    sample = read_set(run(released, tmp_path / "out"))["speaker_1/clip3"]
    assert (sample.meta["speaker"], sample.meta["prompt"][-1]) == ("speaker_1", "3")
    assert sample.meta["reference_source"] == "videos/speaker_1/clip3-voice.mp4"
    (released / "metadata.jsonl").write_text(text.replace("media_path", "file").replace('"speaker":', '"who":'))
    with pytest.raises(
        ValueError, match=r"has no path under 'media_path' \(its fields: caption, file, .*--video_field"
    ):
        run(released, tmp_path / "other")
    samples = read_set(run(released, tmp_path / "named", video_field="file", speaker_field="who"))
    assert Counter(sample.meta["speaker"] for sample in samples.values()) == {"speaker_0": 5, "speaker_1": 5}
    samples = read_set(run(released, tmp_path / "without", metadata="none"))
    assert {sample.meta["speaker"] for sample in samples.values()} == {None}
    assert "of an unknown speaker" in capsys.readouterr().out
    inspect_shard(str(tmp_path / "without"), verify=True)
    assert "1 speakers" in capsys.readouterr().out


def test_consent_is_written_into_the_index(released, tmp_path):
    assert open_shards(str(run(released, tmp_path / "one"))).index.settings["consent"] == "unknown"
    index = open_shards(str(run(released, tmp_path / "two", consent="public benchmark"))).index
    assert index.settings["consent"] == "public benchmark"


@pytest.mark.slow
def test_order_of_writing_and_number_of_workers_change_no_byte(released, tmp_path, make_files, save_item, tree):
    first = tree(run(released, tmp_path / "one", samples_per_shard=3))
    assert len(first) == 6
    for k in reversed(range(10)):
        name = f"speaker_{k % 2}/clip{k}"
        save_item(tmp_path / "later", name, make_files(k, n_target=16 + k % 3, n_reference=17 + k % 2))
    (tmp_path / "later" / "metadata.jsonl").write_bytes((released / "metadata.jsonl").read_bytes())
    assert tree(run(tmp_path / "later", tmp_path / "two", samples_per_shard=3)) == first
    assert tree(run(released, tmp_path / "three", samples_per_shard=3, workers=2)) == first
    other = tree(run(released, tmp_path / "four", samples_per_shard=3, seed=1))
    assert other.keys() == first.keys()
    assert other["index.json"] != first["index.json"]


def test_unusual_names_become_usable_keys(tmp_path, make_files, save_item, read_set):
    names = ["a/b", "a__b", "ä ö", "x" * 90, "dot.ted"]
    for k, name in enumerate(names):
        save_item(tmp_path / "in", name, make_files(k))
    samples = read_set(run(tmp_path / "in", tmp_path / "out"))
    assert sorted(samples) == sorted(names)
    assert len({sample.key for sample in samples.values()}) == 5


def test_another_precision_is_refused_or_converted(tmp_path, make_files, save_item, read_set):
    files = make_files(0)
    files["audio_latents"]["latents"] = files["audio_latents"]["latents"].bfloat16()
    save_item(tmp_path / "in", "rounded", files)
    save_item(tmp_path / "in", "whole", make_files(1))
    run(tmp_path / "in", tmp_path / "strict")
    (row,) = read_rows(tmp_path / "strict" / "rejected.jsonl", ["key"])
    assert (row["key"], row["reason"], row["file"]) == ("rounded", "wrong_dtype", "audio_latents/rounded.pt")
    sample = read_set(run(tmp_path / "in", tmp_path / "out", precision="convert"))["rounded"]
    assert sample.target_audio.dtype == torch.float32
    assert torch.equal(sample.target_audio, files["audio_latents"]["latents"].float())


def test_a_missing_rate_is_refused_unless_it_is_told(tmp_path, make_files, save_item, read_set):
    files = make_files(0)
    del files["latents"]["fps"]
    save_item(tmp_path / "in", "one", files)
    with pytest.raises(ValueError, match="none of 1 items could be imported"):
        run(tmp_path / "in", tmp_path / "out")
    assert len(read_set(run(tmp_path / "in", tmp_path / "out", missing_fps=25.0))) == 1


@pytest.mark.slow
@pytest.mark.parametrize(("lengths", "padding_in_loss"), [("cut", False), ("pad", False), ("pad", True)])
def test_imported_sets_train_the_smoke_model(released, tmp_path, monkeypatch, lengths, padding_in_loss):
    run(released, tmp_path / "out", lengths=lengths)
    (batch, *_) = PairedClips(str(tmp_path / "out"), batch_size=2, num_workers=0).train_dataloader()
    assert batch.target_audio.shape == (2, 8, 16 if lengths == "cut" else 18, 16)
    monkeypatch.chdir(tmp_path)
    values = {
        "data.shards": tmp_path / "out",
        "trainer.max_steps": 3,
        "trainer.log_every_n_steps": 1,
        "trainer.accelerator": "cpu",
    }
    values |= {"data.num_workers": 0, "data.batch_size": 2, "model.base": "smoke"}
    values["model.objective.padding_in_loss"] = str(padding_in_loss).lower()
    main(["fit", "--run", str(tmp_path / "run"), *(f"--{name}={value}" for name, value in values.items())])
    with open(tmp_path / "run" / "metrics.csv") as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file) if row["loss"]]
    assert len(losses) == 3
    assert all(math.isfinite(loss) for loss in losses)


def test_the_report_is_there_and_empty_when_nothing_is_refused(released, tmp_path):
    run(released, tmp_path / "out")
    assert (tmp_path / "out" / "rejected.jsonl").read_text() == ""
    assert json.loads((tmp_path / "out" / "index.json").read_text())["settings"]["rejected"] == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "released"]
