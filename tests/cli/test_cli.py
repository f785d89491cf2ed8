"""The `idlora` command: every subcommand on a tiny nano data set, and one sentence for every bad input."""

import json
import re
import shutil
import subprocess
import sys
import wave
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import save_file

from idlora_pl.cli import main
from idlora_pl.data.samples import PairSample
from idlora_pl.data.shards import write_shards
from idlora_pl.media.reading import read_clip, read_metadata
from idlora_pl.method.tokens import TextFeatures
from idlora_pl.nano.codecs import ASSETS
from idlora_pl.results.scores_file import read_scores

ROOT = Path(__file__).parents[2]
NANO, SMOKE = (str(ROOT / f"experiments/{name}.yaml") for name in ("nano", "smoke"))
PROMPT = "[VISUAL]: A person talks. [SPEECH]: aa ee [SOUNDS]: steady rain"
QUIET = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
BASE_ALONE = "--model.use_adapter=false"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every command runs in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["idlora"])
    return tmp_path


@pytest.fixture
def fit(nano_data: Path) -> Callable[..., None]:
    """Run `idlora fit` on the nano data; arguments are added."""

    def run(*arguments: str) -> None:
        shards = [f"--data.shards={nano_data}/train", f"--data.val_shards={nano_data}/validation"]
        steps = ["--trainer.max_steps=2", "--trainer.val_check_interval=2", "--data.batch_size=4"]
        main(["fit", "-c", NANO, *shards, *steps, "--model.lora={rank: 2, alpha: 2}", *QUIET, *arguments])

    return run


def fails(*arguments: str) -> str:
    """Run a command that must fail, and return its sentence."""
    with pytest.raises(SystemExit) as failure:
        main([*arguments, *QUIET])
    assert isinstance(failure.value.code, str)
    assert len(failure.value.code.splitlines()) == 1
    return failure.value.code


def predict(entry: dict[str, str], *arguments: str) -> list[str]:
    """Return the arguments that generate one entry."""
    Path("prompts.json").write_text(json.dumps([{"prompt": PROMPT} | entry]))
    adapter = arguments or [BASE_ALONE]
    return ["predict", "-c", NANO, "--model.sampling.steps=2", "--data.prompts=prompts.json", *adapter]


def test_a_run_is_trained_logged_resumed_and_not_replaced(fit, folder):
    fit("--run=run")
    names = {path.name for path in (folder / "run").iterdir()}
    assert names == {"adapter.safetensors", "best.ckpt", "checkpoints", "config.yaml", "metrics.csv"}
    log = (folder / "run/metrics.csv").read_text()
    assert "val/audio@0.5" in log
    checkpoint = next((folder / "run/checkpoints").glob("*.ckpt"))
    torch.load(checkpoint, weights_only=True)

    with pytest.raises(SystemExit, match="run holds an earlier run; give --run another folder, or continue"):
        fit("--run=run")
    assert (folder / "run/metrics.csv").read_text() == log

    fit("--run=run", f"--ckpt_path={checkpoint}", "--trainer.max_steps=3")
    with safe_open(folder / "run/adapter.safetensors", "pt") as file:
        assert file.metadata()["steps"] == "3"
    assert (folder / "run/metrics.csv").read_text() == log
    assert (folder / "run/resumed-2/config.yaml").is_file()


def test_progress_is_in_steps_unless_another_bar_is_named_or_none_is_wanted(fit, capsys):
    fit("--run=run", "--trainer.enable_progress_bar=true")
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "Training" in line]
    assert "2/2" in line
    named = "--trainer.callbacks+={class_path: lightning.pytorch.callbacks.TQDMProgressBar}"
    fit("--run=named", "--trainer.enable_progress_bar=true", named)
    assert "Epoch 0:" in capsys.readouterr().out
    fit("--run=quiet")
    assert "Training" not in capsys.readouterr().out


def test_a_run_without_a_logger_does_not_replace_one(folder):
    for name in ("adapter.safetensors", "config.yaml"):
        (folder / name).mkdir()
        (folder / name / name).write_text("kept")
        said = fails("fit", "-c", NANO, f"--run={name}", "--trainer.logger=false")
        assert f"{name} holds an earlier run; give --run another folder" in said


