"""LoRA: what is attached, what is trained, and adapter files that load back exactly or are refused."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from idlora_pl.ltx2.adapter_format import PAPER_TARGETS
from idlora_pl.ltx2.lora import (
    attach_lora,
    attached_lora,
    detach_lora,
    load_adapter,
    load_lora_state_dict,
    lora_state_dict,
    save_adapter,
)
from idlora_pl.ltx2.transformer import LTX2
from idlora_pl.method.in_context import InContext

SIGMA = torch.tensor([0.6])


def trained(base, rank=4, alpha=None):
    """A copy of the base model with an adapter that does something."""
    model = copy_of(base)
    attach_lora(model, rank=rank, alpha=alpha)
    for name, weight in model.named_parameters():
        if ".lora_B." in name:
            torch.nn.init.normal_(weight)
    return model


def copy_of(base):
    """A model with the weights of the base."""
    model = LTX2.from_preset(base.preset.name)
    model.transformer.load_state_dict(base.transformer.state_dict())
    return model


def assert_same_velocities(a, b, av):
    for part, expected in zip(a(av, SIGMA), b(av, SIGMA), strict=True):
        assert torch.equal(part, expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "base", "added"),
    [
        ("smoke", 121_024, None),
        ("ltx2-19b", 18_876_174_592, 578_813_952),
        ("ltx2.3-22b", 18_988_838_144, 578_813_952),
    ],
)
def test_models_and_their_adapters_have_the_published_sizes(name, base, added):
    model = LTX2.from_preset(name)
    assert sum(weight.numel() for weight in model.parameters()) == base
    if added:
        assert attach_lora(model, rank=128) == added
        state = lora_state_dict(model)
        assert len(state) == 1728
        assert sum(weight.numel() for weight in state.values()) == added


def test_the_paper_trains_eighteen_linears_per_block(smoke_ltx2):
    state = lora_state_dict(trained(smoke_ltx2))
    assert len(PAPER_TARGETS) == 18
    assert len(state) == 18 * 2 * 2
    names = {name.removeprefix("diffusion_model.transformer_blocks.0.") for name in state}
    assert {f"{target}.lora_A.weight" for target in PAPER_TARGETS} <= names


def test_a_fresh_adapter_is_the_identity(smoke_ltx2, make_sequence):
    model = copy_of(smoke_ltx2)
    attach_lora(model, rank=4)
    assert_same_velocities(model, smoke_ltx2, make_sequence())


def test_only_the_adapter_is_trainable_and_in_float32():
    model = LTX2.from_preset("smoke", dtype=torch.bfloat16)
    added = attach_lora(model, rank=2)
    trainable = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    assert all(".lora_" in name for name in trainable)
    assert {weight.dtype for weight in trainable.values()} == {torch.float32}
    assert sum(weight.numel() for weight in trainable.values()) == added


def test_gradients_reach_every_adapter_tensor(smoke_ltx2, make_sequence):
    model = trained(smoke_ltx2)
    model.transformer.enable_gradient_checkpointing()
    video, audio = model(make_sequence(), SIGMA)
    (video.square().mean() + audio.square().mean()).backward()
    silent = [n for n, w in model.named_parameters() if w.requires_grad and not w.grad.abs().max() > 0]
    assert silent == []


def test_detaching_gives_the_base_back(smoke_ltx2, make_sequence):
    model = trained(smoke_ltx2)
    detach_lora(model)
    assert attached_lora(model) is None
    assert_same_velocities(model, smoke_ltx2, make_sequence())
    assert attach_lora(model, rank=2) > 0


def test_a_saved_adapter_loads_back_exactly(smoke_ltx2, make_sequence, tmp_path):
    model, fresh = trained(smoke_ltx2, rank=4, alpha=6.0), copy_of(smoke_ltx2)
    path = save_adapter(model, tmp_path / "new", InContext().to_metadata(), style="diffusers")
    metadata = load_adapter(fresh, path)
    assert InContext.from_metadata(metadata) == InContext()
    assert attached_lora(fresh) == attached_lora(model)
    for name, weight in lora_state_dict(model).items():
        assert torch.equal(lora_state_dict(fresh)[name], weight), name
    assert_same_velocities(fresh, model, make_sequence())


@pytest.mark.parametrize("prefix", ["diffusion_model.", "transformer.", ""])
def test_files_of_other_programs_load_with_alpha_equal_to_rank(smoke_ltx2, make_sequence, tmp_path, prefix):
    model, fresh = trained(smoke_ltx2), copy_of(smoke_ltx2)
    state = {name.replace("diffusion_model.", prefix): weight for name, weight in lora_state_dict(model).items()}
    save_file(state, tmp_path / "foreign.safetensors")
    assert load_adapter(fresh, tmp_path / "foreign.safetensors") == {}
    assert attached_lora(fresh).alpha == 4.0
    assert_same_velocities(fresh, model, make_sequence())


def test_an_adapter_of_the_same_form_is_loaded_in_place(smoke_ltx2, tmp_path):
    model, other = trained(smoke_ltx2), trained(smoke_ltx2)
    weights = [weight for weight in other.parameters() if weight.requires_grad]
    save_adapter(model, tmp_path / "a.safetensors", {})
    load_adapter(other, tmp_path / "a.safetensors")
    assert all(a is b for a, b in zip(weights, (w for w in other.parameters() if w.requires_grad), strict=True))
    assert all(torch.equal(*pair) for pair in zip(*(lora_state_dict(m).values() for m in (model, other)), strict=True))


def test_an_interrupted_save_leaves_the_old_file(smoke_ltx2, tmp_path):
    path = tmp_path / "a.safetensors"
    save_adapter(trained(smoke_ltx2), path, {"run": "first"})
    before = path.read_bytes()
    with pytest.raises(TypeError):
        save_adapter(trained(smoke_ltx2), path, {"run": 2})
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["a.safetensors"]


def broken(state, case):
    """An adapter state with one fault."""
    name = "diffusion_model.transformer_blocks.0.audio_ff.net.2.lora_A.weight"
    if case == "missing":
        del state[name]
    elif case == "foreign":
        state["lora_te.weight"] = torch.zeros(2)
    elif case == "shape":
        state[name] = state[name][:, 1:].contiguous()
    elif case == "other linear":
        state = {key.replace("audio_attn1", "text_attn1"): weight for key, weight in state.items()}
    elif case == "block":
        state = {key: weight for key, weight in state.items() if ".1.audio_attn1" not in key}
    elif case == "nan":
        state[name] = state[name].clone().fill_(torch.nan)
    elif case in ("untrained", "no way in"):
        kept = ".lora_A." if case == "untrained" else ".lora_B."
        state = {key: weight * (kept in key) for key, weight in state.items()}
    return state


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("missing", "1 tensors missing: transformer_blocks.0.audio_ff.net.2.lora_A.weight; pass a complete"),
        ("foreign", "1 of 73 names are no LoRA weights of LTX-2: lora_te.weight; pass a file"),
        ("shape", r"smoke at rank 4 \(1 of another shape: .*net.2.lora_A.weight is \(4, 63\), not \(4, 64\)\)"),
        ("other linear", r"16 unexpected: .*0.text_attn1.to_k.lora_A.weight, .*0.text_attn1.to_k.lora_B.* and 13 more"),
        ("block", r"8 missing: .*1.audio_attn1.to_k.lora_A.weight.* and 5 more\); pass one that was trained on this"),
        ("nan", "1 tensors hold nan or infinity: .*0.audio_ff.net.2.lora_A.weight"),
        ("untrained", "changes nothing: each of its 36 updates is zero, the adapter was never trained"),
        ("no way in", "changes nothing: each of its 36 updates is zero"),
    ],
)
def test_a_faulty_adapter_is_refused_and_nothing_is_attached(smoke_ltx2, tmp_path, case, message):
    save_file(broken(lora_state_dict(trained(smoke_ltx2)), case), tmp_path / "bad.safetensors")
    model = copy_of(smoke_ltx2)
    with pytest.raises(ValueError, match=f"bad.safetensors: .*{message}"):
        load_adapter(model, tmp_path / "bad.safetensors")
    assert attached_lora(model) is None


def test_an_adapter_of_another_base_model_is_refused(smoke_ltx2, tmp_path):
    save_adapter(trained(smoke_ltx2), tmp_path / "a.safetensors", {})
    with pytest.raises(
        ValueError, match="adapter of base model 'smoke', this model is 'nano'; load it into LTX2 'smoke'"
    ):
        load_adapter(LTX2.from_preset("nano"), tmp_path / "a.safetensors")


def test_an_adapter_of_another_rank_is_refused_while_one_is_attached(smoke_ltx2, tmp_path):
    save_adapter(trained(smoke_ltx2, rank=4), tmp_path / "a.safetensors", {})
    with pytest.raises(ValueError, match=r"carries an adapter of rank 2, .*detach_lora\(model\) first"):
        load_adapter(trained(smoke_ltx2, rank=2), tmp_path / "a.safetensors")


def test_files_that_are_no_adapters_are_refused(smoke_ltx2, tmp_path):
    with pytest.raises(FileNotFoundError, match="gone.safetensors: no such adapter file"):
        load_adapter(smoke_ltx2, tmp_path / "gone.safetensors")
    (tmp_path / "text.safetensors").write_text("hello")
    with pytest.raises(ValueError, match="text.safetensors: no safetensors file"):
        load_adapter(smoke_ltx2, tmp_path / "text.safetensors")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 0}, "rank must be at least 1; got 0"),
        ({"targets": ("audio_attn9.to_q",)}, "target 'audio_attn9.to_q' names no linear of smoke"),
    ],
)
def test_an_impossible_adapter_is_refused(smoke_ltx2, options, message):
    with pytest.raises(ValueError, match=message):
        attach_lora(smoke_ltx2, **options)


def test_a_second_adapter_is_refused(smoke_ltx2):
    with pytest.raises(ValueError, match=r"already carries an adapter; call detach_lora\(model\) first"):
        attach_lora(trained(smoke_ltx2), rank=2)


def test_a_state_of_another_form_is_refused(smoke_ltx2, tmp_path):
    state = lora_state_dict(trained(smoke_ltx2, rank=4))
    with pytest.raises(ValueError, match=r"72 of another shape: .* is \(4, 16\), not \(2, 16\)"):
        load_lora_state_dict(trained(smoke_ltx2, rank=2), state)
    state.popitem()
    with pytest.raises(ValueError, match="not a state of the attached adapter .1 missing: "):
        load_lora_state_dict(trained(smoke_ltx2, rank=4), state)
    with pytest.raises(ValueError, match=r"carries no adapter; call attach_lora\(model\) first"):
        lora_state_dict(smoke_ltx2)


def test_the_file_holds_the_names_that_comfyui_reads(smoke_ltx2, tmp_path):
    save_adapter(trained(smoke_ltx2), tmp_path / "a.safetensors", {})
    names = load_file(tmp_path / "a.safetensors").keys()
    assert all(name.startswith("diffusion_model.transformer_blocks.") for name in names)
    assert all(name.endswith((".lora_A.weight", ".lora_B.weight")) for name in names)
