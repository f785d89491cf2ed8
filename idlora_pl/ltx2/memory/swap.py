"""Frozen weights of blocks that live on the host and visit the device, ahead of use, in one direction."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from idlora_pl.ltx2.memory.frozen import CODED, FrozenLinear

N_SLOTS = 2


@dataclass
class Slot:
    """Room on the device for the frozen weights of one block.

    Attributes:
        tensors: the room, tensor by tensor; the blocks that share a slot read these very tensors.
        holds: which of the swapped blocks is in it or on its way.
        arrived: what the copy stream has passed when the block is complete; None on the CPU.
    """

    tensors: list[Tensor]
    holds: int | None = None
    arrived: torch.cuda.Event | None = None


class Link:
    """The way from the host to a device: a stream of its own on CUDA, a plain copy elsewhere."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def room(self, like: Tensor) -> Tensor:
        """Make room on the device for a tensor of that shape and dtype."""
        room = torch.empty(like.shape, dtype=like.dtype, device=self.device)
        if self.stream is not None:
            room.record_stream(self.stream)  # its memory is not given away while a copy may write to it
        return room

    def host(self, tensor: Tensor) -> Tensor:
        """Copy a tensor to the host, into memory that the device reads by itself."""
        host = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu", pin_memory=self.stream is not None)
        return host.copy_(tensor)

    def send(self, block: list[Tensor], slot: Slot) -> None:
        """Begin to copy a block into a slot, after everything that the current stream was asked to do until now."""
        if self.stream is None:
            self._copy(block, slot)
            return
        self.stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self.stream):
            self._copy(block, slot)
        slot.arrived = slot.arrived or torch.cuda.Event()
        slot.arrived.record(self.stream)

    def wait(self, slot: Slot) -> None:
        """Let the current stream do nothing more until the block in a slot is complete; the host does not wait."""
        if slot.arrived is not None:
            torch.cuda.current_stream(self.device).wait_event(slot.arrived)

    @staticmethod
    def _copy(block: list[Tensor], slot: Slot) -> None:
        with torch.no_grad():
            for room, tensor in zip(slot.tensors, block, strict=True):
                room.copy_(tensor, non_blocking=True)