@pytest.mark.slow
def test_the_saved_config_repeats_a_run(fit, folder):
    fit("--run=first")
    main(["fit", "-c", "first/config.yaml", "--run=second"])
    states = []
    for run in ("first", "second"):
        with safe_open(folder / run / "adapter.safetensors", "pt") as file:
            states.append({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118 - no mapping
    assert all(torch.equal(weight, states[1][name]) for name, weight in states[0].items())


@pytest.mark.slow
def test_the_authors_training_runs_from_its_overlay_and_its_adapter_says_how_it_was_trained(fit, folder):
    overlay = ROOT / "experiments/ablations/reference_training.yaml"
    fit("-c", str(overlay), "--model.objective.noise_levels=stretched", "--run=run")
    config = yaml.safe_load((folder / "run/config.yaml").read_text())["model"]
    assert config["objective"] == {
        "first_frame_coin": "batch",
        "padding_in_loss": True,
        "target_precision": "stored",
        "noise_levels": "stretched",
    }
    with safe_open(folder / "run/adapter.safetensors", "pt") as file:
        metadata = file.metadata()
    assert (metadata["in_context.positions"], metadata["in_context.hidden_text"]) == ("bfloat16", "uniform")
    main([*predict({}, "--model.adapter=run/adapter.safetensors"), "--run=clips", *QUIET])
    assert list((folder / "clips/clips").glob("*.mp4"))


@pytest.mark.slow
def test_validate_prints_the_same_losses_twice_and_lower_ones_with_an_adapter(nano_data, capsys):
    def loss(*more: str) -> float:
        main(["validate", "-c", NANO, f"--data.val_shards={nano_data}/validation", "--run=run", *QUIET, *more])
        return float(re.search(r"val/loss\D+(\d+\.\d+)", capsys.readouterr().out)[1])

    base = loss()
    assert loss() == base
    assert loss(f"--model.adapter={ASSETS / 'adapter.safetensors'}") < base


def test_predict_writes_clips_test_scores_them_and_neither_replaces_any(nano_data, folder):
    prompts = f"--data.prompts={nano_data}/test/prompts.json"
    common = ["-c", NANO, prompts, "--model.sampling.steps=2", BASE_ALONE, *QUIET]
    main(["predict", *common, "--run=run"])
    assert read_clip(folder / "run/clips/item-0001.mp4").frames.shape[0] == 33
    main(["test", *common, "--run=tested"])
    assert [row.row for row in read_scores(folder / "tested/scores.jsonl")] == ["test", "test"]
    before = {path: path.read_bytes() for run in ("run", "tested") for path in (folder / run).rglob("*.*")}
    assert {"predict.yaml", "test.yaml"} <= {path.name for path in before}
    for run in ("run", "tested"):
        for command in ("predict", "test"):
            said = fails(command, *common, f"--run={run}")
            assert f"{run}/clips/item-0000.mp4 and 1 more of 2 clips of an earlier command would be replaced" in said
            assert "give --run another folder, or remove the clips and their scores" in said
    assert {path: path.read_bytes() for path in before} == before
    shutil.rmtree(folder / "tested/clips")
    said = fails("predict", *common, "--run=tested")
    assert "tested/scores.jsonl has scores of an earlier clip tested/clips/item-0000.mp4, which is gone" in said


@pytest.mark.slow
def test_the_sampling_seed_is_that_of_entries_without_one(folder):
    arguments = predict({}, BASE_ALONE, "--trainer.callbacks=[]", *QUIET)
    Path("prompts.json").write_text(json.dumps([{"prompt": PROMPT}, {"prompt": PROMPT, "seed": 3}]))
    made = {}
    for seed in (42, 100):
        main([*arguments, f"--model.sampling.seed={seed}", f"--run=run-{seed}"])
        made[seed] = [folder / f"run-{seed}/clips/{name}.mp4" for name in ("0000", "0001")]
    assert [read_metadata(path)["seed"] for path in made[42] + made[100]] == ["42", "3", "100", "3"]
    first, second = ([read_clip(path).frames for path in made[seed]] for seed in (42, 100))
    assert not torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])


