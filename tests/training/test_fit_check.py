"""Shards of another base model, or with sound that does not fit the frames, are refused by name."""

from dataclasses import replace

import pytest

from idlora_pl.data.samples import ShardError
from idlora_pl.data.shards import ShardIndex
from idlora_pl.ltx2.presets import preset_named
from idlora_pl.training.module import refuse_other_base

SHAPES = {"target_video": (32, 9, 2, 2), "target_audio": (1, 33, 64), "reference": (1, 34, 64)}
INDEX = ShardIndex((), SHAPES, {}, codecs="nano")


def test_shards_of_this_base_are_accepted():
    refuse_other_base(INDEX, "data", preset_named("nano"))
    refuse_other_base(replace(INDEX, codecs=""), "data", preset_named("nano"))
    full = {"target_video": (128, 16, 16, 16), "target_audio": (8, 121, 16)}
    refuse_other_base(ShardIndex((), full, {}, codecs="ltx2-19b"), "data", preset_named("ltx2-19b"))


def test_shards_of_another_base_are_refused():
    with pytest.raises(ShardError, match="data was encoded for base 'nano', model.base is 'smoke'; .* --base smoke"):
        refuse_other_base(INDEX, "data", preset_named("smoke"))


def test_tokens_of_another_width_are_refused():
    with pytest.raises(ShardError, match="32 video and 64 audio channels, base 'smoke' has 128 and 128"):
        refuse_other_base(replace(INDEX, codecs=""), "data", preset_named("smoke"))


def test_sound_of_another_length_than_the_frames_is_refused():
    shapes = SHAPES | {"target_audio": (1, 31, 64)}
    with pytest.raises(ShardError, match=r"data has 31 audio tokens, 33 frames need 33; .* --duration 1.32"):
        refuse_other_base(replace(INDEX, shapes=shapes), "data", preset_named("nano"))


def test_a_token_more_or_less_than_the_frames_need_is_accepted():
    preset = preset_named("ltx2-19b")
    for n_tokens in (120, 121, 122):
        shapes = {"target_video": (128, 16, 16, 16), "target_audio": (8, n_tokens, 16)}
        refuse_other_base(ShardIndex((), shapes, {}, codecs="ltx2-19b"), "data", preset)
    for n_tokens in (119, 123):
        shapes = {"target_video": (128, 16, 16, 16), "target_audio": (8, n_tokens, 16)}
        with pytest.raises(ShardError, match=rf"data has {n_tokens} audio tokens, 121 frames need 121"):
            refuse_other_base(ShardIndex((), shapes, {}, codecs="ltx2-19b"), "data", preset)


def test_clips_of_another_frame_rate_are_refused():
    refuse_other_base(replace(INDEX, settings={"fps": 25.0}), "data", preset_named("nano"))
    with pytest.raises(ShardError, match="data holds clips of 30 fps, base 'nano' places frames at 25 fps; make the"):
        refuse_other_base(replace(INDEX, settings={"fps": 30.0}), "data", preset_named("nano"))