class _Boundary(torch.autograd.Function):
    """The identity on a block's inputs; its backward runs when that of the block is complete, before any other's.

    Nodes run in the reverse order in which they were made, so this one runs after every node of its block and before
    those of the blocks below.
    """

    @staticmethod
    def forward(ctx: Any, done: partial, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the inputs as they are."""
        ctx.done = done
        ctx.set_materialize_grads(False)
        return tuple(each.view_as(each) for each in inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Say that the block is done, and return the gradients as they are."""
        ctx.done()
        return None, *grads


class BlockSwap:
    """Frozen weights of some blocks of a transformer, which take turns in two slots on the device.

    Block number k of the swapped ones always reads slot k mod 2. When it begins, in forward or when it is computed
    again for the backward pass, all work on the block before it has been queued, so the other slot is free and the
    block after it (in backward: below it) is sent there while this one computes. At the turn from forward to backward,
    and from one training step to the next, both slots hold what is needed first. LoRA weights, biases, norms and
    modulation stay on the device, and nothing ever travels back.

    A block that is entered out of order is sent late and waited for: slower, never wrong. What would be wrong is
    refused: to replace weights whose backward pass is not complete, and gradients through a block that is not computed
    again, for which autograd would keep a slot that changes.

    Attributes:
        n_sent: how often a block was sent.
        n_late: how often of these a block had to be waited for from its beginning.
        host_bytes: memory of the blocks on the host.
        slot_bytes: memory of the slots on the device.
    """

    def __init__(self, transformer: nn.Module, link: Link) -> None:
        """Swap nothing yet.

        Args:
            transformer: diffusers' transformer.
            link: the way to its device.
        """
        self.n_sent = self.n_late = self.host_bytes = 0
        self._transformer, self._link = transformer, link
        self._slots: list[Slot] = []
        self._hosts: list[list[Tensor]] = []
        self._numbers: list[int] = []
        self._unfinished: dict[int, int] = {}  # block -> the backward pass that it takes part in
        transformer.register_forward_hook(self._rewind)

    @property
    def slot_bytes(self) -> int:
        """Memory of the slots on the device."""
        return sum(tensor.nbytes for slot in self._slots for tensor in slot.tensors)

    def take(self, number: int) -> None:
        """Move the frozen linears of a block to the host; blocks are taken from the first to the last.

        Args:
            number: of the block, whose linears are `FrozenLinear`.

        Raises:
            ValueError: when the block's weights have other shapes than those of the blocks before.
        """
        block = self._transformer.get_submodule(f"transformer_blocks.{number}")
        linears = [module for module in block.modules() if isinstance(module, FrozenLinear)]
        places = [(linear, name) for linear in linears for name in CODED if getattr(linear, name) is not None]
        own = [getattr(linear, name) for linear, name in places]
        if len(self._slots) < N_SLOTS:
            self._slots.append(Slot([self._link.room(tensor) for tensor in own]))
        slot = self._slots[len(self._hosts) % N_SLOTS]
        if [(t.shape, t.dtype) for t in own] != [(t.shape, t.dtype) for t in slot.tensors]:
            raise ValueError(f"block {number} has linears of other sizes than the blocks before; set swap_blocks to 0")
        host = [self._link.host(tensor) for tensor in own]
        for (linear, name), room, tensor in zip(places, slot.tensors, host, strict=True):
            setattr(linear, name, room)
            linear.host = (linear.host or {}) | {name: tensor}
        self.host_bytes += sum(tensor.nbytes for tensor in host)
        block.register_forward_pre_hook(partial(self._enter, len(self._hosts)))
        self._hosts.append(host)
        self._numbers.append(number)

    def _enter(self, k: int, _block: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """Have the weights of swapped block k ready, and those of the next one sent."""
        backward = _backward_pass()
        if torch.is_grad_enabled() and backward is None and not self._transformer.gradient_checkpointing:
            raise RuntimeError(
                f"block {self._numbers[k]} is swapped, and gradients through it need its activations computed again; "
                "set memory.checkpointing to all, or call the model under torch.no_grad()"
            )
        if self._slots[k % N_SLOTS].holds != k:
            self.n_late += 1
            self.send(k)
        after = k + 1 if backward is None else k - 1
        if 0 <= after < len(self._hosts):
            self.send(after)
        self._link.wait(self._slots[k % N_SLOTS])
        return self._bounded(k, backward, inputs)

    def _bounded(self, k: int, backward: int | None, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """Note when the backward pass of block k is complete; the first two inputs are its hidden states."""
        states = [each for each in inputs[:2] if each.requires_grad]
        if not (torch.is_grad_enabled() and states):
            return inputs
        if backward is not None:
            self._unfinished[k] = backward
        bounded = iter(_Boundary.apply(partial(self._unfinished.pop, k, None), *states))
        return (*(next(bounded) if each.requires_grad else each for each in inputs[:2]), *inputs[2:])

    def send(self, k: int) -> None:
        """Send swapped block k to its slot, unless it is there or on its way.

        Raises:
            RuntimeError: when the slot's weights are needed by the backward pass that is running.
        """
        slot = self._slots[k % N_SLOTS]
        if slot.holds == k:
            return
        backward = _backward_pass()
        if slot.holds is not None and backward is not None and self._unfinished.get(slot.holds) == backward:
            raise RuntimeError(
                f"block {self._numbers[k]} would replace the weights of block {self._numbers[slot.holds]}, whose "
                "backward pass is not complete; do not call the model inside a backward pass"
            )
        slot.holds = k
        self.n_sent += 1
        self._link.send(self._hosts[k], slot)

    def _rewind(self, *_: object) -> None:
        """After a forward pass that no backward pass follows, send what the next one needs first."""
        if not torch.is_grad_enabled():
            for k in range(min(N_SLOTS, len(self._hosts))):
                self.send(k)


def _backward_pass() -> int | None:
    """The number of the backward pass that this thread is in; torch's own checkpoint asks the same way."""
    number = torch._C._current_graph_task_id()
    return None if number == -1 else number
