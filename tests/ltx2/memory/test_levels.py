"""Memory settings: what is refused, and a model that is built block by block."""

import pytest
import torch
from torch import nn

from idlora_pl.ltx2.memory.frozen import FrozenLinear
from idlora_pl.ltx2.memory.levels import Memory, apply_memory
from idlora_pl.ltx2.transformer import LTX2
from tests.ltx2.memory.conftest import SIGMA


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weights": "int4"}, "memory.weights must be one of bf16, int8, fp8, nf4; got 'int4'"),
        ({"swap_blocks": -1}, "memory.swap_blocks must be 0, or 3 and more.*; got -1"),
        ({"swap_blocks": 2}, "because 2 of the swapped blocks are on the device at any time; got 2"),
        ({"swap_blocks": 3.0}, "memory.swap_blocks must be 0, or 3 and more.*; got 3.0"),
        ({"swap_blocks": True}, "memory.swap_blocks must be 0, or 3 and more.*; got True"),
        ({"checkpointing": "some"}, "memory.checkpointing must be none, all or a share between 0 and 1; got 'some'"),
        ({"checkpointing": 1.0}, "a share between 0 and 1; got 1.0"),
        ({"checkpointing": True}, "a share between 0 and 1; got True"),
        ({"swap_blocks": 3, "checkpointing": "none"}, "swap_blocks 3 needs blocks that are computed again"),
    ],
)
def test_what_is_no_choice_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Memory(**settings)


def test_more_swapped_blocks_than_are_computed_again_are_refused(make_model):
    with pytest.raises(ValueError, match="must be at most 3, the blocks of this base that memory.checkpointing 0.5"):
        apply_memory(make_model(6), Memory(swap_blocks=4, checkpointing=0.5), "cpu")
    with pytest.raises(ValueError, match="must be at most 2, .* memory.checkpointing all computes again; got 3"):
        apply_memory(make_model(2), Memory(swap_blocks=3), "cpu")


def test_memory_is_applied_once(make_model):
    model = make_model(2)
    apply_memory(model, Memory("int8"), "cpu")
    with pytest.raises(ValueError, match="kept as int8 already; load it anew"):
        apply_memory(model, Memory("int8"), "cpu")


def test_the_default_changes_nothing(make_model, make_sequence):
    model, still = make_model(2), make_model(2)
    assert apply_memory(model, Memory(), "cpu") is None
    assert {name: type(module) for name, module in model.named_modules()} == {
        name: type(module) for name, module in still.named_modules()
    }
    with torch.no_grad():
        velocities = zip(model(make_sequence(), SIGMA), still(make_sequence(), SIGMA), strict=True)
    assert all(torch.equal(ours, theirs) for ours, theirs in velocities)


@pytest.mark.parametrize("memory", [Memory(), Memory("nf4"), Memory("int8", swap_blocks=3)])
def test_a_model_of_shapes_is_filled_block_by_block(make_model, make_sequence, memory):
    still, most = make_model(4), []
    model = LTX2(still.preset, device="meta")
    names = {module: name for name, module in model.named_modules()}

    def fill(module: nn.Module) -> None:
        for part in module.modules():
            for own, weight in part.named_parameters(recurse=False):
                if weight.is_meta:
                    given = still.get_parameter(".".join(filter(None, (names[part], own))))
                    setattr(part, own, nn.Parameter(given.detach().clone()))
        linears = [linear for linear in model.transformer.transformer_blocks.modules() if type(linear) is nn.Linear]
        most.append(sum(not linear.weight.is_meta for linear in linears))

    apply_memory(model, memory, "cpu", fill=fill)
    apply_memory(still, memory, "cpu")
    if not memory.is_plain:
        assert max(most) == 28
        assert sum(isinstance(module, FrozenLinear) for module in model.modules()) == 28 * 4
    with torch.no_grad():
        velocities = zip(model(make_sequence(), SIGMA), still(make_sequence(), SIGMA), strict=True)
    assert all(torch.equal(ours, theirs) for ours, theirs in velocities)
