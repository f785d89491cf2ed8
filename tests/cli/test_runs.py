"""The folder of a run: what a training leaves in it, how it goes on, and what is refused before anything is written."""

import csv
import hashlib
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import lightning
import pytest
import torch
import yaml
from lightning.pytorch.callbacks import Callback
from safetensors import safe_open

from idlora_pl.benchmark.items import PromptError, read_prompts
from idlora_pl.cli import main
from idlora_pl.cli.replaced_lists import replaced_lists
from idlora_pl.data.samples import PairSample
from idlora_pl.data.shards import write_shards
from idlora_pl.method.noise import END
from idlora_pl.method.tokens import TextFeatures
from idlora_pl.training.run_folder import refuse_finished, refuse_no_folder, start_of

SMOKE = str(Path(__file__).parents[2] / "experiments/smoke.yaml")
QUIET = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
HERE = "tests.cli.test_runs"


class Send(Callback):
    """Sends its process a signal at a step, while it trains or validates."""

    def __init__(self, step: int, number: int, place: str = "training", times: int = 1) -> None:
        self.step, self.number, self.place, self.times = step, number, place, times

    def send(self, trainer: lightning.Trainer, place: str) -> None:
        if place == self.place and trainer.global_step == self.step and trainer.state.fn == "fit":
            for _ in range(self.times):
                os.kill(os.getpid(), self.number)
            self.times = 0

    def on_train_batch_start(self, trainer: lightning.Trainer, *_: object) -> None:
        self.send(trainer, "training")

    def on_validation_batch_start(self, trainer: lightning.Trainer, *_: object) -> None:
        self.send(trainer, "validation")

    def on_train_epoch_end(self, trainer: lightning.Trainer, *_: object) -> None:
        if self.place == "failure" and trainer.global_step >= self.step:
            raise RuntimeError("the disk is on fire")


class Stop(Callback):
    """Asks for an end after the first batch of the second step, as `trainer.max_time` may."""

    def on_train_batch_start(self, trainer: lightning.Trainer, *_: object) -> None:
        self.is_second = trainer.global_step == 1

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: object) -> None:
        trainer.should_stop = self.is_second


