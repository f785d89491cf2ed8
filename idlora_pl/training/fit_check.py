"""Whether a shard set was made for the base model that is trained on it, and divides into steps."""

from __future__ import annotations

import lightning as L

from idlora_pl.data.index import ShardIndex
from idlora_pl.data.samples import ShardError
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
    """Raise ValueError when the batches of an epoch do not divide into optimiser steps.

    Lightning makes a step at the end of each epoch, whatever has been accumulated, and scales it as a full one.

    Args:
        trainer: When its loader is known, in `on_train_start`.
    """
    n_batches, each = trainer.num_training_batches, trainer.accumulate_grad_batches
    if trainer.fast_dev_run or n_batches % each == 0:  # type: ignore[attr-defined]
        return
    fix = "lower accumulate_grad_batches, or give more samples or a smaller data.batch_size"
    if n_batches > each:
        fix = "set data.drop_last to true and limit_train_batches to a multiple, or choose a divisor"
    raise ValueError(
        f"trainer.accumulate_grad_batches {each} makes a step of {each} batches, and an epoch has {n_batches}, so its "
        f"last step would have {n_batches % each:g}; {fix}"
    )
