"""Every yaml of experiments/ parses, says what it is for, and changes exactly the keys that it writes."""

import inspect
import re
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path

import pytest
import yaml

from idlora_pl.cli.lightning import IDLoRACLI
from idlora_pl.data.datamodule import PairedClips
from idlora_pl.generation.sampling import default_sampling
from idlora_pl.ltx2.adapter_format import LoRA
from idlora_pl.method.in_context import InContext
from idlora_pl.training.module import IDLoRA
from idlora_pl.training.objective import Objective
from idlora_pl.training.optimizer import AdamW

ROOT = Path(__file__).parents[2]
CONFIGS = sorted(
    path for path in (ROOT / "experiments").rglob("*.yaml") if path.parent.name not in ("tables", "sweeps")
)


class ParserOnly(IDLoRACLI):
    """The command line up to the parsed values: nothing is built, nothing is run."""

    def instantiate_classes(self) -> None:
        """Build nothing."""

    def _run_subcommand(self, subcommand: str) -> None:
        """Run nothing."""


@cache
def parsed(*configs: Path) -> dict[str, object]:
    """Return what `idlora fit` would run with, by dotted key."""
    arguments = [text for config in configs for text in ("-c", str(config))]
    cli = ParserOnly(
        IDLoRA,
        PairedClips,
        args=["fit", *arguments],
        command="fit",
        parser_kwargs={"parser_mode": "omegaconf+"},
        auto_configure_optimizers=False,
        seed_everything_default=False,
        save_config_callback=None,
    )
    # `sampling` may be null, and such a dataclass is held as a class with its arguments
    values = {
        name.replace("sampling.init_args.", "sampling."): v for name, v in vars(cli.config["fit"].as_flat()).items()
    }
    return {name: v for name, v in values.items() if name not in ("config", "model.sampling.class_path")}


def written(values: Mapping[str, object], prefix: str = "") -> set[str]:
    """Return the dotted keys of a yaml."""
    keys = set()
    for name, value in values.items():
        keys |= written(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name}
    return keys


def changed(first: dict[str, object], second: dict[str, object]) -> set[str]:
    """Return the keys whose values differ."""
    return {name for name in first.keys() | second.keys() if first.get(name) != second.get(name)}


@pytest.fixture(scope="module")
def defaults() -> dict[str, object]:
    """What `idlora fit` runs with when nothing is said."""
    return parsed()


@pytest.fixture(autouse=True)
def no_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep Lightning from comparing the arguments with those of pytest."""
    monkeypatch.setattr("sys.argv", ["idlora"])


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_says_what_is_expected_what_was_observed_and_how_to_run_it(path):
    head = path.read_text().splitlines()[:3]
    assert all(line.startswith("# ") for line in head)
    assert "# Expect:" in head[1]
    assert "Observed:" in head[1]
    assert "# Run:" in head[2]
    assert path.stem in head[2] or "make demo" in head[2] or "docs/" in head[2]


@pytest.mark.parametrize("path", [path for path in CONFIGS if path.parent.name != "experiments"], ids=lambda p: p.stem)
def test_an_overlay_changes_exactly_the_keys_it_writes(path):
    run = path.read_text().splitlines()[2]
    below = [ROOT / name for name in re.findall(r"-c (\S+\.yaml)", run) if not path.samefile(ROOT / name)]
    assert below, "the Run line must name the config that the overlay changes"
    keys = written(yaml.safe_load(path.read_text()))
    assert changed(parsed(*below), parsed(*below, path)) == keys


@pytest.mark.parametrize("path", [path for path in CONFIGS if path.parent.name == "experiments"], ids=lambda p: p.stem)
def test_a_config_changes_no_default_of_its_base_that_it_does_not_write(path, defaults, tmp_path):
    values = yaml.safe_load(path.read_text())
    keys = written(values)
    (tmp_path / "base.yaml").write_text(
        yaml.safe_dump({"model": {"base": values.get("model", {}).get("base", "ltx2-19b")}})
    )
    # the run's folder is linked to the trainer, the seed of the model to that of the data
    assert changed(parsed(tmp_path / "base.yaml"), parsed(path)) <= keys
    assert keys <= defaults.keys()


def test_the_defaults_are_those_of_the_released_training():
    settings = {name: value.default for name, value in inspect.signature(IDLoRA).parameters.items()}
    assert settings["lora"] == LoRA()
    assert (LoRA().rank, LoRA().alpha or LoRA().rank, len(LoRA().targets)) == (128, 128, 18)
    assert settings["optimizer"] == AdamW()
    assert (AdamW().learning_rate, AdamW().final_fraction) == (2e-4, 0.1)
    assert settings["in_context"] == InContext()
    assert InContext() == InContext("negative", video_sees_reference=False, reference_sees_text=False)
    assert settings["objective"] == Objective()
    assert settings["first_frame_p"] == 0.9
    assert (settings["reference_dropout"], settings["text_dropout"]) == (0, 0)
    assert settings["base"] == "ltx2-19b"
    assert inspect.signature(PairedClips).parameters["batch_size"].default == 4


def test_the_command_line_has_the_defaults_of_python_and_of_the_released_training(defaults):
    assert defaults["trainer.max_steps"] == 6000
    assert defaults["trainer.gradient_clip_val"] == 1.0
    assert defaults["model.lora.rank"] == 128
    assert defaults["model.first_frame_p"] == 0.9
    assert defaults["model.objective.first_frame_coin"] == "sample"
    assert defaults["data.batch_size"] == 4
    assert defaults["model.sampling.steps"] == 30
    assert defaults["trainer.default_root_dir"] == defaults["run"]


@pytest.mark.parametrize("base", ["ltx2-19b", "nano", "smoke"])
def test_sampling_has_one_owner_that_knows_the_base(base, tmp_path):
    written = {"model": {"base": base, "sampling": {"steps": 7}}}
    (tmp_path / "only_steps.yaml").write_text(yaml.safe_dump(written))
    found = parsed(tmp_path / "only_steps.yaml")
    wanted = asdict(default_sampling(base)) | {"steps": 7}
    assert {name: found[f"model.sampling.{name}"] for name in wanted} == wanted


@pytest.mark.parametrize("base", ["nano", "smoke"])
def test_python_and_the_pipeline_take_the_same_sampling(base):
    assert IDLoRA(base=base).sampling == default_sampling(base)