def sample(key: int, content: int = 0) -> PairSample:
    """A random pair of the smoke base."""
    random = torch.Generator().manual_seed(key + 1000 * content)
    text = [torch.randn(8, 24, generator=random) for _ in range(2)]
    shapes = ((128, 3, 2, 2), (8, 17, 16), (8, 9, 16))
    latents = [torch.randn(*shape, generator=random) for shape in shapes]
    return PairSample(*latents, TextFeatures(*text, torch.ones(8, dtype=torch.bool)), {"key": f"c{key}"})


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every command runs in a folder with a shard set of three batches, `shards`, and none of a run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["idlora"])
    write_shards((sample(key) for key in range(6)), tmp_path / "shards", samples_per_shard=3, codecs="smoke")
    return tmp_path


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose `run` was trained for two steps, validated, and resumed for a third."""
    place = tmp_path_factory.mktemp("kept")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setattr("sys.argv", ["idlora"])
        write_shards((sample(key) for key in range(6)), place / "shards", samples_per_shard=3, codecs="smoke")
        validated = ["--data.val_shards=shards", "--trainer.val_check_interval=2"]
        fit("--run=run", *validated)
        fit("--run=run", *validated, "--ckpt_path=last", steps=3)
    return place


@pytest.fixture
def run(kept: Path, folder: Path) -> Path:
    """A copy of that run."""
    shutil.copytree(kept / "run", folder / "run")
    return folder / "run"


def fit(*arguments: str, steps: int = 2) -> None:
    """Train on the shards."""
    usual = ["--data.shards=shards", f"--trainer.max_steps={steps}", "--model.gradient_checkpointing=false"]
    main(["fit", "-c", SMOKE, *usual, "--trainer.log_every_n_steps=1", *QUIET, *arguments])


def idlora(*arguments: str) -> None:
    """Run a command."""
    main(list(arguments))


def fails(run: Callable[..., None], *arguments: str) -> str:
    """Run a command that must fail, and return its sentence."""
    with pytest.raises(SystemExit) as failure:
        run(*arguments)
    assert isinstance(failure.value.code, str), failure.value.code
    assert len(failure.value.code.splitlines()) == 1
    return failure.value.code


def files(place: Path) -> dict[str, bytes]:
    """Return the content of every file of a folder."""
    return {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()}


def adapter(run: str) -> dict[str, torch.Tensor]:
    """Return the tensors of a run's adapter."""
    with safe_open(f"{run}/adapter.safetensors", "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping


def facts(run: str) -> dict[str, str]:
    """Return what a run's adapter tells of itself."""
    with safe_open(f"{run}/adapter.safetensors", "pt") as file:
        return file.metadata()


def same(first: str, second: str) -> bool:
    """Whether two runs trained the same adapter."""
    one, other = adapter(first), adapter(second)
    return all(torch.equal(weight, other[name]) for name, weight in one.items())


def losses(run: str) -> list[tuple[str, str]]:
    """Return step and loss of every line of a run's metrics.csv that has a loss."""
    with open(f"{run}/metrics.csv", newline="") as file:
        return [(line["step"], line["loss"]) for line in csv.DictReader(file) if line["loss"]]


# -- what keeps the result ------------------------------------------------------------------------------------------

OVERLAY = "trainer:\n  callbacks:\n    - class_path: lightning.pytorch.callbacks.LearningRateMonitor\n"
WAYS = {
    "none": [],
    "null": ["--trainer.callbacks=null"],
    "an empty list": ["--trainer.callbacks=[]"],
    "one on the command line": ["--trainer.callbacks=LearningRateMonitor"],
    "one more on the command line": ["-c", "overlay.yaml", "--trainer.callbacks+=LearningRateMonitor"],
    "an overlay": ["-c", "overlay.yaml"],
    "an overlay that adds": ["-c", "adds.yaml"],
    "a checkpoint of one's own": ['--trainer.callbacks={"class_path":"ModelCheckpoint","init_args":{"dirpath":"own"}}'],
}


@pytest.mark.parametrize("way", WAYS)
def test_a_training_keeps_its_result_whatever_callbacks_are_given(folder, way):
    Path("overlay.yaml").write_text(OVERLAY)
    Path("adds.yaml").write_text(OVERLAY.replace("callbacks:", "callbacks+:"))
    fit("--run=run", *WAYS[way])
    assert {"adapter.safetensors", "config.yaml", "metrics.csv"} <= files(folder / "run").keys()
    assert facts("run")["steps"] == "2"
    assert "checkpoints/step-000002.ckpt" in files(folder / "run")
    checkpoint = torch.load("run/checkpoints/step-000002.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 2


def test_named_callbacks_keep_their_settings():
    Path("named.yaml").write_text(
        "trainer:\n  callbacks:\n"
        "    - {class_path: idlora_pl.training.callbacks.SaveAdapter, init_args: {style: diffusers}}\n"
        "    - {class_path: idlora_pl.training.callbacks.SaveCheckpoints, init_args: {every_n_steps: 1, keep: 3}}\n"
    )
    fit("--run=run", "-c", "named.yaml", steps=4)
    assert all(name.startswith("transformer.") for name in adapter("run"))
    assert sorted(path.name for path in Path("run/checkpoints").iterdir()) == [f"step-00000{n}.ckpt" for n in (2, 3, 4)]


def test_checkpoints_can_be_left_out_and_the_adapter_cannot(folder):
    fit("--run=run", "--trainer.enable_checkpointing=false")
    assert files(folder / "run").keys() == {"adapter.safetensors", "config.yaml", "metrics.csv"}


@pytest.mark.slow
def test_the_best_checkpoint_is_that_of_the_lowest_validation_loss(folder):
    fit("--run=run", "--data.val_shards=shards", "--trainer.val_check_interval=1", steps=3)
    with open("run/metrics.csv", newline="") as file:
        found = {int(line["step"]) + 1: float(line["val/loss"]) for line in csv.DictReader(file) if line["val/loss"]}
    assert len(found) == 3
    assert torch.load("run/best.ckpt", weights_only=True)["global_step"] == min(found, key=found.get)
    assert [path.name for path in Path("run/checkpoints").iterdir()] == ["step-000003.ckpt"]


def test_a_command_says_where_its_result_is(capsys):
    fit("--run=a run")
    said = "idlora: trained to step 2; the adapter is 'a run/adapter.safetensors', the checkpoint "
    assert said + "'a run/checkpoints/step-000002.ckpt'\n" in capsys.readouterr().err
    idlora(*command("predict"), "--ckpt_path=last", "--run=a run")
    assert "idlora: the clips are in 'a run/clips'\n" in capsys.readouterr().err


def test_a_list_that_is_replaced_is_named(capsys):
    Path("overlay.yaml").write_text(OVERLAY)
    Path("targets.yaml").write_text("model: {lora: {targets: [attn1.to_q]}}\n")
    Path("more.yaml").write_text("model: {lora: {targets: [attn1.to_k]}}\ntrainer:\n  callbacks+: []\n")
    fit("-c", "overlay.yaml", "-c", "targets.yaml", "-c", "more.yaml", "--trainer.callbacks=[]", "--run=run")
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("idlora:")]
    assert said[:-1] == [
        "idlora: more.yaml replaces model.lora.targets of targets.yaml, which had 1 (to_q); "
        "to add to them, write `targets+:` in its place",
        "idlora: --trainer.callbacks replaces trainer.callbacks of overlay.yaml, which had 1 (LearningRateMonitor); "
        "to add to them, write `--trainer.callbacks+=` in its place",
    ]


@pytest.mark.parametrize(
    ("files", "arguments", "replaced"),
    [
        (["a: [x]", "a: [y]"], [], ["a"]),
        (["a: [x]", "a: [x]"], [], []),
        (["a: [x]", "a+: [y]"], [], []),
        (["a: [x]", "b: [y]"], [], []),
        (["a: [x]", "a: null"], [], ["a"]),
        (["a: [x]", "a: {class_path: y}"], [], ["a"]),
        (["a: {b: [x]}", "a: {b: []}"], [], ["a.b"]),
        (["a: [x]", "a: [y]", "a: [z]"], [], ["a", "a"]),
        (["a: [1, 2]", "a: [3, 4]"], [], []),
        (["a: [1, 2]", "a: [3]"], [], ["a"]),
        (["a: {b: [x]}"], ["--a.b=y"], ["a.b"]),
        (["a: {b: [x]}"], ["--a.b", "[y]"], ["a.b"]),
        (["a: {b: [x]}"], ["--a.b+=y"], []),
        (["a: {b: [x]}"], ["--a.c=y", "--flag", "--a.bb", "z"], []),
    ],
)
def test_which_lists_are_replaced(files, arguments, replaced):
    given = []
    for number, text in enumerate(files):
        Path(f"{number}.yaml").write_text(text)
        given += (["-c", f"{number}.yaml"], [f"--config={number}.yaml"], ["--config", f"{number}.yaml"])[number]
    said = replaced_lists(["fit", *given, *arguments])
    assert [line.partition(" replaces ")[2].split()[0] for line in said] == replaced


# -- checkpoints that are asked for ----------------------------------------------------------------------------------


def command(name: str) -> list[str]:
    """Return a command that would run if its checkpoint did."""
    prompt = "[VISUAL]: A person. [SPEECH]: Hello. [SOUNDS]: A room."
    Path("prompts.json").write_text(f'[{{"prompt": "{prompt}"}}]')
    own = {"fit": ["--trainer.max_steps=9"], "validate": ["--data.val_shards=shards"]}
    sampling = ["--model.sampling.steps=2", "--data.prompts=prompts.json"]
    return [name, "-c", SMOKE, "--data.shards=shards", *own.get(name, sampling), *QUIET]


def broken(run: Path) -> list[str]:
    """Write files that are no checkpoints, and return their names."""
    whole = (run / "checkpoints/step-000003.ckpt").read_bytes()
    Path("half.ckpt").write_bytes(whole[: len(whole) // 2])
    Path("flipped.ckpt").write_bytes(whole[:900] + bytes(400) + whole[1300:])
    Path("text.ckpt").write_text("no checkpoint")
    Path("empty.ckpt").write_bytes(b"")
    torch.save({"weight": torch.ones(1)}, "other.ckpt")
    return ["half.ckpt", "flipped.ckpt", "text.ckpt", "empty.ckpt", "other.ckpt", "run/adapter.safetensors"]


def test_a_checkpoint_that_is_none_is_refused(run):
    missing = [
        "last",
        "best",
        "hpc",
        "",
        "nowhere.ckpt",
        "registry:mine",
        "registry/x",
        "s3://bucket/x.ckpt",
        "run",
        ".",
    ]
    for asked in [*missing, *broken(run)]:
        with pytest.raises(ValueError, match=r"--ckpt_path.*; give") as refused:
            start_of(asked, Path("new"))
        assert asked in str(refused.value)


@pytest.mark.parametrize("name", ["fit", "validate", "test", "predict"])
def test_every_command_refuses_a_checkpoint_that_is_none_and_writes_nothing(run, name):
    broken(run)
    for asked in ("last", "nowhere.ckpt", "half.ckpt"):
        assert "--ckpt_path" in fails(idlora, *command(name), f"--ckpt_path={asked}", "--run=new")
        assert not Path("new").exists()


@pytest.mark.parametrize(
    ("name", "setting", "said"),
    [
        ("validate", "model.lora.alpha=8", "model.lora.alpha = 4.0, this command has 8.0"),
        ("predict", "model.lora.alpha=8", "model.lora.alpha = 4.0, this command has 8.0"),
        ("predict", "model.lora={rank: 2, alpha: 2}", "model.lora.rank = 4, this command has 2"),
        ("predict", "model.base=nano", "model.base = smoke, this command has nano"),
    ],
)
def test_no_command_takes_an_adapter_for_one_of_another_kind(run, name, setting, said):
    asked = ["--ckpt_path=run/best.ckpt", "--run=new", f"--{setting}"]
    refused = fails(idlora, *command(name), *asked)
    assert f"the checkpoint was made with {said}; give -c the config.yaml of its run" in refused
    assert files(Path("new")) == {}


def test_every_command_finds_the_last_and_the_best_checkpoint(run):
    before = files(run)
    for asked in ("last", "best"):
        idlora(*command("validate"), f"--ckpt_path={asked}", "--run=run")
    idlora(*command("predict"), "--ckpt_path=last", "--run=run")
    assert (run / "clips/0000.mp4").is_file()
    assert {name: files(run)[name] for name in before} == before
    fit("--run=run", "--ckpt_path=best", steps=3)
    assert (start_of("last", run).path.name, start_of("last", run).step) == ("step-000003.ckpt", 3)


@pytest.mark.slow
def test_a_job_that_slurm_starts_again_goes_on_from_what_it_left(monkeypatch):
    fit("--run=run")
    Path("run/checkpoints/step-000002.ckpt").rename("run/hpc_ckpt_1.ckpt")
    for name, value in {"SLURM_NTASKS": "1", "SLURM_JOB_NAME": "train", "SLURM_JOB_ID": "7"}.items():
        monkeypatch.setenv(name, value)
    for name in ("SLURM_LOCALID", "SLURM_PROCID", "SLURM_NODEID"):
        monkeypatch.setenv(name, "0")
    fit("--run=run", steps=3)
    assert facts("run")["steps"] == "3"
    assert len(losses("run")) == 3


# -- runs that are refused, and runs that go on ------------------------------------------------------------------------

AMID = ["--data.batch_size=1", "--trainer.accumulate_grad_batches=2", "--data.val_shards=shards"]
REFUSED = {
    "batch_size 64 on 1 processes needs more": ["--data.batch_size=64"],
    "accumulate_grad_batches 4 makes a step of 4 batches, and an epoch has 3": ["--trainer.accumulate_grad_batches=4"],
    "accumulate_grad_batches 2 makes a step of 2 batches, and an epoch has 3": [
        "--trainer.accumulate_grad_batches=2",
        "--data.drop_last=false",
    ],
    "accumulate_grad_batches 3 makes a step of 3 batches, and an epoch has 2": [
        "--trainer.accumulate_grad_batches=3",
        "--trainer.limit_train_batches=2",
    ],
    "trainer.val_check_interval 3 validates amid a step of 2 batches": [*AMID, "--trainer.val_check_interval=3"],
    "a trainer.val_check_interval of minutes validates amid a step of 2 batches": [
        *AMID,
        "--trainer.val_check_interval=00:00:01:00",
    ],
    "shard folder nowhere does not exist": ["--data.shards=nowhere"],
    "pairs-000000.tar: clip c0 cannot be read": ["--data.shards=spoiled", "--data.shuffle_buffer=0"],
    "no step was trained after step 0": ["--trainer.limit_train_batches=0"],
    "whose length is not known": ["--trainer.max_steps=-1", "--trainer.max_epochs=-1"],
    "precision 16-mixed is not supported": ["--trainer.precision=16-mixed"],
    "alpha 3 of rank 4 cannot be multiplied": ["--model.lora={rank: 4, alpha: 3}"],
}


@pytest.mark.parametrize("message", REFUSED)
def test_a_training_that_is_refused_leaves_its_folder_free(folder, message):
    write_shards((sample(key) for key in range(6)), folder / "spoiled", codecs="smoke")
    tar = folder / "spoiled/pairs-000000.tar"
    tar.write_bytes(bytes(tar.stat().st_size))
    assert message in fails(fit, "--run=run", *REFUSED[message])
    assert files(folder / "run") == {}
    refuse_finished(folder / "run", None)


OTHER = {
    "data batch_size = 2, this run has 1": ["--data.batch_size=1"],
    "model.seed = 42, this run has 7": ["--model.seed=7"],
    "model.lora.rank = 4, this run has 2": ["--model.lora={rank: 2, alpha: 2}"],
    "model.lora.alpha = 4.0, this run has 8.0": ["--model.lora.alpha=8"],
    "model.lora.targets = ": ["--model.lora.targets=[attn1.to_q]"],
    "trainer.accumulate_grad_batches = 1, this run has 3": ["--trainer.accumulate_grad_batches=3"],
    "is of step 3 and trainer.max_steps is 3, so nothing is left": ["--trainer.max_steps=3"],
    "no step was trained after step 3": ["--trainer.max_steps=-1", "--trainer.max_epochs=1"],
    "trained with InContext(placement='negative'": ["--model.in_context.placement=shared"],
    "the checkpoint was made with other clips: its pairs-000000.tar": ["--data.shards=others"],
    "is not of it; give --run the folder of the checkpoint's run": [
        "--ckpt_path=elsewhere/checkpoints/step-000002.ckpt"
    ],
}


@pytest.mark.parametrize("message", OTHER)
def test_a_resume_that_is_refused_changes_nothing(run, folder, message):
    write_shards((sample(key, 1) for key in range(6)), folder / "others", samples_per_shard=3, codecs="smoke")
    shutil.copytree(run, folder / "elsewhere")
    before = files(run)
    said = fails(fit, "--run=run", "--trainer.max_steps=9", "--ckpt_path=last", *OTHER[message])
    assert message in said
    assert files(run) == before


def test_a_run_whose_checkpoints_have_no_place_is_refused(folder):
    (folder / "run").mkdir()
    (folder / "run/checkpoints").write_text("a file")
    assert "run/checkpoints is no folder" in fails(fit, "--run=run")
    assert files(folder / "run").keys() == {"checkpoints"}


def test_two_trainings_do_not_write_into_one_folder(folder):
    class Second(Callback):
        def on_train_start(self, *_: object) -> None:
            said.append(fails(fit, "--run=run"))

    said: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(f"{HERE}.Second", Second, raising=False)
        fit("--run=run", f"--trainer.callbacks={HERE}.Second")
    assert said == ["idlora: another training writes into run; give --run another folder, or wait for its end"]
    assert facts("run")["steps"] == "2"
    assert not [name for name in files(folder / "run") if "lock" in name]


def test_resumes_have_configurations_of_their_own_and_one_file_of_losses(folder):
    fit("--run=run", steps=2)
    first = Path("run/config.yaml").read_bytes()
    checkpoint = "--ckpt_path=run/checkpoints/step-000002.ckpt"
    fit("--run=run", checkpoint, steps=4)
    four = dict(losses("run"))
    fit("--run=run", checkpoint, "--model.optimizer.learning_rate=0.5", steps=5)
    assert Path("run/config.yaml").read_bytes() == first
    rates = [
        yaml.safe_load(Path(f"run/{name}/config.yaml").read_text())["model"]["optimizer"]["learning_rate"]
        for name in ("resumed-2", "resumed-2-2")
    ]
    assert rates == [2e-4, 0.5]
    found = losses("run")
    assert [step for step, _ in found] == ["0", "1", "2", "3", "4"]
    assert [loss for _, loss in found][:3] == list(four.values())[:3]
    assert found[3][1] != four["3"]
    with open("run/resumed-2-2/replaced.csv", newline="") as file:
        assert [(line["step"], line["loss"]) for line in csv.DictReader(file)] == list(four.items())[2:]
    own = hashlib.sha256(Path("run/resumed-2-2/config.yaml").read_bytes()).hexdigest()
    assert facts("run")["config_sha256"] == own


@pytest.mark.slow
@pytest.mark.parametrize("stop", [1, 3, 4])
def test_a_run_that_is_extended_equals_one_of_that_length(capsys, stop):
    flat = "--model.optimizer.final_fraction=1.0"
    fit("--run=whole", flat, steps=5)
    fit("--run=run", flat, steps=stop)
    fit("--run=run", flat, "--ckpt_path=last", steps=5)
    assert same("whole", "run")
    assert losses("whole") == losses("run")
    assert f"from step {stop} on with other settings: trainer.max_steps {stop} -> 5" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_that_ended_with_an_epoch_goes_on_with_the_next():
    flat = ["--model.optimizer.final_fraction=1.0", "--trainer.max_steps=-1"]
    fit("--run=whole", *flat, "--trainer.max_epochs=3")
    fit("--run=run", *flat, "--trainer.max_epochs=1")
    fit("--run=run", *flat, "--trainer.max_epochs=3", "--ckpt_path=last")
    assert same("whole", "run")
    assert losses("whole") == losses("run")


def test_a_longer_run_has_the_rates_of_its_length(folder):
    rates = {}
    for name, ends in {"whole": [6], "run": [3, 6]}.items():
        for end in ends:
            go_on = ["--ckpt_path=last"] if end != ends[0] else []
            fit(f"--run={name}", *go_on, "--trainer.callbacks=LearningRateMonitor", steps=end)
        with open(f"{name}/metrics.csv", newline="") as file:
            lines = [line for line in csv.DictReader(file) if line["lr-AdamW"]]
        rates[name] = {line["step"]: float(line["lr-AdamW"]) for line in lines}
    assert rates["run"]["2"] < rates["whole"]["2"]
    assert [rates["run"][step] for step in "345"] == [rates["whole"][step] for step in "345"]
    assert rates["whole"]["3"] == pytest.approx(2e-4 * (1 - 0.9 * 3 / 6))


@pytest.mark.parametrize(
    "precision", [pytest.param(name, marks=pytest.mark.slow) for name in ("bf16-true", "bf16", "32-true")]
)
def test_the_precisions_that_are_supported_train_and_sample(run, precision):
    fit("--run=new", f"--trainer.precision={precision}")
    assert {weight.dtype for weight in adapter("new").values()} == {torch.float32}
    config = yaml.safe_load(Path("new/config.yaml").read_text())
    assert config["trainer"]["precision"] == precision
    idlora(*command("predict"), f"--trainer.precision={precision}", "--ckpt_path=last", "--run=new")


# -- signals ---------------------------------------------------------------------------------------------------------


def sends(step: int, number: int, place: str = "training", times: int = 1) -> str:
    """Return the option for a callback that sends a signal."""
    given = f'{{"step": {step}, "number": {int(number)}, "place": "{place}", "times": {times}}}'
    return f'--trainer.callbacks={{"class_path": "{HERE}.Send", "init_args": {given}}}'


SITUATIONS = {
    "plain": [],
    "workers": ["--data.num_workers=2"],
    "accumulated": ["--data.batch_size=1", "--trainer.accumulate_grad_batches=2"],
    "validated": ["--data.val_shards=shards", "--trainer.val_check_interval=2"],
}


@pytest.mark.parametrize(
    ("situation", "number"),
    [
        ("accumulated", signal.SIGTERM),
        pytest.param("plain", signal.SIGINT, marks=pytest.mark.slow),
        pytest.param("plain", signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param("workers", signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param("workers", signal.SIGINT, marks=pytest.mark.slow),
        pytest.param("accumulated", signal.SIGINT, marks=pytest.mark.slow),
        pytest.param("validated", signal.SIGINT, marks=pytest.mark.slow),
        pytest.param("validated", signal.SIGTERM, marks=pytest.mark.slow),
    ],
)
def test_a_signal_saves_and_the_run_goes_on_as_if_there_had_been_none(capfd, situation, number):
    settings = SITUATIONS[situation]
    fit("--run=whole", *settings, steps=3)
    with pytest.raises(SystemExit) as stopped:
        fit("--run=run", *settings, sends(1, number), steps=3)
    assert stopped.value.code == 128 + number
    assert facts("run")["steps"] == "2"
    said = capfd.readouterr().err
    name = signal.Signals(number).name
    assert f"{name}: this step is finished and saved; once more ends at once" in said
    assert f"idlora: stopped by {name} after step 2; go on with the same command and --ckpt_path" in said
    assert "run/checkpoints/step-000002.ckpt; the adapter of this step is run/adapter.safetensors" in said
    fit("--run=run", *settings, "--ckpt_path=last", steps=3)
    assert same("whole", "run")
    assert losses("run") == losses("whole")


@pytest.mark.slow
@pytest.mark.parametrize("situation", ["plain", "accumulated"])
def test_a_stop_waits_for_the_step_and_the_run_goes_on_as_if_there_had_been_none(situation):
    settings = SITUATIONS[situation]
    fit("--run=whole", *settings, steps=3)
    fit("--run=run", *settings, f"--trainer.callbacks={HERE}.Stop", steps=3)
    assert facts("run")["steps"] == "2"
    fit("--run=run", *settings, "--ckpt_path=last", steps=3)
    assert same("whole", "run")
    assert losses("whole") == losses("run")


@pytest.mark.slow
def test_a_signal_amid_a_validation_ends_the_training_there():
    validated = ["--data.val_shards=shards", "--trainer.val_check_interval=2"]
    fit("--run=whole", *validated, steps=4)
    with pytest.raises(SystemExit) as stopped:
        fit("--run=run", *validated, sends(2, signal.SIGTERM, "validation"), steps=4)
    assert stopped.value.code == 143
    assert facts("run")["steps"] == "2"
    fit("--run=run", *validated, "--ckpt_path=last", steps=4)
    assert same("whole", "run")


@pytest.mark.slow
def test_a_signal_that_is_sent_to_the_process_and_to_its_group_is_one(capfd):
    with pytest.raises(SystemExit) as stopped:
        fit("--run=run", sends(1, signal.SIGTERM, times=2), steps=9)
    assert stopped.value.code == 143
    assert "stopped by SIGTERM after step 2" in capfd.readouterr().err


def test_a_second_signal_ends_at_once_and_names_the_newest_checkpoint(capfd, monkeypatch):
    monkeypatch.setattr("idlora_pl.training.stopping.AGAIN_S", 0.0)
    Path("often.yaml").write_text(
        "trainer:\n  callbacks:\n"
        "    - {class_path: idlora_pl.training.callbacks.SaveCheckpoints, init_args: {every_n_steps: 1}}\n"
        f"    - {{class_path: {HERE}.Send, init_args: {{step: 1, number: 2, times: 2}}}}\n"
    )
    with pytest.raises(SystemExit) as stopped:
        fit("-c", "often.yaml", "--run=run", steps=9)
    assert stopped.value.code == 130
    said = capfd.readouterr().err
    assert "stopped by SIGINT after step 1; go on with the same command and --ckpt_path" in said
    assert "run/checkpoints/step-000001.ckpt\n" in said


def test_a_training_that_fails_says_from_where_it_can_go_on(capsys):
    Path("fails.yaml").write_text(
        "trainer:\n  callbacks:\n"
        "    - {class_path: idlora_pl.training.callbacks.SaveCheckpoints, init_args: {every_n_steps: 2}}\n"
        f"    - {{class_path: {HERE}.Send, init_args: {{step: 3, number: 2, place: failure}}}}\n"
    )
    with pytest.raises(RuntimeError, match="the disk is on fire"):
        fit("-c", "fails.yaml", "--run=a run", steps=9)
    said = capsys.readouterr().err
    go_on = "'a run/checkpoints/step-000002.ckpt'\n"
    assert f"idlora: the training ended early; go on with the same command and --ckpt_path {go_on}" in said
    assert [path.name for path in Path("a run/checkpoints").iterdir()] == ["step-000002.ckpt"]


def test_time_alone_is_enough_for_a_checkpoint():
    Path("timed.yaml").write_text(
        "trainer:\n  callbacks:\n    - class_path: idlora_pl.training.callbacks.SaveCheckpoints\n"
        "      init_args: {every_n_steps: 0, every_n_minutes: 0.000001, keep: 9}\n"
    )
    fit("-c", "timed.yaml", "--run=run", steps=3)
    assert len(list(Path("run/checkpoints").iterdir())) == 3


# -- names and numbers that no run can have ----------------------------------------------------------------------------


@pytest.mark.parametrize("run", ["file", "file/below", "file/far/below", "link", "link/below", "gone", "", "x" * 300])
def test_a_run_that_can_be_no_folder_is_refused(run):
    Path("file").write_text("a file")
    Path("link").symlink_to("file")
    Path("gone").symlink_to("nowhere")
    with pytest.raises(ValueError, match=r"^--run .*give"):
        refuse_no_folder(run)


@pytest.mark.parametrize("name", ["fit", "validate", "test", "predict"])
def test_every_command_refuses_a_run_below_a_file(name):
    Path("file").write_text("a file")
    said = fails(idlora, *command(name), "--model.use_adapter=false", "--run=file/below")
    assert "file is no folder; give --run a folder" in said


@pytest.mark.parametrize("name", ["new", "new/below", "shards/below", "here/../there", "a{b}", "a*[b]"])
def test_a_run_that_can_be_a_folder_is_not_refused(name):
    refuse_no_folder(name)


SEEDS = [("model.seed", 2**70), ("model.seed", -1), ("model.sampling.seed", END), ("seed_everything", 2**32)]


@pytest.mark.parametrize(
    ("name", "key", "seed"),
    [
        *(("fit", *one) for one in SEEDS),
        ("predict", *SEEDS[0]),
        *(pytest.param("predict", *one, marks=pytest.mark.slow) for one in SEEDS[1:]),
    ],
)
def test_a_seed_out_of_range_is_named_by_its_key(name, key, seed):
    said = fails(idlora, *command(name), "--model.use_adapter=false", f"--{key}={seed}", "--run=run")
    assert f"{key.removeprefix('model.')} must be a whole number from 0 to " in said
    assert f"; got {seed}" in said


@pytest.mark.parametrize("seed", ["-1", str(END), str(2**64), str(2**70), "true", "1.5", '"1"'])
def test_a_seed_out_of_range_is_named_by_its_entry(seed):
    command("predict")
    path = Path("prompts.json")
    path.write_text(path.read_text().replace("}]", f', "seed": {seed}}}]'))
    with pytest.raises(
        PromptError, match=r"prompt file prompts.json, entry 0: seed must be a whole number from 0 to \d+"
    ):
        read_prompts(path)


@pytest.mark.slow
def test_the_largest_seeds_draw(folder):
    path = Path("prompts.json")
    command("predict")
    path.write_text(path.read_text().replace("}]", f', "seed": {END - 1}}}]'))
    then = '[{"sigmas": [0.9, 0.5, 0.0], "sampler": "res2s", "frozen_audio": true}]'
    sampled = ["--model.sampling.sampler=res2s", f"--model.sampling.then={then}", "--model.use_adapter=false"]
    idlora(*command("predict")[: -len(QUIET)], *sampled, *QUIET, f"--model.seed={END - 1}", "--run=run")
    assert (folder / "run/clips/0000.mp4").is_file()
