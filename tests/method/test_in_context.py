"""InContext: the assembled sequence, and the recipe as adapter metadata."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from idlora_pl.method.in_context import InContext
from idlora_pl.method.positions import AudioGrid

recipes = st.builds(
    InContext,
    placement=st.sampled_from(["negative", "shared", "zero", "after"]),
    video_sees_reference=st.booleans(),
    reference_sees_text=st.booleans(),
    hidden_text=st.sampled_from(["nothing", "uniform"]),
)


@pytest.mark.parametrize("placement", ["negative", "shared", "zero", "after"])
def test_the_target_comes_back_bit_for_bit(make_sequence, placement):
    recipe = InContext(placement=placement)
    without = make_sequence(batch=2, n_reference=0, recipe=recipe)
    target = make_sequence(batch=2, n_reference=3, recipe=recipe).audio.target()
    for field in ("latents", "positions", "clean"):
        assert torch.equal(getattr(target, field), getattr(without.audio, field))


def test_the_reference_comes_first_and_is_clean(make_sequence):
    av = make_sequence(n_reference=0)
    reference = torch.randn(1, 4, 128)
    audio = InContext().assemble(av.video, av.audio, av.text, reference, AudioGrid()).audio
    assert audio.n_reference == 4
    assert torch.equal(audio.latents[:, :4], reference)
    assert audio.clean.tolist() == [[True] * 4 + [False] * 6]


@pytest.mark.parametrize(
    ("placement", "interval"),
    [
        ("negative", (-0.13, -0.04)),
        ("shared", (0.0, 0.09)),
        ("zero", (0.0, 0.04)),
        ("after", (0.25, 0.34)),
    ],
)
def test_the_reference_sits_where_the_recipe_says(make_sequence, placement, interval):
    placed = make_sequence(recipe=InContext(placement=placement)).audio.positions[:, :, :3]
    assert (placed.min().item(), placed.max().item()) == pytest.approx(interval, abs=1e-6)


def test_the_sequence_carries_what_the_recipe_hides(make_sequence):
    av = make_sequence(recipe=InContext(video_sees_reference=True, hidden_text="uniform"))
    assert (av.video_sees_reference, av.reference_sees_text, av.hidden_text) == (True, False, "uniform")


def test_a_second_reference_is_refused(make_sequence):
    av = make_sequence(n_reference=3)
    with pytest.raises(ValueError, match=r"already holds 3 reference tokens; pass audio.target\(\)"):
        InContext().assemble(av.video, av.audio, av.text, torch.randn(1, 2, 128), AudioGrid())


@given(recipes)
def test_metadata_gives_the_recipe_back(recipe):
    metadata = {**recipe.to_metadata(), "base_model": "nano"}
    assert all(isinstance(value, str) for value in metadata.values())
    assert InContext.from_metadata(metadata) == recipe


@given(recipes, st.sampled_from(["placement", "video_sees_reference", "reference_sees_text", "hidden_text"]))
def test_a_missing_entry_is_named(recipe, name):
    metadata = recipe.to_metadata()
    del metadata[f"in_context.{name}"]
    with pytest.raises(ValueError, match=rf"misses \['{name}'\]"):
        InContext.from_metadata(metadata)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("in_context.colour", "red", r"unknown \['colour'\]"),
        ("in_context.placement", "left", "placement must be one of .* got 'left'"),
        ("in_context.video_sees_reference", "yes", "must be true or false; got 'yes'"),
    ],
)
def test_an_entry_without_meaning_is_named(key, value, message):
    with pytest.raises(ValueError, match=message):
        InContext.from_metadata({**InContext().to_metadata(), key: value})


def test_a_value_that_is_no_choice_is_refused():
    with pytest.raises(ValueError, match="hidden_text must be one of nothing, uniform; got 'mean'"):
        replace(InContext(), hidden_text="mean")
