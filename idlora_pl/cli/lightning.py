"""Lightning's fit, validate, test and predict as commands of `idlora`.

What is wrong is said in one line, with the option that was probably meant. What Lightning and torch say that no user
of `idlora` can act on is left out, by its words; everything else is heard.
"""

from __future__ import annotations

import logging
import shlex
import socket
import sys
import warnings
from contextlib import nullcontext
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from jsonargparse import Namespace, set_parsing_settings
from lightning.pytorch.callbacks import Callback, ProgressBar
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import Logger, WandbLogger
from lightning.pytorch.plugins import CheckpointIO
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from idlora_pl.cli import tools
from idlora_pl.cli.command import OneLineParser
from idlora_pl.cli.replaced_lists import replaced_lists, value_given
from idlora_pl.data.datamodule import PairedClips
from idlora_pl.distributed import set_up_torch
from idlora_pl.generation.sampling import Sampling, default_sampling
from idlora_pl.ltx2.presets import DEFAULT_BASE, PRESETS
from idlora_pl.method.noise import checked_seed
from idlora_pl.training.callbacks import SaveAdapter, ScoreClips, WriteClips
from idlora_pl.training.metrics_file import MetricsFile
from idlora_pl.training.module import IDLoRA
from idlora_pl.training.precision import BFloat16Base, checked_precision
from idlora_pl.training.progress import StepProgressBar
from idlora_pl.training.run_folder import SaveConfig, held, refuse_finished, refuse_no_folder, resume_folder, start_of
from idlora_pl.training.saving import FOLDER, LocalCheckpoints, SaveCheckpoints
from idlora_pl.training.stopping import StopOnSignal

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

DESCRIPTION = "Train ID-LoRA, and sample with it; `idlora --help` lists all commands."

GIVEN_HERE = {
    "fit": {"model", "train_dataloaders", "val_dataloaders", "datamodule"},
    "validate": {"model", "dataloaders", "datamodule"},
    "test": {"model", "dataloaders", "datamodule"},
    "predict": {"model", "dataloaders", "datamodule", "return_predictions"},
}
"""The arguments of each command's method that are not for the command line."""

WANDB = ("api.wandb.ai", 443)


