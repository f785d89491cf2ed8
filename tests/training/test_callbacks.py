"""Adapters are saved with their recipe; clips of a run are written, scored and logged."""

import csv
import hashlib
import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch.loggers import CSVLogger
from safetensors import safe_open

from idlora_pl.benchmark.items import Item
from idlora_pl.cli.table import known_columns
from idlora_pl.generation.pipeline import IDLoRAPipeline
from idlora_pl.ltx2.adapter_file import read_adapter
from idlora_pl.ltx2.adapter_format import LoRA
from idlora_pl.media.clip import Clip, MediaError
from idlora_pl.media.reading import read_audio, read_clip, read_metadata
from idlora_pl.method.in_context import InContext
from idlora_pl.report.build import build_table
from idlora_pl.results.row import ScoreRow
from idlora_pl.results.scores_file import read_scores
from idlora_pl.training.callbacks import SampleClips, SaveAdapter, ScoreClips, WriteClips, means
from idlora_pl.training.saving import write_made
from tests.media.conftest import write_floats


def test_a_saved_adapter_gives_the_recipe_back(make_module, make_trainer, make_data, tmp_path):
    recipe = InContext(placement="shared", video_sees_reference=True)
    trainer = make_trainer(max_steps=1, callbacks=[SaveAdapter()], enable_checkpointing=False)
    trainer.fit(make_module(in_context=recipe), datamodule=make_data())
    path = tmp_path / "adapter.safetensors"
    assert IDLoRAPipeline.from_pretrained("nano", adapter=path).in_context == recipe
    assert make_module(adapter=str(path)).in_context == recipe
    with safe_open(path, "pt") as file:
        about = file.metadata()
    assert (about["base_model"], about["rank"], about["steps"], about["seed"]) == ("nano", "2", "1", "42")
    assert (about["run"], about["consent"]) == (tmp_path.name, "not needed: synthetic faces and voices")
    assert about["ai_label"].startswith("AI-generated")
    assert "config_sha256" not in about


def test_a_saved_adapter_names_the_configuration_of_its_run(make_module, make_trainer, make_data, tmp_path):
    (tmp_path / "config.yaml").write_text("seed: 1\n")
    style = "diffusers"
    trainer = make_trainer(max_steps=1, callbacks=[SaveAdapter(style=style)], enable_checkpointing=False)
    trainer.fit(make_module(lora=LoRA(rank=2, alpha=3.0)), datamodule=make_data())
    adapter = read_adapter(tmp_path / "adapter.safetensors")
    assert adapter.metadata["config_sha256"] == hashlib.sha256(b"seed: 1\n").hexdigest()
    assert adapter.lora.alpha == 3.0


def test_an_alpha_that_cannot_be_saved_ends_the_run_before_it_starts(make_module, make_trainer, make_data, tmp_path):
    trainer = make_trainer(max_steps=1, callbacks=[SaveAdapter()], enable_checkpointing=False)
    with pytest.raises(ValueError, match="alpha 3 of rank 2 cannot be multiplied .* use style diffusers"):
        trainer.fit(make_module(lora=LoRA(rank=2, alpha=3.0)), datamodule=make_data())
    assert trainer.global_step == 0


