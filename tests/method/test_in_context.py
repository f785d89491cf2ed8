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
    positions=st.sampled_from(["float32", "bfloat16", "mixed"]),
)
PLACEMENTS = ["negative", "shared", "zero", "after"]


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


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("positions", ["bfloat16", "mixed"])
def test_rounded_positions_are_close_to_exact_ones_and_keep_their_order(make_sequence, placement, positions):
    exact, rounded = (
        make_sequence(batch=2, n_reference=3, recipe=InContext(placement, positions=precision))
        for precision in ("float32", positions)
    )
    for one, other in ((exact.video, rounded.video), (exact.audio, rounded.audio)):
        difference = (one.positions - other.positions.float()).abs()
        # bfloat16 is off by 2^-8 of the number; a shift adds that of the shift
        assert (difference <= 2**-7 * one.positions.abs().amax((0, 2, 3), keepdim=True)).all()
        assert torch.equal(one.latents, other.latents)
    starts = rounded.audio.positions[0, 0, :, 0]
    assert (starts[:3].diff() >= 0).all()
    assert (starts[3:].diff() >= 0).all()


def test_each_precision_rounds_its_own_part(make_sequence):
    made = {name: make_sequence(recipe=InContext(positions=name)) for name in ("float32", "bfloat16", "mixed")}
    video = {name: av.video.positions.dtype for name, av in made.items()}
    audio = {name: av.audio.positions.dtype for name, av in made.items()}
    assert video == {"float32": torch.float32, "bfloat16": torch.bfloat16, "mixed": torch.bfloat16}
    assert audio == {"float32": torch.float32, "bfloat16": torch.bfloat16, "mixed": torch.float32}
    target = {name: av.audio.target().positions for name, av in made.items()}
    assert torch.equal(target["mixed"], target["float32"])
    reference = {name: av.audio.positions[:, :, :3].float() for name, av in made.items()}
    assert torch.equal(reference["mixed"], reference["bfloat16"])
    assert not torch.equal(reference["mixed"], reference["float32"])


@pytest.mark.parametrize("positions", ["float32", "bfloat16", "mixed"])
def test_a_sequence_without_a_reference_is_the_one_whose_reference_was_dropped(make_sequence, positions):
    recipe = InContext(positions=positions)
    dropped = make_sequence(batch=2, n_reference=3, recipe=recipe).without_reference()
    never = make_sequence(batch=2, n_reference=0, recipe=recipe)
    for one, other in ((dropped.video, never.video), (dropped.audio, never.audio)):
        assert one.positions.dtype == other.positions.dtype
        assert torch.equal(one.positions, other.positions)


def test_an_adapter_older_than_the_entry_has_float32_positions():
    metadata = InContext(placement="shared", positions="bfloat16").to_metadata()
    assert metadata.pop("in_context.positions") == "bfloat16"
    assert InContext.from_metadata(metadata) == InContext(placement="shared", positions="float32")


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
        ("in_context.positions", "float16", "positions must be one of float32, bfloat16, mixed; got 'float16'"),
        ("in_context.video_sees_reference", "yes", "must be true or false; got 'yes'"),
    ],
)
def test_an_entry_without_meaning_is_named(key, value, message):
    with pytest.raises(ValueError, match=message):
        InContext.from_metadata({**InContext().to_metadata(), key: value})


def test_a_value_that_is_no_choice_is_refused():
    with pytest.raises(ValueError, match="hidden_text must be one of nothing, uniform; got 'mean'"):
        replace(InContext(), hidden_text="mean")