class IDLoRACLI(LightningCLI):
    """LightningCLI with the run's folder, the loggers and the values that data and model share.

    Args:
        command: The only command to build a parser for, each of which takes a quarter of a second; None builds all.
        settings: Of LightningCLI, as all others are.
    """

    def __init__(self, *settings: Any, command: str | None = None, **named_settings: Any) -> None:
        self._command = command
        super().__init__(*settings, **named_settings)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the arguments that belong to a run and not to a class."""
        parser.add_argument("--run", type=str, default="runs/default", help="folder for everything that the run writes")
        parser.add_argument("--wandb", type=bool, default=False, help="log to W&B; offline where it cannot be reached")
        parser.add_argument("--project", type=str, default="idlora", help="W&B project")
        parser.link_arguments("run", "trainer.default_root_dir")
        parser.link_arguments("model.seed", "data.seed")
        parser.link_arguments("model.sampling", "data.prompt_seed", compute_fn=_seed_of)
        parser.set_defaults({f"trainer.{name}": value for name, value in TRAINER_DEFAULTS.items()})

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse, say which lists are replaced, and refuse what needs no model to be seen."""
        given = args if isinstance(args, list) else sys.argv[1:]
        replaced = replaced_lists(given)
        if given and given[0] in self._subcommand_parsers:
            # what a configuration says of sampling changes the defaults of its base, not those of another one
            base = value_given(given, "model.base")
            sampling = default_sampling(base if base in PRESETS else DEFAULT_BASE)
            self._parser(given[0]).set_defaults({"model.sampling": asdict(sampling)})
        super().parse_arguments(parser, args)
        for said in replaced:
            print(f"idlora: {said}", file=sys.stderr)
        config, run = self._config, Path(self._config.run)
        refuse_no_folder(config.run)
        if not isinstance(config.seed_everything, bool):
            checked_seed(config.seed_everything, "seed_everything", end=2**32)
        self._precision = checked_precision(config.trainer.precision)
        self._start = start_of(None if config.ckpt_path is None else str(config.ckpt_path), run)
        config.ckpt_path = None if self._start is None else str(self._start.path)
        if self.config.subcommand == "fit":
            refuse_no_folder(str(run / FOLDER))
            refuse_finished(run, self._start)

    def _parse_ckpt_path(self) -> None:
        """Take no settings from a checkpoint: `IDLoRA` compares those that it keeps there when it is restored."""

    @property
    def _config(self) -> Namespace:
        """What the command was called with."""
        return self.config[self.config.subcommand]  # type: ignore[no-any-return]

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """Say which arguments of the trainer's methods are not for the command line."""
        return {name: given for name, given in GIVEN_HERE.items() if self._command in (None, name)}

    def before_predict(self) -> None:
        """Refuse an untrained adapter; write the clips, if no callback of the configuration does."""
        config = self._config
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

    def after_fit(self) -> None:
        """Say where the result is."""
        if self.trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        said = f"the adapter is {_shown(Path(self._config.run) / 'adapter.safetensors')}"
        for newest in (one.newest for one in self._callbacks if isinstance(one, SaveCheckpoints)):
            said += f", the checkpoint {_shown(newest)}" if newest is not None else ""
        self._say(f"trained to step {self.trainer.global_step}; {said}")

    def after_predict(self) -> None:
        """Say where the clips are."""
        run = Path(self._config.run)
        for folder in (one.folder for one in self._callbacks if isinstance(one, WriteClips)):
            self._say(f"the clips are in {_shown(run / folder)}")

    def after_test(self) -> None:
        """Say where clips and scores are."""
        self.after_predict()
        for name in (one.scores for one in self._callbacks if isinstance(one, ScoreClips)):
            self._say(f"the scores are in {_shown(Path(self._config.run) / name)}; `idlora table` shows them")

    def _say(self, said: str) -> None:
        if self.trainer.is_global_zero:
            print(f"idlora: {said}", file=sys.stderr)

    @property
    def _callbacks(self) -> list[Callback]:
        return self.trainer.callbacks  # type: ignore[attr-defined]

    def _has(self, kind: type[Callback]) -> bool:
        return any(isinstance(callback, kind) for callback in self._callbacks)

    def fit(self, **settings: Any) -> None:
        """Train, alone in the folder; a training that makes no step is refused and not passed over."""
        run, start = Path(self._config.run), 0 if self._start is None else self._start.step
        with held(run, self._start) if self.trainer.is_global_zero else nullcontext():
            self.trainer.fit(**settings)
        if self.trainer.global_step == start:
            raise ValueError(
                f"no step was trained after step {start}; raise trainer.max_steps or max_epochs, or limit_train_batches"
            )

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        """Build the trainer, with what keeps a run's result whatever callbacks the configuration names."""
        config, run, is_fit = self._config, Path(self._config.run), self.subcommand == "fit"
        own = run if self._start is None or not is_fit else resume_folder(run, self._start.step)
        given = self._get(self.config_init, "trainer")
        callbacks = given.callbacks if isinstance(given.callbacks, list) else [given.callbacks]
        found = [callback for callback in callbacks if callback is not None]
        name = "config.yaml" if is_fit else f"{self.subcommand}.yaml"
        # first, because an adapter tells the checksum of this file
        kwargs["callbacks"] = [SaveConfig(self._parser(self.subcommand), config, own / name), StopOnSignal(), *found]
        if given.enable_progress_bar is not False and not any(isinstance(each, ProgressBar) for each in found):
            kwargs["callbacks"].append(StepProgressBar())
        if is_fit and not given.fast_dev_run:
            kwargs["callbacks"] += _keepers(found, with_checkpoints=given.enable_checkpointing is not False)
        if is_fit and config.trainer.logger in (None, True):
            metrics = MetricsFile(run, start=0 if self._start is None else self._start.step, replaced=own)
            kwargs["logger"] = [metrics, *(wandb_logger(run, config.project) if config.wandb else ())]
        elif config.trainer.logger is None:
            kwargs["logger"] = False
        plugins = given.plugins if isinstance(given.plugins, list) else [given.plugins]
        kwargs["plugins"] = [plugin for plugin in plugins if plugin is not None]
        if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
            kwargs["plugins"].append(LocalCheckpoints())
        if self._precision == "bf16-true":
            kwargs["plugins"].append(BFloat16Base())
        kwargs["precision"] = None if self._precision == "bf16-true" else config.trainer.precision and self._precision
        return super().instantiate_trainer(**kwargs)