def test_clips_are_sampled_written_scored_and_logged_during_training(
    make_module, make_trainer, make_data, nano_data, tmp_path
):
    callbacks = [SampleClips(str(nano_data / "test/prompts.json"), scale=2), ScoreClips("nano")]
    trainer = make_trainer(
        max_steps=2,
        callbacks=callbacks,
        enable_checkpointing=False,
        logger=CSVLogger(tmp_path, name=None, version=""),
        val_check_interval=2,
    )
    module, data = make_module(), make_data(val_shards=str(nano_data / "validation"))
    trainer.fit(module, datamodule=data)
    trainer.validate(module, datamodule=data)  # the same step again, as when a run goes on from an older checkpoint

    clip = read_clip(tmp_path / "samples/step-000002/item-0001.mp4")
    assert clip.frames.shape == (33, 3, 128, 128)
    assert clip.waveform.shape[1] > 0
    rows = read_scores(tmp_path / "scores.jsonl")
    assert [(row.key, row.row) for row in rows] == [("item-0000", "step-000002"), ("item-0001", "step-000002")]
    assert {"speaker_similarity", "lip_sync", "phoneme_error_rate", "environment_accuracy"} <= rows[0].scores.keys()
    assert (tmp_path / rows[0].notes["clip"]).is_file()
    with open(tmp_path / "metrics.csv") as file:
        logged = {name for line in csv.DictReader(file) for name, value in line.items() if value}
    assert {"val/speaker_similarity/n_scored", "val/speaker_similarity/n_total", "val/loss", "val/video@0.5"} <= logged


def test_a_test_that_runs_again_replaces_its_scores(make_module, make_trainer, make_data, nano_data, tmp_path):
    for n_before in (0, 4):
        if n_before:
            assert len((tmp_path / "scores.jsonl").read_text().splitlines()) == n_before
        trainer = make_trainer(callbacks=[ScoreClips(scorers="nano_phonemes,nano_speaker")], enable_checkpointing=False)
        data = make_data(shards=None, prompts=str(nano_data / "test/prompts.json"))
        trainer.test(make_module(use_adapter=False), datamodule=data)
    rows = read_scores(tmp_path / "scores.jsonl")
    assert [(row.notes["manifest"], row.notes["manifest_items"]) for row in rows] == [("prompts", "2")] * 2
    assert "av" in rows[0].scorers["nano_speaker"].versions
    assert len((tmp_path / "scores.jsonl").read_text().splitlines()) == 4


@pytest.mark.parametrize("stage", ["predict", "test"])
def test_generated_clips_are_written_with_a_label_and_scored(
    make_module, make_trainer, make_data, nano_data, tmp_path, stage
):
    callbacks = [WriteClips(), ScoreClips("nano", row="negative")]
    trainer = make_trainer(callbacks=callbacks, enable_checkpointing=False)
    data = make_data(shards=None, prompts=str(nano_data / "test/prompts.json"))
    getattr(trainer, stage)(make_module(use_adapter=False), datamodule=data)
    about = read_metadata(tmp_path / "clips/item-0000.mp4")
    assert "AI-generated" in " ".join(about.values())
    assert [row.row for row in read_scores(tmp_path / "scores.jsonl")] == ["negative", "negative"]
    if stage == "test":
        assert trainer.callback_metrics["test/lip_sync/n_scored"] == 2


def made_clips(broken: float | None) -> list:
    """Three clips of which the sound of the second has a sample that is no number."""
    clips = [Clip(torch.zeros(5, 3, 64, 64, dtype=torch.uint8), torch.rand(1, 3200), 25.0, 16000) for _ in range(3)]
    if broken is not None:
        clips[1].waveform[0, 7] = broken
    return [(Item(name, "p", 1), clip) for name, clip in zip("abc", clips, strict=True)]


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("stage", ["predict", "test"])
def test_a_clip_that_cannot_be_written_costs_no_other_one_and_is_named(make_trainer, tmp_path, stage, value):
    callback, trainer = WriteClips(), make_trainer(enable_checkpointing=False)
    if stage == "predict":
        callback.write_on_batch_end(trainer, None, made_clips(value))
        callback.write_on_batch_end(trainer, None, [made_clips(None)[0]])
    else:
        callback.on_test_batch_end(trainer, None, {"made": made_clips(value)})
    assert sorted(path.name for path in (tmp_path / "clips").iterdir()) == ["a.mp4", "c.mp4"]
    with pytest.raises(MediaError, match=r"1 clips were not written: .*/b\.mp4 has samples that are infinite or not a"):
        getattr(callback, f"on_{stage}_end")(trainer, None)