@pytest.mark.parametrize("subcommand", ["predict", "test"])
def test_sampling_without_a_trained_adapter_is_refused(nano_data, folder, subcommand):
    said = fails(subcommand, "-c", NANO, f"--data.prompts={nano_data}/test/prompts.json", "--run=run")
    assert f"{subcommand} has no trained adapter: give --model.adapter FILE" in said
    assert "or --model.use_adapter=false" in said
    assert not (folder / "run").exists()


@pytest.mark.slow
def test_a_checkpoint_or_an_adapter_is_enough_to_sample(fit, folder):
    fit("--run=run")
    checkpoint = next((folder / "run/checkpoints").glob("*.ckpt"))
    resumed = [f"--ckpt_path={checkpoint}", "--model.lora={rank: 2, alpha: 2}"]
    for name, given in {"a": ["--model.adapter=run/adapter.safetensors"], "b": resumed}.items():
        main([*predict({}, *given), f"--run={name}", *QUIET])
    made = [read_clip(next((folder / name / "clips").glob("*.mp4"))).frames for name in "ab"]
    assert torch.equal(*made)


@pytest.mark.slow
def test_wandb_logs_offline_without_a_network(fit, folder, monkeypatch):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setattr("idlora_pl.cli.lightning.WANDB", ("127.0.0.1", 9))  # nobody listens there
    fit("--run=run", "--wandb=true")
    assert list((folder / "run/wandb").glob("offline-run-*"))
    assert (folder / "run/metrics.csv").is_file()


def test_a_scorer_can_be_named_in_a_yaml(nano_data, folder):
    Path("score.yaml").write_text(
        "trainer:\n  callbacks:\n    - class_path: idlora_pl.training.callbacks.ScoreClips\n      init_args:\n"
        "        row: mine\n        scorers: nano_phonemes\n"
    )
    prompts = [f"--data.prompts={nano_data}/test/prompts.json", "--model.sampling.steps=2", BASE_ALONE]
    main(["predict", "-c", NANO, "-c", "score.yaml", *prompts, "--run=run", *QUIET])
    rows = read_scores(folder / "run/scores.jsonl")
    assert {row.row for row in rows} == {"mine"}
    assert "phoneme_error_rate" in rows[0].scores
    assert rows[0].is_verified("phoneme_error_rate")


def test_shards_that_are_missing_or_of_another_base_are_refused(nano_data):
    assert "shard folder nowhere does not exist; give the folder of" in fails(
        "fit", "-c", NANO, "--data.shards=nowhere"
    )
    wrong = fails("fit", "-c", SMOKE, f"--data.shards={nano_data}/train")
    assert "was encoded for base 'nano', model.base is 'smoke'" in wrong


def test_shards_of_wrong_lengths_are_refused(folder):
    text = TextFeatures(torch.zeros(8, 32), torch.zeros(8, 32), torch.ones(8, dtype=torch.bool))
    sample = PairSample(torch.zeros(32, 9, 2, 2), torch.zeros(1, 31, 64), torch.zeros(1, 34, 64), text, {"key": "a"})
    write_shards([sample], folder / "short", codecs="nano")
    said = fails("fit", "-c", NANO, "--data.shards=short", "--data.val_shards=null")
    assert "short has 31 audio tokens, 33 frames need 33; encode the clips again" in said


def test_an_adapter_of_another_base_is_refused(fit):
    fit("--run=run", "--trainer.max_steps=1")
    said = fails(*predict({}, "--model.base=smoke", "--model.adapter=run/adapter.safetensors"))
    assert "adapter of base model 'nano', this model is 'smoke'" in said