def _seed_of(sampling: Any) -> int:
    """Read the seed of sampling settings as the parser holds them: by key, or as a class with its arguments."""
    return Sampling.seed if sampling is None else int(sampling.get("init_args", sampling)["seed"])


def _shown(path: Path) -> str:
    """Return a path as a shell takes it."""
    return shlex.quote(str(path))


def _keepers(given: list[Callback], *, with_checkpoints: bool) -> list[Callback]:
    """Return what keeps the result of a training, as far as the configuration names none of its kind."""
    kinds: list[type[Callback]] = [SaveAdapter, *([SaveCheckpoints] if with_checkpoints else [])]
    return [kind() for kind in kinds if not any(isinstance(callback, kind) for callback in given)]


def wandb_logger(run: Path, project: str) -> list[Logger]:
    """Return a logger of W&B, offline if its server cannot be reached within a second.

    Args:
        run: Folder of the run.
        project: W&B project.
    """
    run.mkdir(parents=True, exist_ok=True)
    return [WandbLogger(name=run.name, project=project, save_dir=str(run), offline=not _wandb_reachable())]


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
    set_up_torch()
    silence()
    set_parsing_settings(omegaconf_absolute_to_relative_paths=True)
    asked = (sys.argv[1:] if arguments is None else arguments)[:1]
    try:
        IDLoRACLI(
            IDLoRA,
            PairedClips,
            args=arguments,
            command=asked[0] if asked and asked[0] in GIVEN_HERE else None,
            parser_class=LightningParser,
            parser_kwargs={"prog": "idlora", "parser_mode": "omegaconf+", "description": DESCRIPTION},
            save_config_callback=None,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,  # IDLoRA keeps what it needs of itself; see its on_save_checkpoint
            seed_everything_default=42,
        )
    except BAD_INPUT as error:
        sys.exit(f"idlora: {sentence(error)}")


BAD_INPUT = (*tools.BAD_INPUT, MisconfigurationException)
"""As of the tools, and what Lightning says of settings."""


class LightningParser(OneLineParser, LightningArgumentParser):
    """LightningCLI's parser, without a page of usage before each error."""

    parts = tuple(f"model.sampling.{field.name}" for field in fields(Sampling))


def sentence(error: Exception) -> str:
    """Say in one line what is wrong with the input; Lightning's and torch's own errors get the fix added."""
    line = " ".join(str(error).split())
    if isinstance(error, MisconfigurationException):
        line = line.rstrip(".")
        return f"the trainer cannot run with these settings ({line}); correct them, as with --trainer.accelerator=cpu"
    return line


_WARNINGS = (
    # PairedClips is resumable: its position is in the checkpoint
    ".*your dataloader is not resumable.*",
    # the batches of prompts carry no indices, and nobody asks for them
    "Couldn't infer the batch indices fetched from your dataloader.*",
    # Lightning's own use of torch
    r".*isinstance\(treespec, LeafSpec\).*is deprecated.*",
    # no validation set is a setting, and an empty list is Lightning's way to say it
    "Total length of `list` across ranks is zero.*",
    # workers and ranks read parts of their own: see PairLoader
    "Your `IterableDataset` has `__len__` defined.*",
    # steps are counted over epochs, so that short epochs are logged all the same
    "The number of training batches .* is smaller than the logging interval.*",
    # the text encoder is frozen
    r"Found \d+ module\(s\) in eval mode at the start of training.*",
    # what keeps a training's checkpoints is of no use to a command that does not train
    r".*Please add the following callbacks: \['SaveCheckpoints'\].*",
    # how many processes read is a choice of this package's users, and of speed alone
    "The '.*_dataloader' does not have many workers.*",
)
_LINES = ("Tip:", "TPU available:")
"""Advertisements of other products, and accelerators that LTX-2 does not run on."""


def silence() -> None:
    """Leave these lines out of the log of this process."""
    for message in _WARNINGS:
        warnings.filterwarnings("ignore", message=message)
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_is_of_use)


def _is_of_use(record: logging.LogRecord) -> bool:
    return not any(line in str(record.msg) for line in _LINES)
