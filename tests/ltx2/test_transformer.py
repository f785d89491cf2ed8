"""LTX2: the velocity field over the stock diffusers transformer."""

import sys
from dataclasses import replace
from functools import partial

import pytest
import torch
from diffusers.models.transformers.transformer_ltx2 import LTX2VideoTransformer3DModel
from hypothesis import given, settings
from hypothesis import strategies as st

from idlora_pl.ltx2.lora import attach_lora
from idlora_pl.ltx2.presets import PRESETS, preset_named
from idlora_pl.ltx2.transformer import LTX2
from idlora_pl.method.guidance import (
    UNPERTURBED,
    IdentityGuidance,
    ModalityGuidance,
    Perturbation,
    PerturbedGuidance,
    TextGuidance,
    guided,
)
from idlora_pl.method.in_context import InContext
from idlora_pl.method.noise import sde_noise
from idlora_pl.method.res2s import sample_res2s
from idlora_pl.method.sampler import sample_euler
from idlora_pl.method.tokens import TextContext

SIGMA = torch.tensor([0.6])
SEEN = InContext(video_sees_reference=True, reference_sees_text=True)


def outputs_of(module, run):
    """Run `run()` and return inputs and outputs of every call of a module."""
    calls = []
    handle = module.register_forward_hook(lambda _, inputs, output: calls.append((inputs, output)))
    try:
        run()
    finally:
        handle.remove()
    return calls


@pytest.fixture(scope="module")
def smoke_ltx23():
    """The smoke model in the layout of LTX-2.3."""
    config = {**PRESETS["ltx2.3-22b"].config, **{k: PRESETS["smoke"].config[k] for k in SMALL}}
    preset = replace(PRESETS["ltx2.3-22b"], config=config, dtype=torch.float32, device="cpu", stg_block=1)
    return LTX2(preset).requires_grad_(False)


SMALL = (
    "num_attention_heads",
    "attention_head_dim",
    "cross_attention_dim",
    "audio_num_attention_heads",
    "audio_attention_head_dim",
    "audio_cross_attention_dim",
    "num_layers",
)


def test_velocities_have_the_shape_of_the_target(smoke_ltx2, make_sequence):
    av = make_sequence(batch=2, n_reference=3)
    video, audio = smoke_ltx2(av, torch.tensor([0.3, 0.8]))
    assert video.shape == av.video.latents.shape
    assert audio.shape == av.audio.target().latents.shape


def test_a_batch_equals_its_samples_one_by_one(smoke_ltx2, make_sequence, sample_of):
    av, sigma = make_sequence(batch=3), torch.tensor([0.2, 0.5, 0.9])
    together = smoke_ltx2(av, sigma)
    for index in range(3):
        alone = smoke_ltx2(sample_of(av, index), sigma[index : index + 1])
        for part, expected in zip(alone, together, strict=True):
            torch.testing.assert_close(part, expected[index : index + 1], atol=1e-5, rtol=0)


def run_euler(field, start, seeds):
    return sample_euler(field, start, torch.tensor([1.0, 0.7, 0.3, 0.0]))


def run_res2s(field, start, seeds):
    return sample_res2s(field, start, torch.tensor([1.0, 0.7, 0.3]), sde_noise(start, seeds))


@pytest.mark.parametrize(("run", "projected"), [(run_euler, False), (run_res2s, True)])
def test_guided_sampling_of_a_batch_equals_its_samples_one_by_one(smoke_ltx2, make_sequence, sample_of, run, projected):
    av, other = make_sequence(batch=2), make_sequence(batch=2, seed=1)
    text = TextGuidance(projected=projected)
    terms = (text, IdentityGuidance(), PerturbedGuidance(blocks=(1,)), ModalityGuidance())

    def sample(start, negative, seeds):
        return run(lambda now, sigma: guided(smoke_ltx2, now, sigma, terms, negative), start, seeds)

    together = sample(av, other.text, [3, 4])
    for index in range(2):
        alone = sample(sample_of(av, index), sample_of(other, index).text, [3 + index])
        # three steps of guidance multiply rounding by about ten
        expected = together.audio.latents[index : index + 1]
        torch.testing.assert_close(alone.audio.latents, expected, atol=1e-4, rtol=0)
        assert torch.equal(alone.audio.latents[:, :3], av.audio.latents[index : index + 1, :3])


