"""The process that measures rows of `benchmarks.full_size`: builds the model once, runs each row, writes its result.

Letters: B batch, N tokens, C channels, L text tokens.
"""

from __future__ import annotations

import gc
import json
import os
import platform
import subprocess
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.full_size import Row, append
from idlora_pl.data.samples import PairBatch
from idlora_pl.generation.sampling import Stage
from idlora_pl.ltx2.lora import attach_lora
from idlora_pl.ltx2.memory.checkpointing import set_checkpointing
from idlora_pl.ltx2.memory.levels import Memory, apply_memory
from idlora_pl.ltx2.memory.swap import BlockSwap
from idlora_pl.ltx2.presets import Preset, preset_named
from idlora_pl.ltx2.transformer import LTX2
from idlora_pl.method.guidance import guided
from idlora_pl.method.in_context import InContext
from idlora_pl.method.tokens import AVSequence, TextContext, TextFeatures
from idlora_pl.training.noise import draw_noise, generator_at
from idlora_pl.training.objective import flow_losses, noisy_sequence
from idlora_pl.training.optimizer import AdamW, build_optimizer

RANK, TEXT_TOKENS, REFERENCE_SECONDS = 128, 1024, 5.0
ENOUGH_S, MOST_STEPS, FEWEST_STEPS = 6.0, 10, 3
GIB = 2**30


def random_model(preset: Preset, memory: Memory, device: torch.device, seed: int = 0) -> tuple[LTX2, BlockSwap | None]:
    """Build a base model with its adapter on a device: random weights of the true shapes and dtypes, block by block.

    Args:
        preset: Base model.
        memory: How its frozen weights are kept.
        device: Where it computes.
        seed: Fixes the weights, whatever the memory settings are.

    Returns:
        The model, and what swaps its blocks.
    """
    model = LTX2(preset, device="meta", dtype=torch.bfloat16)
    attach_lora(model, 8 if preset.name == "smoke" else RANK)
    generator = torch.Generator(device).manual_seed(seed)

    def fill(module: nn.Module) -> None:
        for part_name, part in module.named_modules():
            for name, weight in part.named_parameters(recurse=False):
                if not weight.is_meta:
                    continue
                real = torch.empty_like(weight, device=device)
                if "norm" in part_name or name.startswith("norm"):
                    real.fill_(1.0)
                else:
                    real.normal_(0.0, 0.02, generator=generator)
                part.register_parameter(name, nn.Parameter(real, requires_grad=weight.requires_grad))

    swap = apply_memory(model, memory, device, fill=fill)
    model.train()
    return model, swap


