"""Frozen linears in few bits: the same numbers as an ordinary linear with the same weight, and nothing kept."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from idlora_pl.ltx2.lora import attach_lora, attached_lora, detach_lora, load_adapter, lora_state_dict, save_adapter
from idlora_pl.ltx2.memory.codes import decode
from idlora_pl.ltx2.memory.frozen import FrozenLinear, fuse
from idlora_pl.ltx2.memory.levels import Memory, apply_memory
from idlora_pl.ltx2.presets import preset_named
from idlora_pl.ltx2.transformer import LTX2
from tests.ltx2.memory.conftest import SIGMA

LEVELS = ["int8", "fp8", "nf4"]
SHAPES = [(128,), (5, 128), (2, 5, 128), (2, 3, 5, 128)]


def ordinary(frozen):
    """A linear of torch that holds the weight of a frozen one."""
    linear = nn.Linear(frozen.in_features, frozen.out_features, dtype=frozen.dtype)
    linear.weight.data, linear.bias.data = frozen.weight.clone(), frozen.bias.data.clone()
    return linear.requires_grad_(False)


def one_block(name):
    """The first block of a full-size model, as shapes."""
    preset = preset_named(name)
    return LTX2(replace(preset, config={**preset.config, "num_layers": 1}))


def through(linear, x):
    """Output, and gradient of the input for a fixed gradient of the output."""
    x = x.clone().requires_grad_()
    y = linear(x)
    gradient = torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).to(y.dtype)
    (grad_x,) = torch.autograd.grad(y, x, gradient)
    return y, grad_x


@pytest.mark.parametrize("level", ["bf16", *LEVELS])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", SHAPES)
def test_outputs_and_input_gradients_are_those_of_an_ordinary_linear(level, dtype, shape):
    frozen = FrozenLinear(nn.Linear(128, 48, dtype=dtype), level)
    x = torch.randn(shape, dtype=dtype)
    for ours, theirs in zip(through(frozen, x), through(ordinary(frozen), x), strict=True):
        assert ours.dtype == theirs.dtype == dtype
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("level", LEVELS)
def test_under_autocast_it_computes_in_bfloat16(level):
    frozen = FrozenLinear(nn.Linear(128, 48), level)
    theirs = ordinary(frozen).bfloat16()
    theirs.weight.data = frozen.decoder(frozen.qweight, frozen.scales, frozen.pairs, torch.bfloat16)
    x = torch.randn(2, 5, 128)
    with torch.autocast("cpu", torch.bfloat16):
        ours = through(frozen, x)
    assert ours[0].dtype == torch.bfloat16
    for one, other in zip(ours, through(theirs, x.bfloat16()), strict=True):
        assert torch.equal(one, other.to(one.dtype))


@pytest.mark.parametrize("level", LEVELS)
def test_nothing_is_kept_for_backward_but_the_codes(level):
    frozen, kept = FrozenLinear(nn.Linear(128, 64), level), []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        frozen(torch.randn(7, 128, requires_grad=True))
    own = {buffer.data_ptr() for buffer in (frozen.qweight, frozen.scales, frozen.pairs) if buffer is not None}
    assert {tensor.data_ptr() for tensor in kept} == own


@pytest.mark.parametrize("level", LEVELS)
def test_a_weight_that_changes_before_backward_is_noticed(level):
    frozen = FrozenLinear(nn.Linear(128, 64), level)
    y = frozen(torch.randn(7, 128, requires_grad=True))
    frozen.qweight.copy_(frozen.qweight.clone())
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


@pytest.mark.parametrize("level", LEVELS)
def test_casting_the_model_leaves_codes_and_scales_as_they_are(level):
    frozen = FrozenLinear(nn.Linear(128, 64), level)
    before = copy.deepcopy(frozen.state_dict())
    frozen.to(torch.bfloat16).half()
    assert (frozen.bias.dtype, frozen.qweight.dtype) == (torch.float16, before["qweight"].dtype)
    assert frozen.state_dict().keys() == {"bias", "qweight", "scales"}
    for name in ("qweight", "scales"):
        assert torch.equal(frozen.state_dict()[name].float(), before[name].float())
    if level == "nf4":
        assert frozen.pairs.dtype == torch.float32
    assert frozen.to("meta").qweight.is_meta


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("first", ["adapter", pytest.param("quantise", marks=pytest.mark.slow)])
def test_linears_of_blocks_are_coded_before_or_after_the_adapter_is_attached(make_model, adapted, level, first):
    model = make_model(dtype=torch.bfloat16)
    dtypes = {name: weight.dtype for name, weight in model.named_parameters() if "transformer_blocks" not in name}
    if first == "adapter":
        adapted(model)
        apply_memory(model, Memory(level, checkpointing="none"), "cpu")
    else:
        apply_memory(model, Memory(level, checkpointing="none"), "cpu")
        adapted(model)
    coded = [module for module in model.modules() if isinstance(module, FrozenLinear)]
    assert len(coded) == 28 * 2
    assert model.transformer.dtype == torch.bfloat16
    assert dtypes.items() <= {name: weight.dtype for name, weight in model.named_parameters()}.items()
    trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    assert len(trained) == 18 * 2 * 2
    assert {weight.dtype for weight in trained.values()} == {torch.float32}
    expected = adapted(make_model(dtype=torch.bfloat16))
    assert all(torch.equal(lora_state_dict(model)[name], w) for name, w in lora_state_dict(expected).items())


def test_the_gates_of_ltx_2_3_stay_as_they_are():
    model = one_block("ltx2.3-22b")
    apply_memory(model, Memory("int8", checkpointing="none"), "meta")
    block = model.transformer.transformer_blocks[0]
    assert type(block.attn1.to_gate_logits) is nn.Linear
    assert block.attn1.to_q.qweight.dtype == torch.int8


def test_sizes_at_full_size_are_those_of_the_bits():
    model = one_block("ltx2-19b")
    apply_memory(model, Memory("nf4", checkpointing="none"), "meta")
    coded = [module for module in model.modules() if isinstance(module, FrozenLinear)]
    n_weights = sum(module.in_features * module.out_features for module in coded)
    n_bits = 8 * sum(buffer.nbytes for module in coded for buffer in (module.qweight, module.scales))
    assert n_bits / n_weights == 4.25


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", [pytest.param(torch.float32, marks=pytest.mark.slow), torch.bfloat16])
def test_an_adapter_trains_on_coded_weights(make_model, adapted, train, level, dtype):
    model = adapted(make_model(dtype=dtype))
    apply_memory(model, Memory(level, checkpointing="none"), "cpu")
    base = {name: buffer.clone() for name, buffer in model.named_buffers()}
    losses = train(model, 3)
    assert losses[-1] < losses[0]
    assert all(torch.equal(buffer.float(), base[name].float()) for name, buffer in model.named_buffers())


@pytest.mark.parametrize(("level", "limit"), [("int8", 0.01), ("fp8", 0.06), ("nf4", 0.2)])
def test_velocities_differ_by_what_the_bits_cost(make_model, make_sequence, level, limit):
    base, coded = make_model(), make_model()
    apply_memory(coded, Memory(level, checkpointing="none"), "cpu")
    with torch.no_grad():
        pairs = zip(coded(make_sequence(), SIGMA), base(make_sequence(), SIGMA), strict=True)
    for ours, theirs in pairs:
        error = float((ours - theirs).norm() / theirs.norm())
        assert 0 < error < limit


@pytest.mark.parametrize("level", LEVELS)
def test_a_saved_adapter_loads_back_on_coded_weights(make_model, adapted, make_sequence, tmp_path, level):
    model, fresh = adapted(make_model()), make_model()
    apply_memory(model, Memory(level, checkpointing="none"), "cpu")
    apply_memory(fresh, Memory(level, checkpointing="none"), "cpu")
    load_adapter(fresh, save_adapter(model, tmp_path / "adapter.safetensors", {}))
    assert attached_lora(fresh) == attached_lora(model)
    with torch.no_grad():
        for ours, theirs in zip(fresh(make_sequence(), SIGMA), model(make_sequence(), SIGMA), strict=True):
            assert torch.equal(ours, theirs)
    detach_lora(fresh)
    assert attach_lora(fresh, rank=3) > 0


@pytest.mark.slow
@pytest.mark.parametrize("level", LEVELS)
def test_the_compiled_kernel_gives_the_same_training(make_model, adapted, train, level):
    compiled, eager = adapted(make_model(dtype=torch.bfloat16)), adapted(make_model(dtype=torch.bfloat16))
    for model in (compiled, eager):
        apply_memory(model, Memory(level, checkpointing="none"), "cpu")
        model.transformer.enable_gradient_checkpointing()
    assert fuse(compiled)
    assert train(compiled, 2) == train(eager, 2)


@pytest.mark.slow
def test_a_kernel_whose_numbers_differ_is_not_used(make_model):
    model = make_model()
    apply_memory(model, Memory("nf4", checkpointing="none"), "cpu")
    odd = model.transformer.transformer_blocks[1].ff.net[2]
    odd.decoder = lambda *given: 2 * decode(*given)
    with pytest.warns(UserWarning, match="without a compiled kernel, which is slower .its numbers differ for FrozenL"):
        assert not fuse(model)
    assert all(linear.decoder is decode for linear in model.modules() if isinstance(linear, FrozenLinear))


def test_coding_twice_is_refused(make_model):
    model = make_model()
    apply_memory(model, Memory("fp8", checkpointing="none"), "cpu")
    with pytest.raises(ValueError, match="kept as fp8 already; load it anew"):
        apply_memory(model, Memory("int8", checkpointing="none"), "cpu")
