"""Which blocks compute their activations again, and that nothing but memory depends on it."""

import pytest
import torch

from idlora_pl.ltx2.memory.checkpointing import recomputed_blocks, set_checkpointing
from tests.ltx2.memory.conftest import SIGMA


@pytest.mark.parametrize(
    ("checkpointing", "expected"),
    [("none", []), ("all", [0, 1, 2, 3, 4, 5]), (0.5, [0, 2, 4]), (0.9, [0, 1, 2, 3, 4]), (0.01, [0])],
)
def test_a_share_of_the_blocks_is_computed_again_and_the_last_is_not_among_them(checkpointing, expected):
    assert recomputed_blocks(6, checkpointing) == expected


def gradients(model, av):
    """Gradients of the adapter, how many tensors were kept, and how often each block ran."""
    runs, kept = [], []
    for index, block in enumerate(model.transformer.transformer_blocks):
        block.register_forward_pre_hook(lambda *_, index=index: runs.append(index))
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        video, audio = model(av, SIGMA)
    (video.square().mean() + audio.square().mean()).backward()
    found = {name: weight.grad for name, weight in model.named_parameters() if weight.requires_grad}
    return found, len(kept), sorted(runs)


@pytest.mark.parametrize(("checkpointing", "again"), [("all", [0, 1, 2, 3]), (0.5, [0, 2]), (0.25, [0])])
def test_gradients_do_not_depend_on_what_is_computed_again(make_model, adapted, make_sequence, checkpointing, again):
    plain, saving = adapted(make_model(4)), adapted(make_model(4))
    set_checkpointing(plain, "none")
    set_checkpointing(saving, checkpointing)
    expected, n_plain, _ = gradients(plain, make_sequence())
    found, n_saving, runs = gradients(saving, make_sequence())
    assert runs == sorted([0, 1, 2, 3, *again])
    assert n_saving < n_plain
    for name, gradient in expected.items():
        assert torch.equal(found[name], gradient), name


def test_checkpointing_can_be_taken_back(make_model, adapted, make_sequence):
    model = adapted(make_model(2))
    set_checkpointing(model, 0.5)
    set_checkpointing(model, "none")
    assert gradients(model, make_sequence())[2] == [0, 1]