class Inputs:
    """Random inputs of one setting.

    Attributes:
        batch: Latents of targets and references.
        text: (B, L, C) context of the prompts, as the connectors give it.
    """

    def __init__(self, model: LTX2, row: Row, device: torch.device) -> None:
        small = model.preset.name == "smoke"
        if small:
            row = Row(**{**vars(row), "height": 64, "width": 64, "frames": 17})
        size, frames = row.batch, (row.frames - 1) // 8 + 1
        seconds = row.frames / 25
        steps = round(seconds * 25)
        generator = torch.Generator(device).manual_seed(1)

        def random(*shape: int) -> Tensor:
            return torch.randn(shape, device=device, generator=generator).bfloat16()

        n_reference = round(REFERENCE_SECONDS * 25)
        features = TextFeatures(random(size, 1, 1), random(size, 1, 1), torch.ones(size, 1, dtype=torch.bool))
        self.batch = PairBatch(
            target_video=random(size, 128, frames, row.height // 32, row.width // 32),
            target_audio=random(size, 8, steps, 16),
            reference=random(size, 8, n_reference, 16),
            text=features,
            meta=[{} for _ in range(size)],
        )
        widths, length = model.preset.text_channels, 64 if small else TEXT_TOKENS
        self.text = TextContext(random(size, length, widths[0]), random(size, length, widths[1]))
        self.negative = TextContext(random(size, length, widths[0]), random(size, length, widths[1]))

    def sequence(self, model: LTX2, sigma: float = 0.7) -> AVSequence:
        """Return a sequence in the middle of sampling."""
        noise = draw_noise(self.batch, 1.0, generator_at(0))
        noise = type(noise)(torch.full_like(noise.sigma, sigma), noise.video, noise.audio, noise.first_frame)
        return noisy_sequence(InContext(), model.geometry, self.batch, noise, self.text)


class Training:
    """The training step of the paper: noise, losses, gradients, clipping, AdamW."""

    def __init__(self, model: LTX2, row: Row, device: torch.device) -> None:
        self.model, self.device, self.mixed = model, device, row.mixed
        self.inputs = Inputs(model, row, device)
        self.weights = [weight for weight in model.parameters() if weight.requires_grad]
        self.optimizer: Any = build_optimizer(AdamW(), self.weights, 6000)["optimizer"]
        self.index = 0

    def step(self) -> float:
        """Make one step and return its loss."""
        batch, generator = self.inputs.batch, generator_at(42, 0, self.index)
        noise = draw_noise(batch, 0.9, generator)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.mixed):
            losses = flow_losses(self.model, InContext(), batch, noise, self.inputs.text)
            total = losses["video"] + losses["audio"]
        total.backward()
        torch.nn.utils.clip_grad_norm_(self.weights, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.index += 1
        return float(total.detach())


class Bench:
    """One model, and the rows that are measured with it."""

    def __init__(self, preset: str, first: Row, device: torch.device) -> None:
        self.device, began = device, time.perf_counter()
        self.preset = _rehearsal() if preset == "smoke" else preset_named(preset)
        self.swap: BlockSwap | None = None
        if first.kind == "same_with_swap":  # builds three small ones
            self.preset = replace(self.preset, config={**self.preset.config, "num_layers": 8})
            self.model = LTX2(self.preset, device="meta")
        else:
            self.model, self.swap = random_model(self.preset, _memory(first, self.preset), device)
        self.weights_gib = _stored(self.model) / GIB
        self.sync()
        self.build_s = time.perf_counter() - began

    def sync(self) -> None:
        """Wait for the card."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def run(self, row: Row) -> dict[str, Any]:
        """Measure one row; what goes wrong is part of the result."""
        print(f"{datetime.now(UTC):%H:%M:%S} {row.name} ...", flush=True)
        self.clear()
        began = time.perf_counter()
        try:
            result = getattr(self, f"_{row.kind}")(row)
        except torch.OutOfMemoryError as error:
            result = {"failed": f"out of memory: {str(error).splitlines()[0][:200]}"}
        except (RuntimeError, ValueError, TypeError, AttributeError, ImportError, AssertionError) as error:
            traceback.print_exc()
            result = {"failed": f"{type(error).__name__}: {str(error).splitlines()[0][:300] if str(error) else ''}"}
        self.model.zero_grad(set_to_none=True)
        result["row_s"] = round(time.perf_counter() - began, 2)
        return result

    def clear(self) -> None:
        """Give back what the row before left, and start counting memory anew."""
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def timed(self, step: Callable[[], Any]) -> dict[str, Any]:
        """Run a step once to warm up, then several times; returns seconds and the peak of the memory."""
        began = time.perf_counter()
        last = step()
        self.sync()
        first = time.perf_counter() - began
        seconds: list[float] = []
        while len(seconds) < FEWEST_STEPS or (sum(seconds) < ENOUGH_S and len(seconds) < MOST_STEPS):
            began = time.perf_counter()
            last = step()
            self.sync()
            seconds.append(time.perf_counter() - began)
        result = {
            "s_per_step": round(median(seconds), 5),
            "seconds": [round(one, 5) for one in seconds],
            "first_s": round(first, 3),
        }
        if isinstance(last, float):
            result["loss"] = last
        if self.device.type == "cuda":
            result["peak_gib"] = round(torch.cuda.max_memory_allocated() / GIB, 3)
            result["reserved_gib"] = round(torch.cuda.max_memory_reserved() / GIB, 3)
        return result

    def _training_step(self, row: Row) -> dict[str, Any]:
        set_checkpointing(self.model, row.checkpointing)
        training = Training(self.model, row, self.device)
        try:
            result = self.timed(training.step)
        finally:
            del training
        if self.swap is not None:
            result |= {"sent": self.swap.n_sent, "late": self.swap.n_late, "slots_gib": self.swap.slot_bytes / GIB}
            result["host_gib"] = round(self.swap.host_bytes / GIB, 3)
        return result | self._tokens(row)

    def _tokens(self, row: Row) -> dict[str, Any]:
        batch = Inputs(self.model, row, self.device).batch
        video = batch.target_video[0, 0].numel()
        return {"video_tokens": video, "audio_tokens": batch.target_audio.shape[2] + batch.reference.shape[2]}

    def _guided_step(self, row: Row) -> dict[str, Any]:
        inputs = Inputs(self.model, row, self.device)
        av, terms = inputs.sequence(self.model), Stage().guidance(self.model.preset.stg_block)
        sigma = torch.full((row.batch,), 0.7, device=self.device)

        def once(chosen: list[Any]) -> Callable[[], None]:
            def step() -> None:
                with torch.no_grad(), torch.autocast(self.device.type, torch.bfloat16, enabled=row.mixed):
                    guided(self.model, av, sigma, chosen, inputs.negative)

            return step

        result = self.timed(once(terms)) | self._tokens(row)
        result["one_pass"] = self.timed(once([]))
        return result

    def _batched_passes(self, row: Row) -> dict[str, Any]:
        inputs = Inputs(self.model, row, self.device)
        av, sigma = inputs.sequence(self.model), torch.full((row.batch,), 0.7, device=self.device)

        def step() -> None:
            with torch.no_grad(), torch.autocast(self.device.type, torch.bfloat16, enabled=row.mixed):
                self.model(av, sigma)

        return self.timed(step) | self._tokens(row)

    def _profile(self, row: Row) -> dict[str, Any]:
        """Where a training step's and one pass's time on the card goes, by operation."""
        from torch.profiler import ProfilerActivity, profile

        set_checkpointing(self.model, row.checkpointing)
        training = Training(self.model, row, self.device)
        training.step()
        self.sync()
        activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if self.device.type == "cuda" else [])
        with profile(activities=activities) as profiler:
            training.step()
            self.sync()
        own = "self_device_time_total" if self.device.type == "cuda" else "self_cpu_time_total"
        events = sorted(profiler.key_averages(), key=lambda event: -getattr(event, own))
        total = sum(getattr(event, own) for event in events) or 1.0
        table = [
            {"name": event.key[:160], "calls": event.count, "ms": round(getattr(event, own) / 1000, 3),
             "part": round(getattr(event, own) / total, 4)}
            for event in events[:60]
        ]  # fmt: skip
        return {"operations": table, "device_ms": round(total / 1000, 2)}

    def _host_waits(self, row: Row) -> dict[str, Any]:
        """Count where a training step makes the host wait for the card."""
        if self.device.type != "cuda":
            return {"failed": "the host waits for no card on the CPU"}
        training = Training(self.model, row, self.device)
        training.step()
        torch.cuda.set_sync_debug_mode("warn")
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                training.step()
        finally:
            torch.cuda.set_sync_debug_mode("default")
        places: dict[str, int] = {}
        for one in caught:
            if "synchroniz" in str(one.message):
                place = f"{'/'.join(Path(one.filename).parts[-3:])}:{one.lineno}"
                places[place] = places.get(place, 0) + 1
        return {"waits": sum(places.values()), "places": places}

    def _compiled_block(self, row: Row) -> dict[str, Any]:
        """Compare forward and backward of one block as it is and compiled, on the inputs of a true step."""
        inputs, block = Inputs(self.model, row, self.device), self.model.transformer.transformer_blocks[1]
        caught: list[dict[str, Any]] = []
        hook = block.register_forward_pre_hook(lambda _, __, named: caught.append(named), with_kwargs=True)
        sigma = torch.full((row.batch,), 0.7, device=self.device)
        with torch.no_grad(), torch.autocast(self.device.type, torch.bfloat16):
            self.model(inputs.sequence(self.model), sigma)
        hook.remove()
        given: dict[str, Any] = {
            name: tuple(value) if isinstance(value, tuple) else value for name, value in caught[0].items()
        }
        for name in ("hidden_states", "audio_hidden_states"):
            given[name] = given[name].detach().requires_grad_()

        def step(call: Any) -> Callable[[], None]:
            def run() -> None:
                with torch.autocast(self.device.type, torch.bfloat16):
                    video, audio = call(**given)
                    (video.float().sum() + audio.float().sum()).backward()
                self.model.zero_grad(set_to_none=True)

            return run

        eager = self.timed(step(block))
        return {"eager": eager, "compiled": self.timed(step(torch.compile(block)))}

    def _same_with_swap(self, row: Row) -> dict[str, Any]:
        """Train the first blocks at full width with and without swap, and compare every weight of the adapter."""
        del self.model
        self.clear()
        torch.use_deterministic_algorithms(True, warn_only=True)
        ends, losses = [], []
        try:
            for blocks in (0, 0, row.swap_blocks or 6):
                memory = Memory(weights=row.weights, swap_blocks=blocks)
                self.model, swap = random_model(self.preset, memory, self.device)
                training = Training(self.model, row, self.device)
                losses.append([training.step() for _ in range(row.steps)])
                ends.append([weight.detach().cpu() for weight in training.weights])
                counts = None if swap is None else [swap.n_sent, swap.n_late]
                del training
                self.clear()
        finally:
            torch.use_deterministic_algorithms(False)
        again, swapped = (_largest_difference(ends[0], one) for one in ends[1:])
        return {
            "steps": row.steps, "blocks": _layers(self.preset), "sent_and_late": counts,
            "largest_difference_of_two_runs_alike": again, "largest_difference_with_swap": swapped,
            "equal_losses": losses[0] == losses[2], "losses": [losses[0][0], losses[0][-1]],
        }  # fmt: skip


def _layers(preset: Preset) -> int:
    return int(preset.config["num_layers"])  # type: ignore[call-overload]


def _rehearsal() -> Preset:
    """Return the smoke base with enough blocks to swap some."""
    smoke = preset_named("smoke")
    return replace(smoke, config={**smoke.config, "num_layers": 8})


def _memory(row: Row, preset: Preset) -> Memory:
    blocks = 0 if row.kind == "same_with_swap" else min(row.swap_blocks, _layers(preset) - 1)
    return Memory(weights=row.weights, swap_blocks=blocks, checkpointing="all")


def _largest_difference(some: Sequence[Tensor], others: Sequence[Tensor]) -> float:
    return max(float((one - other).abs().max()) for one, other in zip(some, others, strict=True))


def _stored(model: LTX2) -> int:
    tensors = [*model.parameters(), *model.buffers()]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def hardware(device: torch.device) -> dict[str, Any]:
    """Say what was measured on, and with what."""
    import diffusers
    import peft

    card = torch.cuda.get_device_name() if device.type == "cuda" else platform.processor() or platform.machine()
    git = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True)
    return {
        "card": card,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "diffusers": diffusers.__version__,
        "peft": peft.__version__,
        "python": platform.python_version(),
        "commit": git.stdout.strip() or "unknown",
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M}",
    }


def measure(rows: Sequence[Row], preset: str, device: str, results: Path) -> None:
    """Measure rows that share the base's weights, one after the other.

    Args:
        rows: What to measure.
        preset: Base model.
        device: Where.
        results: File that each result is added to.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when the card is first used; for "same" rows
    torch.set_float32_matmul_precision("high")  # as the `idlora` command does
    bench = Bench(preset, rows[0], torch.device(device))
    print(f"{preset} on {device}: built in {bench.build_s:.1f} s, {bench.weights_gib:.2f} GiB", flush=True)
    known = hardware(bench.device) | {"preset": preset, "weights_gib": round(bench.weights_gib, 3)}
    for row in rows:
        result = bench.run(row)
        append(results, {"name": row.name, **result, "setting": vars(row), **known})
        shown = {name: value for name, value in result.items() if name not in ("operations", "seconds")}
        print(f"  {json.dumps(shown)}", flush=True)
