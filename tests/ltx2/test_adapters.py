"""Several LoRAs with strengths: what each adds, what rests, and what training sees of it."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from idlora_pl.ltx2.adapter_file import PEFT_ENTRY
from idlora_pl.ltx2.lora import (
    attach_lora,
    attached_lora,
    has_distilled,
    load_adapter,
    load_distilled,
    lora_state_dict,
    save_adapter,
    strengths,
)
from idlora_pl.ltx2.presets import preset_named
from idlora_pl.ltx2.transformer import LTX2

AUTHORS = {
    "proj_in": "patchify_proj",
    "audio_proj_in": "audio_patchify_proj",
    "time_embed.linear": "adaln_single.linear",
    "audio_time_embed.linear": "audio_adaln_single.linear",
    "av_cross_attn_video_a2v_gate.linear": "av_ca_a2v_gate_adaln_single.linear",
    "transformer_blocks.1.attn1.to_q": "transformer_blocks.1.attn1.to_q",
    "transformer_blocks.0.audio_attn1.to_out.0": "transformer_blocks.0.audio_attn1.to_out.0",
    "transformer_blocks.0.ff.net.0.proj": "transformer_blocks.0.ff.net.0.proj",
    "proj_out": "proj_out",
}
"""Linears of diffusers and their names in the authors' files."""


def updates(model):
    """Low-rank updates of another rank for each linear, by diffusers' names."""
    state = {}
    for rank, name in enumerate(AUTHORS, start=2):
        linear = model.transformer.get_submodule(name)
        state[name] = 0.2 * torch.randn(rank, linear.in_features), 0.2 * torch.randn(linear.out_features, rank)
    return state


def as_file(pairs, path, style="authors"):
    """Write updates in the authors' or in diffusers' style."""
    names = {
        name: f"diffusion_model.{AUTHORS[name]}" if style == "authors" else f"transformer.{name}" for name in pairs
    }
    state = {
        f"{names[name]}.lora_{side}.weight": pair["AB".index(side)] for name, pair in pairs.items() for side in "AB"
    }
    save_file(state, path)
    return path


# Key map of the specification (section 7), from diffusers' names to the authors'.
SPECIFIED = {
    "proj_in": "patchify_proj",
    "audio_proj_in": "audio_patchify_proj",
    "time_embed": "adaln_single",
    "audio_time_embed": "audio_adaln_single",
    "av_cross_attn_video_scale_shift": "av_ca_video_scale_shift_adaln_single",
    "av_cross_attn_video_a2v_gate": "av_ca_a2v_gate_adaln_single",
    "av_cross_attn_audio_scale_shift": "av_ca_audio_scale_shift_adaln_single",
    "av_cross_attn_audio_v2a_gate": "av_ca_v2a_gate_adaln_single",
    "prompt_adaln": "prompt_adaln_single",
    "audio_prompt_adaln": "audio_prompt_adaln_single",
}


@pytest.mark.parametrize("preset", ["ltx2-19b", "ltx2.3-22b"])
def test_every_linear_of_the_full_models_is_found_under_the_authors_name(preset, tmp_path):
    with torch.device("meta"):
        model = LTX2(replace(preset_named(preset), config=dict(preset_named(preset).config) | {"num_layers": 1}))
    linears = {name: m for name, m in model.transformer.named_modules() if isinstance(m, torch.nn.Linear)}
    state = {}
    for name, linear in linears.items():
        first, _, rest = name.partition(".")
        authors = ".".join([SPECIFIED.get(first, first), rest]).rstrip(".")
        state[f"diffusion_model.{authors}.lora_A.weight"] = torch.ones(1, linear.in_features)
        state[f"diffusion_model.{authors}.lora_B.weight"] = torch.ones(linear.out_features, 1)
    save_file(state, tmp_path / "distilled.safetensors")
    load_distilled(model, tmp_path / "distilled.safetensors")
    adapted = {
        name.removesuffix(".lora_A.distilled")
        for name, _ in model.transformer.named_modules()
        if name.endswith(".lora_A.distilled")
    }
    assert adapted == linears.keys()


@pytest.fixture
def base():
    return LTX2.from_preset("smoke").requires_grad_(False)


@pytest.fixture
def pairs(base):
    return updates(base)


def trained(model):
    """Attach an ID-LoRA that changes something."""
    attach_lora(model, rank=2)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            weight.data.normal_(std=0.1)
    return model


@torch.no_grad()
def velocities(model, av):
    return torch.cat([part.flatten() for part in model(av, torch.tensor([0.6]))])


