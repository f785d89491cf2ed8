"""Whether a shard set was made for the base model that is trained on it, and divides into steps."""

from __future__ import annotations

import lightning as L

from idlora_pl.data.datamodule import batches_a_step
from idlora_pl.data.samples import ShardError
from idlora_pl.data.shards import ShardIndex
from idlora_pl.ltx2.presets import Preset

# Tokens by which the sound may differ from the frames: the authors' sets hold 120 to 122 for 121 frames.
_SLACK_TOKENS = 1
_AGAIN = "encode the clips again with data_tools.encode_clips"


def refuse_other_base(index: ShardIndex, name: str, preset: Preset) -> None:
    """Raise ShardError when the latents of a shard set are not those that a base model reads.

    Args:
        index: Of the shard set.
        name: Where it is, for the message.
        preset: The base model.
    """
    if index.codecs not in ("", preset.name):
        raise ShardError(
            f"{name} was encoded for base '{index.codecs}', model.base is '{preset.name}'; "
            f"{_AGAIN} --base {preset.name}, or set model.base to {index.codecs}"
        )
    video, audio = index.shapes["target_video"], index.shapes["target_audio"]
    found = video[0], audio[0] * audio[2]
    if found != preset.token_channels:
        raise ShardError(
            f"{name} has tokens of {found[0]} video and {found[1]} audio channels, base '{preset.name}' has "
            f"{preset.token_channels[0]} and {preset.token_channels[1]}; {_AGAIN} --base {preset.name}"
        )
    grid = preset.geometry
    rate_fps = index.settings.get("fps", grid.video.frame_rate_fps)
    if rate_fps != grid.video.frame_rate_fps:
        raise ShardError(
            f"{name} holds clips of {rate_fps:g} fps, base '{preset.name}' places frames at "
            f"{grid.video.frame_rate_fps:g} fps; make the set again from clips of that rate"
        )
    n_frames = (video[1] - 1) * grid.video.temporal_stride + 1
    duration_s = n_frames / grid.video.frame_rate_fps
    needed = grid.audio.n_tokens(duration_s)
    if abs(audio[1] - needed) > _SLACK_TOKENS:
        raise ShardError(
            f"{name} has {audio[1]} audio tokens, {n_frames} frames need {needed}; {_AGAIN} --duration {duration_s:g}"
        )


def refuse_uneven_steps(trainer: L.Trainer) -> None:
    """Raise ValueError when an epoch, or what is between two validations, does not divide into optimiser steps.

    Lightning makes a step at the end of each epoch, whatever has been accumulated, and scales it as a full one. The
    checkpoint before a validation amid a step would lose the batches of it.

    Args:
        trainer: When its loaders are known, in `on_train_start`.
    """
    n_batches, each = trainer.num_training_batches, batches_a_step(trainer)
    if trainer.fast_dev_run or each == 1:  # type: ignore[attr-defined]
        return
    if n_batches % each:
        fix = "lower accumulate_grad_batches, or give more samples or a smaller data.batch_size"
        if n_batches > each:
            fix = "set data.drop_last to true and limit_train_batches to a multiple, or choose a divisor"
        raise ValueError(
            f"trainer.accumulate_grad_batches {each} makes a step of {each} batches, and an epoch has {n_batches}, so "
            f"its last step would have {n_batches % each:g}; {fix}"
        )
    if not sum(trainer.num_val_batches):
        return
    if trainer.val_check_batch is None:  # type: ignore[attr-defined]
        asked = "a trainer.val_check_interval of minutes"
    elif trainer.val_check_batch % each:  # type: ignore[attr-defined]
        asked = f"trainer.val_check_interval {trainer.val_check_interval}"  # type: ignore[attr-defined]
    else:
        return
    raise ValueError(f"{asked} validates amid a step of {each} batches; give it a multiple of {each} batches")
