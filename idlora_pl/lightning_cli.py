"""Lightning's fit, validate, test and predict as commands of `idlora`."""

from __future__ import annotations

import logging
import socket
import sys
import warnings
from pathlib import Path
from typing import Any

from jsonargparse import set_parsing_settings
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import CSVLogger, WandbLogger
from lightning.pytorch.trainer.states import TrainerFn

from idlora_pl.arguments import BAD_INPUT, OneLineParser, sentence
from idlora_pl.data.datamodule import PairedClips
from idlora_pl.training.callbacks import ScoreClips, WriteClips
from idlora_pl.training.module import IDLoRA

TRAINER_DEFAULTS: dict[str, Any] = {
    "max_steps": 6000,
    "gradient_clip_val": 1.0,
    "accelerator": "auto",
    "devices": 1,
    "log_every_n_steps": 10,
    "val_check_interval": 200,
    "check_val_every_n_epoch": None,
    "num_sanity_val_steps": 0,
}
"""Of the released configs where they say something; the rest is what a long run on one device wants."""

DESCRIPTION = (
    "Train ID-LoRA, sample with it, score and tabulate. These tools have a --help of their own: `idlora adapter` "
    "(an adapter file), `idlora parity` (a folder of the authors' numbers), `idlora score` (a folder of clips), "
    "`idlora doctor` (the scorers), `idlora manifest` (a benchmark), `idlora table` (a scores.jsonl), "
    "`idlora calibrate` (scores beside published numbers) and `idlora study` (people's answers)."
)

WANDB = ("api.wandb.ai", 443)

RESULTS = ("adapter.safetensors", "checkpoints", "config.yaml")
"""What a training run leaves in its folder and must not lose to another run."""


class SaveRunConfig(SaveConfigCallback):
    """Save the resolved config: `config.yaml` of a training run, `predict.yaml` and so on beside it."""

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Choose the name by what is run, then save."""
        self.overwrite = True
        if stage != "fit":
            self.config_filename = f"{TrainerFn(stage).value}.yaml"
        super().setup(trainer, pl_module, stage)


class IDLoRACLI(LightningCLI):
    """LightningCLI with the run's folder, the loggers and the values that data and model share."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the arguments that belong to a run and not to a class."""
        parser.add_argument("--run", type=str, default="runs/default", help="folder for everything that the run writes")
        parser.add_argument("--wandb", type=bool, default=False, help="log to W&B; offline where it cannot be reached")
        parser.add_argument("--project", type=str, default="idlora", help="W&B project")
        parser.link_arguments("run", "trainer.default_root_dir")
        parser.link_arguments("model.seed", "data.seed")
        parser.link_arguments("model.sampling.seed", "data.prompt_seed")
        parser.set_defaults({f"trainer.{name}": value for name, value in TRAINER_DEFAULTS.items()})

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Say which arguments of the trainer's methods are not for the command line."""
        given_here = {"model", "dataloaders", "datamodule"}
        fit = {"model", "train_dataloaders", "val_dataloaders", "datamodule"}
        return {"fit": fit, "validate": given_here, "test": given_here, "predict": given_here | {"return_predictions"}}

    def before_predict(self) -> None:
        """Refuse an untrained adapter; write the clips, if no callback of the configuration does."""
        config = self.config[self.subcommand]
        if config.model.use_adapter and config.model.adapter is None and config.ckpt_path is None:
            raise ValueError(
                f"{self.subcommand} has no trained adapter: give --model.adapter FILE (or --ckpt_path FILE), "
                "or --model.use_adapter=false to sample from the base alone"
            )
        if not self._has(WriteClips):
            self._callbacks.append(WriteClips())

    def before_test(self) -> None:
        """Write the clips and score them, in the nano world without further configuration."""
        self.before_predict()
        if self._has(ScoreClips):
            return
        if self.model.base != "nano":
            raise ValueError(
                "test scores what it generates, and only the nano world comes with scorers: add an "
                "idlora_pl.training.callbacks.ScoreClips with scorers (such as 'available') to trainer.callbacks, "
                "or use `idlora predict` and `idlora score`"
            )
        self._callbacks.append(ScoreClips(scorers="nano", row="test"))

    def predict(self, **settings: Any) -> None:
        """Generate without keeping the clips in memory."""
        self.trainer.predict(return_predictions=False, **settings)

    @property
    def _callbacks(self) -> list[Callback]:
        return self.trainer.callbacks  # type: ignore[attr-defined]

    def _has(self, kind: type[Callback]) -> bool:
        return any(isinstance(callback, kind) for callback in self._callbacks)

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        """Build the trainer with loggers that write into the run's folder."""
        config = self.config[self.subcommand] if self.subcommand else self.config
        if self.subcommand == "fit" and not config.ckpt_path:
            refuse_finished(Path(config.run))
        if self.subcommand == "fit" and config.trainer.logger in (None, True):
            part = f"resumed-{Path(config.ckpt_path).stem}" if config.ckpt_path else ""
            kwargs["logger"] = loggers(config.run, part, use_wandb=config.wandb, project=config.project)
        elif config.trainer.logger is None:
            kwargs["logger"] = False
        return super().instantiate_trainer(**kwargs)


def refuse_finished(folder: Path) -> None:
    """Raise ValueError when a new run would replace an earlier one; the CSV logger deletes what it finds."""
    if any((folder / name).exists() for name in RESULTS):
        raise ValueError(
            f"{folder} holds an earlier run; give --run another folder, or continue that run with --ckpt_path"
        )


def loggers(run: str, part: str, *, use_wandb: bool, project: str) -> list[CSVLogger | WandbLogger]:
    """Return the CSV logger and, when asked for, W&B, offline if its server cannot be reached within a second.

    Args:
        run: Folder of the run.
        part: Folder inside it for `metrics.csv` and `config.yaml` of a resumed run, which would replace the first.
        use_wandb: Whether to log to W&B, too.
        project: W&B project.
    """
    found: list[CSVLogger | WandbLogger] = [CSVLogger(run, name=None, version=part, flush_logs_every_n_steps=10)]
    if use_wandb:
        Path(run).mkdir(parents=True, exist_ok=True)
        found.append(WandbLogger(name=Path(run).name, project=project, save_dir=run, offline=not _wandb_reachable()))
    return found


def _wandb_reachable() -> bool:
    try:
        with socket.create_connection(WANDB, timeout=1.0):
            return True
    except OSError:
        return False


def run(arguments: list[str] | None) -> None:
    """Run a command of Lightning; bad input ends in one sentence and a non-zero exit status.

    Args:
        arguments: The command and its options; None takes those of the process.
    """
    # PairedClips is: its position is in the checkpoint
    warnings.filterwarnings("ignore", message=".*your dataloader is not resumable.*")
    # Lightning recommends other products in its log
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(lambda record: "Tip:" not in str(record.msg))
    set_parsing_settings(omegaconf_absolute_to_relative_paths=True)
    try:
        IDLoRACLI(
            IDLoRA,
            PairedClips,
            args=arguments,
            parser_class=OneLineParser,
            parser_kwargs={"parser_mode": "omegaconf+", "description": DESCRIPTION},
            save_config_callback=SaveRunConfig,
            auto_configure_optimizers=False,
            seed_everything_default=42,
        )
    except BAD_INPUT as error:
        sys.exit(f"idlora: {sentence(error)}")