@pytest.mark.parametrize("style", ["authors", "diffusers"])
def test_a_distilled_lora_is_what_fusing_it_gives(base, pairs, make_sequence, tmp_path, style):
    av, plain = make_sequence(), velocities(base, make_sequence())
    fused = LTX2.from_preset("smoke")
    fused.load_state_dict(base.state_dict())
    for name, (down, up) in pairs.items():
        fused.transformer.get_submodule(name).weight.data += 0.5 * up @ down
    load_distilled(base, as_file(pairs, tmp_path / "distilled.safetensors", style))
    assert torch.equal(velocities(base, av), plain)
    with strengths(base, distilled=0.5):
        torch.testing.assert_close(velocities(base, av), velocities(fused, av), atol=1e-5, rtol=1e-5)
    assert (velocities(fused, av) - plain).abs().max() > 0.01
    assert torch.equal(velocities(base, av), plain)


def test_strengths_hold_inside_the_block_and_rest_afterwards(base, pairs, make_sequence, tmp_path):
    av, plain = make_sequence(), velocities(base, make_sequence())
    model = trained(base)
    adapted = velocities(model, av)
    load_distilled(model, as_file(pairs, tmp_path / "distilled.safetensors"))
    made = {}
    for scales in ((1.0, 0.0), (0.0, 0.0), (0.0, 0.8), (1.0, 0.25), (0.5, 0.0)):
        with strengths(model, adapter=scales[0], distilled=scales[1]):
            made[scales] = velocities(model, av)
        assert torch.equal(velocities(model, av), adapted)
    assert torch.equal(made[1.0, 0.0], adapted)
    assert torch.equal(made[0.0, 0.0], plain)
    different = [made[scales] for scales in ((0.0, 0.8), (1.0, 0.25), (0.5, 0.0))] + [adapted, plain]
    assert all((one - other).abs().max() > 1e-4 for i, one in enumerate(different) for other in different[:i])


def test_strengths_are_restored_after_an_error(base, pairs, make_sequence, tmp_path):
    model = trained(base)
    adapted = velocities(model, make_sequence())
    load_distilled(model, as_file(pairs, tmp_path / "distilled.safetensors"))
    with pytest.raises(RuntimeError, match="stop"), strengths(model, adapter=0.0, distilled=1.0):
        raise RuntimeError("stop")
    assert torch.equal(velocities(model, make_sequence()), adapted)


def test_training_sees_nothing_of_a_distilled_lora(base, pairs, make_sequence, tmp_path):
    model = trained(base)
    trainable = {name for name, weight in model.named_parameters() if weight.requires_grad}
    saved, size = lora_state_dict(model), attached_lora(model)

    def gradients():
        model.zero_grad()
        sum(part.square().mean() for part in model(make_sequence(), torch.tensor([0.6]))).backward()
        return {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}

    before = gradients()
    load_distilled(model, as_file(pairs, tmp_path / "distilled.safetensors"))
    with strengths(model, adapter=0.0, distilled=1.0):
        assert {name for name, weight in model.named_parameters() if weight.requires_grad} == trainable
    assert {name for name, weight in model.named_parameters() if weight.requires_grad} == trainable
    after = gradients()
    assert before.keys() == after.keys() == trainable
    assert all(torch.equal(before[name], after[name]) for name in before)
    again = lora_state_dict(model)
    assert saved.keys() == again.keys()
    assert all(torch.equal(saved[name], again[name]) for name in saved)
    assert attached_lora(model) == size


def test_a_base_with_a_distilled_lora_alone_carries_no_id_lora(base, pairs, tmp_path):
    assert not has_distilled(base)
    load_distilled(base, as_file(pairs, tmp_path / "distilled.safetensors"))
    assert has_distilled(base)
    assert attached_lora(base) is None
    assert not any(weight.requires_grad for weight in base.parameters())
    with pytest.raises(ValueError, match="the model carries a distilled LoRA already"):
        load_distilled(base, tmp_path / "distilled.safetensors")


def test_the_tensors_are_kept_in_the_dtype_of_the_base(pairs, tmp_path):
    model = LTX2.from_preset("smoke", dtype=torch.bfloat16)
    load_distilled(model, as_file(pairs, tmp_path / "distilled.safetensors"))
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}


def test_tensors_of_the_text_connectors_are_left_out_and_named(base, pairs, tmp_path):
    path = as_file(pairs, tmp_path / "distilled.safetensors")
    state = {"text_embedding_projection.aggregate_embed.lora_A.weight": torch.zeros(2, 3)}
    names = {
        f"diffusion_model.{AUTHORS[name]}.lora_{side}.weight": pair["AB".index(side)]
        for name, pair in pairs.items()
        for side in "AB"
    }
    save_file(state | names, path)
    with pytest.warns(UserWarning, match="1 tensors for the text connectors are left out.*aggregate_embed.lora_A"):
        load_distilled(base, path)
    assert has_distilled(base)