def test_video_attends_to_target_audio_alone_when_the_reference_is_hidden(smoke_ltx2, make_sequence):
    keys = smoke_ltx2.transformer.transformer_blocks[0].audio_to_video_attn.to_k
    for recipe, n_keys in ((InContext(), 6), (replace(InContext(), video_sees_reference=True), 9)):
        av = make_sequence(n_reference=3, recipe=recipe)
        ((inputs, _),) = outputs_of(keys, lambda av=av: smoke_ltx2(av, SIGMA))
        assert inputs[0].shape[1] == n_keys


def test_hiding_the_reference_from_video_changes_the_velocities(smoke_ltx2, make_sequence):
    seen, hidden = make_sequence(recipe=SEEN), make_sequence(recipe=replace(SEEN, video_sees_reference=False))
    assert not torch.equal(smoke_ltx2(seen, SIGMA)[0], smoke_ltx2(hidden, SIGMA)[0])


@pytest.fixture(scope="module", params=["ltx2-19b", "ltx2.3-22b"])
def one_block(request):
    """A model of one block, in the layout of LTX-2 19B, then in that of LTX-2.3, and its text of 5 tokens."""
    small = {**{key: PRESETS["smoke"].config[key] for key in (*SMALL, "caption_channels")}, "num_layers": 1}
    full = PRESETS[request.param]
    preset = replace(full, config={**full.config, **small}, dtype=torch.float32, device="cpu", stg_block=0)
    return LTX2(preset).requires_grad_(False)


def text_for(model, batch, seed):
    generator = torch.Generator().manual_seed(seed)
    return TextContext(*(torch.randn(batch, 5, width, generator=generator) for width in model.preset.text_channels))


@settings(max_examples=15)
@given(st.integers(0, 1000), st.integers(1, 5), st.floats(0.01, 100))
def test_a_hidden_reference_reaches_no_video_token(one_block, make_sequence, seed, n_reference, size):
    # perturbed self-attention of the audio mixes no tokens: all that is left is the attention of video to audio
    alone = Perturbation((0,), "audio")
    outputs = {}
    for name, recipe in {"hidden": InContext(), "seen": replace(InContext(), video_sees_reference=True)}.items():
        av = make_sequence(n_reference=n_reference, recipe=recipe, seed=seed)
        av = replace(av, text=text_for(one_block, 1, seed))
        latents = av.audio.latents.clone()
        latents[:, :n_reference] = size * torch.randn(1, n_reference, 128)
        other = replace(av, audio=av.audio.with_latents(latents))
        outputs[name] = [one_block(either, SIGMA, perturbation=alone)[0] for either in (av, other)]
    assert torch.equal(*outputs["hidden"])
    assert not torch.equal(*outputs["seen"])


masks = st.lists(st.booleans(), min_size=5, max_size=5).filter(lambda mask: any(mask) and not all(mask))


@settings(max_examples=15)
@given(masks, st.floats(0, 50), st.booleans())
def test_hidden_text_reaches_no_token(one_block, make_sequence, mask, size, reference_sees_text):
    shown, text = torch.tensor([mask]), text_for(one_block, 1, 0)
    noisy = [torch.where(shown[..., None], part, size * torch.randn_like(part)) for part in (text.video, text.audio)]
    av = make_sequence(recipe=InContext(reference_sees_text=reference_sees_text))

    def velocities(text):
        return torch.cat([part.flatten() for part in one_block(replace(av, text=text), SIGMA)])

    assert torch.equal(velocities(replace(text, mask=shown)), velocities(TextContext(*noisy, shown)))
    assert not torch.equal(velocities(text), velocities(TextContext(*noisy)))


@settings(max_examples=15)
@given(st.integers(0, 1000), st.integers(1, 5))
def test_a_reference_that_sees_no_text_does_not_depend_on_it(one_block, make_sequence, seed, n_reference):
    # isolated and with perturbed self-attention, a reference token reads the text and nothing else
    alone, changes = Perturbation((0,), isolate=True), {}
    for recipe in (InContext(), replace(InContext(), reference_sees_text=True), InContext(hidden_text="uniform")):
        av = make_sequence(n_reference=n_reference, recipe=recipe, seed=seed)
        texts = (text_for(one_block, 1, seed), text_for(one_block, 1, seed + 1))
        rows = []
        for text in texts:
            run = partial(one_block, replace(av, text=text), SIGMA, perturbation=alone)
            rows.append(outputs_of(one_block.transformer.audio_proj_out, run)[0][1])
        assert not torch.equal(rows[0][:, n_reference:], rows[1][:, n_reference:])
        changes[recipe] = not torch.equal(rows[0][:, :n_reference], rows[1][:, :n_reference])
    assert list(changes.values()) == [False, True, True]


