"""Swapped blocks: bit for bit the same training and sampling, and every wrong order is noticed."""

import pytest
import torch

from idlora_pl.ltx2.lora import lora_state_dict
from idlora_pl.ltx2.memory.checkpointing import recomputed_blocks, set_checkpointing
from idlora_pl.ltx2.memory.frozen import FrozenLinear, base_linears, freeze_linears
from idlora_pl.ltx2.memory.levels import Memory, apply_memory, swapped_blocks
from idlora_pl.ltx2.memory.swap import BlockSwap, Link
from tests.ltx2.memory.conftest import SIGMA


class LateLink(Link):
    """A link whose copies arrive at the last moment that its rules allow; `Link` on the CPU copies at the first."""

    def __init__(self) -> None:
        super().__init__(torch.device("cpu"))
        self.on_the_way = {}

    def send(self, block, slot):
        for room in slot.tensors:
            room.view(torch.uint8).fill_(255)  # nan in floats
        self.on_the_way[id(slot)] = block

    def wait(self, slot):
        if block := self.on_the_way.pop(id(slot), None):
            super().send(block, slot)


def late(model, weights):
    """Swap all blocks of a model over a link that is as late as can be."""
    swap = BlockSwap(model.transformer, LateLink())
    for number, block in enumerate(model.transformer.transformer_blocks):
        freeze_linears(block, weights)
        swap.take(number)
    set_checkpointing(model, "all")
    return swap


def plain(model, weights):
    """The same model with every block on the device."""
    apply_memory(model, Memory(weights), "cpu")
    return model


def assert_same_velocities(one, other, av, mode):
    with mode():
        assert all(torch.equal(a, b) for a, b in zip(one(av, SIGMA), other(av, SIGMA), strict=True))


def assert_same_adapters(one, other):
    states = lora_state_dict(one), lora_state_dict(other)
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.slow
@pytest.mark.parametrize("weights", ["bf16", "int8", "fp8", "nf4"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_fifty_steps_of_training_are_bit_identical(make_model, adapted, train, weights, dtype):
    assert_same_trainings(make_model, adapted, train, weights, dtype, 50)


@pytest.mark.parametrize(
    ("weights", "dtype"),
    [
        ("bf16", torch.float32),
        pytest.param("bf16", torch.bfloat16, marks=pytest.mark.slow),
        ("int8", torch.bfloat16),
        pytest.param("fp8", torch.float32, marks=pytest.mark.slow),
    ],
)
def test_steps_of_training_are_bit_identical(make_model, adapted, train, weights, dtype):
    assert_same_trainings(make_model, adapted, train, weights, dtype, 2)


def assert_same_trainings(make_model, adapted, train, weights, dtype, n_steps):
    swapping, still = adapted(make_model(3, dtype)), plain(adapted(make_model(3, dtype)), weights)
    swap = apply_memory(swapping, Memory(weights, swap_blocks=3), "cpu")
    assert train(swapping, n_steps) == train(still, n_steps)
    assert_same_adapters(swapping, still)
    # three blocks take turns in two slots: one is sent in forward and one in backward, and only the very first is late
    assert (swap.n_late, swap.n_sent) == (1, 2 + 2 * n_steps)


@pytest.mark.parametrize(
    ("n_blocks", "n_swapped", "first"), [(5, 3, "adapter"), pytest.param(4, 4, "memory", marks=pytest.mark.slow)]
)
def test_any_number_of_blocks_can_be_swapped(make_model, adapted, train, n_blocks, n_swapped, first):
    swapping, still = make_model(n_blocks), plain(adapted(make_model(n_blocks)), "nf4")
    if first == "adapter":
        adapted(swapping)
    apply_memory(swapping, Memory("nf4", swap_blocks=n_swapped), "cpu")
    if first == "memory":
        adapted(swapping)
    assert train(swapping, 2) == train(still, 2)
    assert_same_adapters(swapping, still)


@pytest.mark.parametrize("weights", [pytest.param("bf16", marks=pytest.mark.slow), "nf4"])
def test_copies_that_arrive_at_the_last_moment_change_nothing(make_model, adapted, train, make_sequence, weights):
    swapping, still = adapted(make_model(5)), plain(adapted(make_model(5)), weights)
    late(swapping, weights)
    assert train(swapping, 1) == train(still, 1)
    assert_same_adapters(swapping, still)
    assert_same_velocities(swapping, still, make_sequence(), torch.no_grad)


@pytest.mark.parametrize("n_blocks", [3, pytest.param(4, marks=pytest.mark.slow), 5])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_sampling_is_bit_identical_and_late_once(make_model, make_sequence, n_blocks, mode):
    swapping, still = make_model(n_blocks), make_model(n_blocks)
    swap = apply_memory(swapping, Memory(swap_blocks=n_blocks), "cpu")
    for _ in range(3):
        assert_same_velocities(swapping, still, make_sequence(), mode)
    assert swap.n_late == 1


def test_training_and_sampling_take_turns(make_model, adapted, train, make_sequence):
    swapping, still = adapted(make_model(4)), plain(adapted(make_model(4)), "int8")
    apply_memory(swapping, Memory("int8", swap_blocks=4), "cpu")
    assert train(swapping, 1) == train(still, 1)
    assert_same_velocities(swapping, still, make_sequence(), torch.inference_mode)
    assert train(swapping, 1) == train(still, 1)
    assert_same_adapters(swapping, still)


def test_two_forward_passes_before_one_backward_pass(make_model, adapted, make_sequence):
    swapping, still = adapted(make_model(4)), plain(adapted(make_model(4)), "bf16")
    apply_memory(swapping, Memory(swap_blocks=4), "cpu")
    for model in (swapping, still):
        parts = [model(make_sequence(seed=seed), SIGMA) for seed in range(2)]
        sum(part.square().mean() for pair in parts for part in pair).backward()
    gradients = [[w.grad for w in model.parameters() if w.requires_grad] for model in (swapping, still)]
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))