def test_files_that_do_not_fit_are_refused(base, tmp_path):
    good = {
        "diffusion_model.proj_out.lora_A.weight": torch.ones(2, 32),
        "diffusion_model.proj_out.lora_B.weight": torch.ones(128, 2),
    }
    cases = {
        r"1 of 3 names are of no linear of it \['transformer_blocks.9.ff.net.2.lora_A.weight'\]": good
        | {"diffusion_model.transformer_blocks.9.ff.net.2.lora_A.weight": torch.ones(2, 3)},
        r"1 are missing \['proj_out.lora_B.weight'\]": dict(list(good.items())[:1]),
        r"proj_out.lora_A.weight is \(2, 31\), smoke needs \(2, 32\)": good
        | {"diffusion_model.proj_out.lora_A.weight": torch.ones(2, 31)},
        r"proj_out.lora_B.weight is \(128, 3\), smoke needs \(128, 2\)": good
        | {"diffusion_model.proj_out.lora_B.weight": torch.ones(128, 3)},
        r"names are of no linear of it \['proj_out.alpha'\]": good | {"diffusion_model.proj_out.alpha": torch.ones(())},
        "1 tensors hold nan or infinity: proj_out.lora_B.weight": good
        | {"diffusion_model.proj_out.lora_B.weight": torch.full((128, 2), float("nan"))},
        "changes nothing: every update is zero": good | {"diffusion_model.proj_out.lora_B.weight": torch.zeros(128, 2)},
    }
    path = tmp_path / "distilled.safetensors"
    for message, state in cases.items():
        save_file(state, path)
        with pytest.raises(ValueError, match=message):
            load_distilled(base, path)
    header = {"transformer.r": 2, "transformer.lora_alpha": 4.0}
    save_file(good, path, metadata={PEFT_ENTRY: json.dumps(header)})
    with pytest.raises(ValueError, match="the header has alpha 4.0 for rank 2"):
        load_distilled(base, path)
    for wrong, message in (("{", "is not JSON"), ("[]", "holds a list, not an object")):
        save_file(good, path, metadata={PEFT_ENTRY: wrong})
        with pytest.raises(ValueError, match=f"distilled.safetensors: {PEFT_ENTRY} {message}"):
            load_distilled(base, path)
    path.write_text("no weights")
    with pytest.raises(ValueError, match="no safetensors file"):
        load_distilled(base, path)
    with pytest.raises(FileNotFoundError, match="nowhere: no such file; give the safetensors file of the distilled"):
        load_distilled(base, tmp_path / "nowhere")
    assert not has_distilled(base)


def test_an_id_lora_may_be_attached_before_or_after_a_distilled_one(base, pairs, make_sequence, tmp_path):
    av, path = make_sequence(), as_file(pairs, tmp_path / "distilled.safetensors")
    second = LTX2.from_preset("smoke")
    second.load_state_dict(base.state_dict())
    first = trained(base)
    save_adapter(first, tmp_path / "adapter.safetensors", {})
    load_distilled(first, path)
    load_distilled(second, path)
    load_adapter(second, tmp_path / "adapter.safetensors")
    for scales in ({"adapter": 1.0, "distilled": 0.5}, {"adapter": 0.0, "distilled": 0.8}, {"adapter": 1.0}):
        with strengths(first, **scales), strengths(second, **scales):
            assert torch.equal(velocities(first, av), velocities(second, av)), scales


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.float16], ids=str)
def test_a_distilled_lora_in_fp8_is_the_same_lora(base, pairs, make_sequence, tmp_path, dtype):
    rounded = {name: tuple(weight.to(dtype).float() for weight in pair) for name, pair in pairs.items()}
    stored = {name: tuple(weight.to(dtype) for weight in pair) for name, pair in pairs.items()}
    found = []
    for name, these in (("float", rounded), ("stored", stored)):
        model = LTX2(base.preset)
        model.transformer.load_state_dict(base.transformer.state_dict())
        load_distilled(model, as_file(these, tmp_path / f"{name}.safetensors"))
        with strengths(model, distilled=0.7):
            found.append(velocities(model, make_sequence()))
    assert torch.equal(*found)
    assert not torch.equal(found[0], velocities(base, make_sequence()))


def test_a_distilled_lora_of_whole_numbers_is_refused(base, pairs, tmp_path):
    state = {name: tuple(weight.to(torch.int8) for weight in pair) for name, pair in pairs.items()}
    with pytest.raises(ValueError, match="is stored as int8; pass a LoRA in float32, float16, bfloat16 or fp8"):
        load_distilled(LTX2(base.preset), as_file(state, tmp_path / "a.safetensors"))
