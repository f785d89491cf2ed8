"""Under two ranks, what a run generates is generated and scored once, and means are over all of it."""

import csv
import json

import pytest
from lightning.pytorch.loggers import CSVLogger

from idlora_pl.results.scores_file import read_scores
from idlora_pl.training.callbacks import SampleClips, ScoreClips, WriteClips

RANKS = {"devices": 2, "strategy": "ddp_spawn", "enable_checkpointing": False}


@pytest.fixture
def three(nano_data, tmp_path):
    """A prompt file of three entries, which two ranks cannot share evenly."""
    first, second = json.loads((nano_data / "test/prompts.json").read_text())
    for entry in (first, second):
        for name in entry:
            if name.endswith("_path"):
                entry[name] = str(nano_data / "test" / entry[name])
    path = tmp_path / "three.json"
    path.write_text(json.dumps([first, second, first | {"output_name": "item-0002", "seed": 7}]))
    return path


def keys(path):
    return sorted((row.row, row.key) for row in read_scores(path))


@pytest.mark.slow
def test_a_test_on_two_ranks_is_that_of_one(make_module, make_trainer, make_data, three, tmp_path):
    found = {}
    for name, ranks in (("one", {"devices": 1, "enable_checkpointing": False}), ("two", RANKS)):
        folder = tmp_path / name
        callbacks = [
            WriteClips(str(folder / "clips")),
            ScoreClips(scorers="nano", row="r", scores=str(folder / "s.jsonl")),
        ]
        trainer = make_trainer(callbacks=callbacks, **ranks)
        (means,) = trainer.test(make_module(use_adapter=False), datamodule=make_data(shards=None, prompts=str(three)))
        assert keys(folder / "s.jsonl") == [("r", f"item-{k:04d}") for k in range(3)]
        assert len(list((folder / "clips").glob("*.mp4"))) == 3
        found[name] = means, {row.key: row.scores for row in read_scores(folder / "s.jsonl")}
    assert found["two"][0]["test/lip_sync/n_scored"] == 3
    # sampled in other batches: the last digits of a bfloat16 base differ
    assert found["two"][0] == pytest.approx(found["one"][0], abs=5e-3)
    for key, scores in found["one"][1].items():
        assert found["two"][1][key] == pytest.approx(scores, abs=5e-3)


@pytest.mark.slow
def test_validation_samples_on_two_ranks_are_scored_once(
    make_module, make_trainer, make_data, nano_data, three, tmp_path
):
    logger = CSVLogger(tmp_path, name=None, version="")
    callbacks = [SampleClips(str(three)), ScoreClips(scorers="nano_phonemes,nano_speaker")]
    trainer = make_trainer(callbacks=callbacks, max_steps=1, val_check_interval=1, **RANKS | {"logger": logger})
    trainer.fit(make_module(), datamodule=make_data(val_shards=str(nano_data / "validation")))
    assert keys(tmp_path / "scores.jsonl") == [("step-000001", f"item-{k:04d}") for k in range(3)]
    assert len(list((tmp_path / "samples/step-000001").glob("*.mp4"))) == 3
    with open(tmp_path / "metrics.csv") as file:
        logged = [line["val/speaker_similarity/n_scored"] for line in csv.DictReader(file)]
    assert "3.0" in logged