def test_with_a_share_computed_again_the_swapped_blocks_are_among_them(make_model, adapted, train):
    swapping, still = adapted(make_model(6)), plain(adapted(make_model(6)), "bf16")
    memory = Memory(swap_blocks=3, checkpointing=0.7)
    assert swapped_blocks(memory, 6) == [0, 1, 3]
    assert recomputed_blocks(6, 0.7) == [0, 1, 3, 4]
    apply_memory(swapping, memory, "cpu")
    assert train(swapping, 1) == train(still, 1)
    assert_same_adapters(swapping, still)


def test_weights_on_the_device_are_two_blocks_at_most(make_model):
    model = make_model(6)
    one_block = sum(linear.weight.nbytes for _, linear in base_linears(model.transformer.transformer_blocks[0]))
    swap = apply_memory(model, Memory(swap_blocks=6), "cpu")
    assert (swap.slot_bytes, swap.host_bytes) == (2 * one_block, 6 * one_block)
    places = [linear.qweight.data_ptr() for linear in model.modules() if isinstance(linear, FrozenLinear)]
    assert len(set(places)) == 2 * 28


# -- what would be wrong is noticed ---------------------------------------------------------------------------------


def test_calling_the_model_inside_a_backward_pass_is_noticed(make_model, adapted, make_sequence):
    model = adapted(make_model(5))
    apply_memory(model, Memory(swap_blocks=5), "cpu")
    touched = next(w for name, w in model.named_parameters() if "blocks.3." in name and "ff.net.2.lora_B" in name)
    touched.register_hook(lambda _: torch.no_grad()(model)(make_sequence(), SIGMA) and None)
    video, _ = model(make_sequence(), SIGMA)
    with pytest.raises(RuntimeError, match="block 1 would replace the weights of block 3, whose backward pass is not"):
        video.sum().backward()


def test_training_goes_on_after_a_backward_pass_that_failed(make_model, adapted, train, make_sequence):
    model, still = adapted(make_model(3)), plain(adapted(make_model(3)), "bf16")
    apply_memory(model, Memory(swap_blocks=3), "cpu")
    touched = next(w for name, w in model.named_parameters() if "blocks.1." in name and "ff.net.2.lora_B" in name)
    handle = touched.register_hook(lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        model(make_sequence(), SIGMA)[0].sum().backward()
    handle.remove()
    assert train(model, 1) == train(still, 1)
    assert_same_adapters(model, still)


def test_gradients_without_activations_computed_again_are_refused(make_model, adapted, make_sequence):
    model = adapted(make_model(3))
    apply_memory(model, Memory(swap_blocks=3), "cpu")
    set_checkpointing(model, "none")
    with pytest.raises(RuntimeError, match="block 0 is swapped, and gradients through it need"):
        model(make_sequence(), SIGMA)


@pytest.mark.parametrize("weights", ["bf16", "int8"])
def test_autograd_itself_notices_a_slot_that_changed_before_backward(make_model, weights):
    model = make_model(3)
    swap = apply_memory(model, Memory(weights, swap_blocks=3), "cpu")
    linear = model.transformer.transformer_blocks[0].ff.net[2]
    with torch.no_grad():
        swap.send(0)
    y = linear(torch.ones(1, linear.in_features, requires_grad=True))
    swap.send(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_state_and_weights_are_those_on_the_host(make_model):
    model, still = make_model(4), make_model(4)
    apply_memory(model, Memory("nf4", swap_blocks=4), "cpu")
    apply_memory(still, Memory("nf4", checkpointing="none"), "cpu")
    state, expected = model.state_dict(), still.state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], expected[name]) for name in state)
    for one, other in zip(model.modules(), still.modules(), strict=True):
        if isinstance(one, FrozenLinear):
            assert torch.equal(one.weight, other.weight)
    with pytest.raises(ValueError, match="its block is swapped; load the base model before its blocks"):
        model.load_state_dict(expected)


def test_moving_and_casting_the_model_leave_the_slots_alone(make_model, adapted, train):
    model, still = adapted(make_model(3, torch.bfloat16)), plain(adapted(make_model(3, torch.bfloat16)), "int8")
    apply_memory(model, Memory("int8", swap_blocks=3), "cpu")
    model.to("cpu").cpu().to(torch.float32)
    still.to(torch.float32)
    assert train(model, 2) == train(still, 2)