def test_prompts_and_files_that_cannot_be_used_are_refused():
    with wave.open("empty.wav", "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
    Path("text.png").write_text("no picture")
    assert "empty.wav has an audio stream without samples" in fails(*predict({"reference_path": "empty.wav"}))
    assert "text.png cannot be decoded" in fails(*predict({"first_frame_path": "text.png"}))
    assert "entry 0: prompt section [VISUAL] is missing in 'hello'" in fails(*predict({"prompt": "hello"}))
    assert "has the word 'hello'; the nano world only" in fails(*predict({"prompt": PROMPT.replace("aa", "hello")}))
    arguments = predict({})
    Path("prompts.json").unlink()
    assert "prompts.json does not exist; pass an existing JSON file" in fails(*arguments)


def test_settings_that_cannot_be_used_are_refused(nano_data):
    assert "nowhere does not exist; correct model.weights" in fails("fit", "--model.weights=nowhere")
    assert "base 'ltx2-19b' needs weights" in fails("fit")
    assert "nowhere.st: no such file" in fails("fit", "-c", NANO, "--model.weights=nowhere.st")
    assert "sampling.batch_size must be at least 1; got 0" in fails(*predict({}, "--model.sampling.batch_size=0"))
    assert "sampling.steps must be at least 2; got 1" in fails(*predict({}, "--model.sampling.steps=1"))
    assert "data.prompts is not set" in fails("predict", "-c", NANO, BASE_ALONE)
    assert "data.val_shards is not set" in fails("validate", "-c", NANO, "--data.val_shards=null")
    smoke_test = fails("test", "-c", SMOKE, BASE_ALONE, f"--data.prompts={nano_data}/test/prompts.json")
    assert "only the nano world comes with scorers" in smoke_test
    with pytest.raises(SystemExit, match="nowhere.jsonl does not exist"):
        main(["table", "nowhere.jsonl"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="the accelerator is there")
def test_an_accelerator_that_is_not_there_is_refused():
    said = fails("fit", "-c", NANO, "--trainer.accelerator=gpu")
    assert "the trainer cannot run with these settings" in said
    assert "correct them, as with --trainer.accelerator=cpu" in said


def test_a_checkpoint_path_that_is_none_is_refused():
    Path("other.ckpt").write_text("no checkpoint")
    save_file({"weight": torch.zeros(2)}, "adapter.safetensors", {"base": "nano"})
    for name in ("other.ckpt", "adapter.safetensors"):
        said = fails(*predict({}, f"--ckpt_path={name}"))
        assert "the file of --ckpt_path is no checkpoint; give a .ckpt that `idlora fit` wrote" in said
        assert "or pass an adapter.safetensors with --model.adapter" in said


@pytest.mark.parametrize("content", [None, "rows: [a"])
def test_a_table_that_cannot_be_read_ends_in_a_sentence(content):
    if content is not None:
        Path("table.yaml").write_text(content)
    with pytest.raises(SystemExit, match=r"^idlora: table.yaml (does not exist; give|is not yaml .*; correct it)"):
        main(["table", "table.yaml"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model.sampling.stps=3"], "Option 'stps' is not accepted; did you mean model.sampling.steps?"),
        (["--model.lora.rang=3"], "unrecognized arguments: --model.lora.rang=3; did you mean model.lora.rank?"),
        (["-c", "bad.yaml"], "does not accept option 'model.first_frame_prob'; did you mean model.first_frame_p?"),
        (["-c", "none.yaml"], "File does not exist"),
        (["--model.lora.rank=many"], 'key "model.lora.rank": Expected a'),
        (["--model.in_context.placement=negativ"], "'negative', 'shared', 'zero', 'after']. Got value: negativ"),
        (["--model.in_context.positions=bf16"], "'float32', 'bfloat16', 'mixed']. Got value: bf16"),
        (["--model.objective.first_frame_coin=rank"], "'sample', 'batch']. Got value: rank"),
        (["--model.objective.padding_in_loss=some"], 'key "model.objective.padding_in_loss": Expected a'),
    ],
)
def test_misspelt_settings_are_one_line_and_status_2(capsys, arguments, message):
    Path("bad.yaml").write_text("model:\n  first_frame_prob: 1\n")
    with pytest.raises(SystemExit) as failure:
        main(["fit", *arguments])
    said = capsys.readouterr().err
    assert failure.value.code == 2
    assert message in said
    assert len(said.splitlines()) == 1


@pytest.mark.slow
def test_the_installed_command_ends_with_a_sentence_and_no_traceback():
    command = [sys.executable, "-m", "idlora_pl.cli", "fit", "-c", NANO, "--data.shards=nowhere", *QUIET]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith("idlora: shard folder nowhere does not exist")
    assert "Traceback" not in ended.stderr
    assert "args parameter" not in ended.stderr