def test_a_reference_that_sees_nothing_gets_exact_zeros_from_the_text(smoke_ltx2, make_sequence):
    attention = smoke_ltx2.transformer.transformer_blocks[0].audio_attn2
    av = make_sequence(recipe=InContext(hidden_text="nothing"))
    ((_, hidden),) = outputs_of(attention, lambda: smoke_ltx2(av, SIGMA))
    assert torch.equal(hidden[:, :3], torch.zeros_like(hidden[:, :3]))
    ((_, seen),) = outputs_of(attention, lambda: smoke_ltx2(make_sequence(recipe=SEEN), SIGMA))
    torch.testing.assert_close(hidden[:, 3:], seen[:, 3:], atol=1e-5, rtol=0)


def test_a_uniform_reference_gets_the_mean_of_all_text_values(smoke_ltx2, make_sequence):
    attention = smoke_ltx2.transformer.transformer_blocks[0].audio_attn2
    av = make_sequence(recipe=InContext(hidden_text="uniform"))
    values = outputs_of(attention.to_v, lambda: smoke_ltx2(av, SIGMA))[0][1]
    output = outputs_of(attention, lambda: smoke_ltx2(av, SIGMA))[0][1]
    expected = attention.to_out[0](values.mean(dim=1, keepdim=True)).expand(1, 3, -1)
    torch.testing.assert_close(output[:, :3], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("hidden_text", ["nothing", "uniform"])
def test_low_precision_stays_finite(smoke_ltx2, make_sequence, hidden_text):
    av = make_sequence(recipe=InContext(hidden_text=hidden_text))
    with torch.autocast("cpu", torch.bfloat16):
        mixed = smoke_ltx2(av, SIGMA)
    pure = LTX2.from_preset("smoke", dtype=torch.bfloat16)(av, SIGMA)
    assert all(torch.isfinite(part).all() for part in (*mixed, *pure))
    assert {part.dtype for part in pure} == {torch.float32}


def test_padded_text_does_not_matter(smoke_ltx2, make_sequence):
    av = make_sequence()
    mask = torch.tensor([[True, True, True, False, False]])
    context = TextContext(av.text.video, av.text.audio, mask)
    cut = TextContext(av.text.video[:, :3], av.text.audio[:, :3])
    padded, short = (smoke_ltx2(replace(av, text=text), SIGMA) for text in (context, cut))
    torch.testing.assert_close(padded, short, atol=1e-5, rtol=0)


def no_output(attention):
    """Make an attention contribute nothing."""
    attention.to_out[0].weight.zero_()
    attention.to_out[0].bias.zero_()


@pytest.mark.parametrize(
    ("modalities", "names"), [("both", ("attn1", "audio_attn1")), ("video", ("attn1",)), ("audio", ("audio_attn1",))]
)
def test_a_perturbed_block_of_the_19b_layout_loses_its_self_attention(make_sequence, modalities, names):
    model, av = LTX2.from_preset("smoke").requires_grad_(False), make_sequence()
    perturbed = model(av, SIGMA, perturbation=Perturbation((1,), modalities))
    for name in names:
        no_output(getattr(model.transformer.transformer_blocks[1], name))
    torch.testing.assert_close(perturbed, model(av, SIGMA))


@pytest.mark.parametrize(("modalities", "silent"), [("both", "va"), ("video", "v"), ("audio", "a")])
def test_a_perturbed_block_of_the_23_layout_passes_its_values(smoke_ltx23, make_sequence, modalities, silent):
    av, twin = replace(make_sequence(), text=text_for(smoke_ltx23, 1, 0)), Perturbation((1,), modalities)
    block = smoke_ltx23.transformer.transformer_blocks[1]
    for key, attention in (("v", block.attn1), ("a", block.audio_attn1)):
        queries = outputs_of(attention.to_q, lambda: smoke_ltx23(av, SIGMA, perturbation=twin))
        assert len(queries) == (key not in silent)
    assert not torch.equal(smoke_ltx23(av, SIGMA, perturbation=twin)[0], smoke_ltx23(av, SIGMA)[0])


def test_isolated_modalities_ignore_each_other(smoke_ltx2, make_sequence):
    av, other, alone = make_sequence(), make_sequence(seed=1), Perturbation(isolate=True)
    mixed = replace(av, audio=other.audio)
    video, _ = smoke_ltx2(av, SIGMA, perturbation=alone)
    assert torch.equal(video, smoke_ltx2(mixed, SIGMA, perturbation=alone)[0])
    assert not torch.equal(smoke_ltx2(av, SIGMA)[0], smoke_ltx2(mixed, SIGMA)[0])


def gradients(model, av, *, twin=None, perturbation=UNPERTURBED):
    """Gradients of the audio half, with a call for a twin between forward and backward."""
    model.zero_grad()
    video, audio = model(av, SIGMA.expand(2), perturbation=perturbation)
    if twin is not None:
        model(twin, SIGMA)
    (video.square().mean() + audio.square().mean()).backward()
    return {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}


REPLAYED = [UNPERTURBED, Perturbation((1,)), Perturbation((0,), "video", isolate=True)]


@pytest.mark.parametrize("perturbation", REPLAYED)
def test_gradient_checkpointing_gives_the_same_gradients(make_sequence, perturbation):
    model, av = LTX2.from_preset("smoke"), make_sequence(batch=2)
    expected = gradients(model, av, perturbation=perturbation)
    model.transformer.enable_gradient_checkpointing()
    twin = make_sequence(recipe=SEEN, n_reference=5)
    replayed = gradients(model, av, twin=twin, perturbation=perturbation)
    assert expected.keys() == replayed.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(replayed[name], gradient, atol=1e-6, rtol=1e-5)


def test_a_failed_call_leaves_nothing_behind(smoke_ltx2, make_sequence):
    av, plain = make_sequence(), make_sequence(recipe=SEEN)
    before = smoke_ltx2(plain, SIGMA)
    broken = replace(av, text=TextContext(torch.randn(1, 5, 3), torch.randn(1, 5, 3)))
    with pytest.raises(RuntimeError):
        smoke_ltx2(broken, SIGMA, perturbation=Perturbation((0,)))
    for name in ("rope", "audio_rope", "cross_attn_audio_rope"):
        assert not getattr(smoke_ltx2.transformer, name)._forward_hooks
    assert all(torch.equal(*parts) for parts in zip(before, smoke_ltx2(plain, SIGMA), strict=True))


def test_a_block_that_does_not_exist_is_refused(smoke_ltx2, make_sequence):
    with pytest.raises(ValueError, match=r"perturbation.blocks must lie in 0..1 for smoke; got \(29,\).*block is 1"):
        smoke_ltx2(make_sequence(), SIGMA, perturbation=Perturbation((29,)))


@pytest.mark.parametrize("name", ["smoke", "nano"])
def test_grids_equal_those_of_diffusers_bit_for_bit(name):
    model = LTX2.from_preset(name)
    video = model.transformer.rope.prepare_video_coords(1, 5, 2, 3, torch.device("cpu"), fps=25.0)
    audio = model.transformer.audio_rope.prepare_audio_coords(1, 40, torch.device("cpu"))
    assert torch.equal(model.geometry.video.positions(5, 2, 3), video)
    assert torch.equal(model.geometry.audio.positions(40), audio)


def test_an_unknown_preset_is_refused():
    with pytest.raises(ValueError, match="preset must be one of nano, smoke, ltx2-19b, ltx2.3-22b; got 'ltx3'"):
        LTX2.from_preset("ltx3")


@pytest.mark.parametrize(
    ("name", "channels"), [("smoke", (24, 24)), ("ltx2-19b", (3840, 3840)), ("ltx2.3-22b", (4096, 2048))]
)
def test_presets_know_the_width_of_their_text(name, channels):
    assert preset_named(name).text_channels == channels


def calls_of(run, *, without):
    """Count the Python functions that run calls, except those below that function."""
    counts, inside = 0, 0

    def count(frame, event, _argument):
        nonlocal counts, inside
        entered = frame.f_code is without.__code__
        if event == "call" and not inside:
            counts += 1
        if entered:
            inside += {"call": 1, "return": -1}.get(event, 0)

    sys.setprofile(count)
    try:
        run()
    finally:
        sys.setprofile(None)
    return counts


def test_a_call_costs_little_around_the_transformer_however_many_weights_there_are(make_sequence):
    # diffusers' property `dtype` walks over all modules and weights: 10 % of a call of the nano base
    found = []
    for n_blocks in (2, 6):
        preset = preset_named("smoke")
        model = LTX2(replace(preset, config={**preset.config, "num_layers": n_blocks}))
        attach_lora(model, 4)
        av, sigma = make_sequence(), torch.tensor([0.5])
        with torch.no_grad():
            found.append(calls_of(partial(model, av, sigma), without=LTX2VideoTransformer3DModel.forward))
    assert found[0] == found[1]
    assert found[0] < 200