def test_a_folder_in_the_place_of_a_clip_costs_no_other_one_and_is_named(tmp_path):
    (tmp_path / "b.mp4").mkdir()
    with pytest.raises(MediaError, match=r"1 of 3 clips were not written: .*b\.mp4"):
        write_made(made_clips(None), tmp_path, 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4", "b.mp4", "c.mp4"]


@pytest.mark.parametrize(("value", "message"), [(torch.nan, "infinite or not a number"), (0.0, "is silent")])
def test_a_voice_that_cannot_be_used_is_named_before_anything_is_sampled(
    make_module, make_trainer, make_data, nano_data, tmp_path, value, message
):
    names = ("reference_path", "first_frame_path")
    good = [
        {"prompt": entry["prompt"], **{name: str(nano_data / "test" / entry[name]) for name in names}}
        for entry in json.loads((nano_data / "test/prompts.json").read_text())
    ]
    voice, rate_hz = read_audio(good[1]["reference_path"])
    write_floats(tmp_path / "bad.wav", (voice * 0 + value).numpy(), rate_hz)
    good[1]["reference_path"] = str(tmp_path / "bad.wav")
    (tmp_path / "prompts.json").write_text(json.dumps(good))
    trainer = make_trainer(callbacks=[WriteClips()], enable_checkpointing=False)
    with pytest.raises(MediaError, match=rf"bad\.wav .*{message}"):
        trainer.predict(make_module(), datamodule=make_data(shards=None, prompts=str(tmp_path / "prompts.json")))
    assert not (tmp_path / "clips").exists()
    with pytest.raises(MediaError, match=rf"bad\.wav .*{message}"):
        make_trainer(callbacks=[SampleClips(str(tmp_path / "prompts.json"))], max_steps=1).fit(
            make_module(), datamodule=make_data()
        )


def test_means_are_over_the_clips_that_have_a_score():
    scores = [{"a": 1.0, "b": None}, {"a": 3.0, "b": None}, {"a": None, "b": None}]
    reason = {"a": "silent", "b": "silent"}
    rows = [ScoreRow(str(k), "row", "s", scores=score, reasons=reason) for k, score in enumerate(scores)]
    assert means(rows, "val") == {
        "val/a/n_scored": 2.0, "val/a/n_total": 3.0, "val/a/n_silent": 1.0, "val/a": 2.0,
        "val/b/n_scored": 0.0, "val/b/n_total": 3.0, "val/b/n_silent": 3.0,
    }  # fmt: skip


LAGS = st.dictionaries(
    st.tuples(st.integers(0, 5), st.integers(0, 2)), st.none() | st.floats(-15, 15, allow_subnormal=False), min_size=1
)


@given(LAGS, st.sampled_from(["nano_lip_offset", "lip_offset", "lip_lag_landmarks", "lip_sync", "wer"]))
def test_what_is_logged_is_what_a_table_prints(values: dict[tuple[int, int], float | None], name: str):
    rows = [
        ScoreRow(str(key), "ours", f"s{key}", seed, {name: value}, {name: "silent"})
        for (key, seed), value in values.items()
    ]
    logged = means(rows, "val")
    cell = build_table(rows, ["ours"], [known_columns()[name]]).cell("ours", name)
    assert logged.get(f"val/{name}") == (None if cell.mean is None else pytest.approx(cell.mean, abs=1e-9))
    assert (logged[f"val/{name}/n_scored"], logged[f"val/{name}/n_total"]) == (cell.n_scored, cell.n_total)


def test_lags_to_both_sides_do_not_cancel_when_they_are_logged():
    rows = [
        ScoreRow(str(lag), "step", "s", scores={"nano_lip_offset": lag, "unknown": lag})
        for lag in (-3.0, 3.0, -2.0, 2.0)
    ]
    logged = means(rows, "val")
    assert (logged["val/nano_lip_offset"], logged["val/unknown"]) == (2.5, 0.0)
