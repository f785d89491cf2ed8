"""What docs/faithful.md says: its options exist, and its numbers are those of the golden batch.

Run `python -m tests.parity.test_faithful` to print the numbers.
"""

import json
import re
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from idlora_pl.data.samples import PairBatch
from idlora_pl.generation.sampling import Sampling
from idlora_pl.ltx2.lora import load_adapter
from idlora_pl.ltx2.presets import PRESETS
from idlora_pl.ltx2.schedule import sigmas
from idlora_pl.ltx2.transformer import LTX2
from idlora_pl.method.flow import sample_sigma
from idlora_pl.method.in_context import InContext
from idlora_pl.method.tokens import TextContext, TextFeatures
from idlora_pl.training.noise import Noise
from idlora_pl.training.objective import Objective, flow_losses
from tests.parity.test_training_inputs import assembled

GOLDEN = Path(__file__).parent / "golden"
TRAINED = InContext(hidden_text="uniform")
PAGE = Path(__file__).parents[2] / "docs" / "faithful.md"
OWNERS = {"in_context": InContext, "objective": Objective, "sampling": Sampling}
LAYOUTS = {"m19b": "19B", "m23": "2.3"}
PRESET_NAMES = {"m19b": "ltx2-19b", "m23": "ltx2.3-22b"}
TRUE_LENGTHS = [{}, {"target_tokens": 5, "reference_tokens": 4}]


def table() -> list[list[str]]:
    """The cells of each row of the page's table."""
    rows = [line.strip("| ").split(" | ") for line in PAGE.read_text().splitlines() if line.startswith("|")]
    return rows[2:]


def phases(positions: torch.Tensor) -> int:
    """How many different angles the rotary embedding gets (spec 2.2: middle of the interval, over 20 s, * 2 - 1)."""
    return len((positions.mean(-1) / 20 * 2 - 1).unique())


@cache
def trained(name: str) -> tuple[LTX2, dict[str, torch.Tensor]]:
    """The golden model with its adapter, and the golden batch."""
    config = json.loads((GOLDEN / f"{name}_weights.json").read_text())["diffusers_config"]
    model = LTX2(replace(PRESETS[PRESET_NAMES[name]], config=config, dtype=torch.float32, device="cpu"))
    model.transformer.load_state_dict(load_file(GOLDEN / f"{name}_weights.safetensors"))
    load_adapter(model, GOLDEN / f"{name}_lora_comfy.safetensors")
    return model, load_file(GOLDEN / f"{name}_train_step.safetensors")


@dataclass(frozen=True)
class Case:
    """How the golden batch is trained on.

    Attributes:
        recipe: how the reference enters.
        objective: what is measured.
        padded: the second clip's sound is cut to 5 of 7 tokens, its reference to 4 of 5, and padded with zeros.
        stored: video latents and their noise are rounded to bfloat16.
    """

    recipe: InContext = TRAINED
    objective: Objective = Objective()
    padded: bool = False
    stored: bool = False


def losses(name: str, case: Case) -> torch.Tensor:
    """Losses (total, video, audio) of the golden batch of a layout."""
    model, packed = trained(name)
    video, audio, reference = (packed[f"batch.{x}_latents"].clone() for x in ("video", "audio", "ref_audio"))
    if case.padded:
        audio[1, :, 5:], reference[1, :, 4:] = 0, 0
    noise = packed["noise.0.video"], packed["noise.0.audio"]
    if case.stored:
        video, noise = video.bfloat16(), (noise[0].bfloat16(), noise[1])
    text = TextContext(packed["batch.video_prompt_embeds"], packed["batch.audio_prompt_embeds"])
    features = TextFeatures(text.video, text.audio, torch.ones(2, 6, dtype=torch.bool))
    batch = PairBatch(video, audio, reference, features, TRUE_LENGTHS if case.padded else [{}, {}])
    drawn = Noise(packed["sigma.0"], *noise, torch.ones(2, dtype=torch.bool))
    with torch.no_grad():
        found = flow_losses(model, case.recipe, batch, drawn, text, objective=case.objective)
    return torch.stack([found["video"] + found["audio"], found["video"], found["audio"]])


def outputs_differ(one: str, other: str) -> str:
    """Largest differences between the outputs of two golden cases, video/audio."""
    said = []
    for name, layout in LAYOUTS.items():
        mine, yours = (load_file(GOLDEN / f"{name}_{case}.safetensors") for case in (one, other))
        video, audio = (float((mine[f"out.{x}"] - yours[f"out.{x}"]).abs().max()) for x in ("video", "audio"))
        said.append(f"{video:.2f}/{audio:.2f} ({layout})")
    return ", ".join(said)


def loss_differs(part: int, ours: Case, theirs: Case, *, digits: int = 3) -> str:
    """One part (total, video, audio) of the golden batch's loss, our way and the authors' way."""
    said = []
    for name, layout in LAYOUTS.items():
        found = [float(losses(name, case)[part]) for case in (ours, theirs)]
        said.append(f"{found[0]:.{digits}f} to {found[1]:.{digits}f} ({layout})")
    return ", ".join(said)


def levels_below(sigma: float) -> str:
    """Share of the training's noise levels below one, of a million draws at 4096 tokens, plain and stretched."""
    drawn = [
        sample_sigma(10**6, 4096, torch.Generator().manual_seed(0), levels=x) for x in ("logit_normal", "stretched")
    ]
    return " and ".join(f"{100 * float((levels < sigma).float().mean()):.1f} %" for levels in drawn)


def measured() -> dict[str, str]:
    """Every number of the page, as the page writes it."""
    exact, trainer, mixed = (assembled(x, 121, 121).audio.positions for x in ("float32", "bfloat16", "mixed"))
    moved_ms = 1000 * float((trainer.float() - exact).abs().max())
    middle = [f"{float(sigmas(30, n_tokens)[15]):.3f}" for n_tokens in (4096, 2304)]
    return {
        "reference phases": f"{phases(trainer[:, :, :121])} of {phases(exact[:, :, :121])}",
        "target phases": f"{phases(trainer[:, :, 121:])} of {phases(exact[:, :, 121:])}",
        "mixed phases": f"{phases(mixed[:, :, :121])} and {phases(mixed[:, :, 121:])}",
        "largest shift": f"{moved_ms:.0f} ms",
        "bf16 outputs": outputs_differ("case6_bf16_positions", "case3_ref_masks"),
        "bf16 loss": loss_differs(0, Case(), Case(replace(TRAINED, positions="bfloat16"))),
        "mask outputs": outputs_differ("case3_ref_masks", "case2_ref_negpos"),
        "hidden text loss": loss_differs(0, Case(InContext()), Case()),
        "padding loss": loss_differs(
            2, Case(padded=True), Case(objective=Objective(padding_in_loss=True), padded=True)
        ),
        "precision loss": loss_differs(
            1, Case(stored=True), Case(objective=Objective(target_precision="stored"), stored=True), digits=5
        ),
        "mixed coins": f"{100 * (1 - 0.9**4 - 0.1**4):.0f} %",
        "levels below 0.5": levels_below(0.5),
        "levels below 0.1": levels_below(0.1),
        "middle of the schedule": " and ".join(middle),
    }


def test_every_number_of_the_page_is_measured():
    page = " ".join(PAGE.read_text().split())
    assert {name: text for name, text in measured().items() if text not in page} == {}


@pytest.mark.parametrize("row", table(), ids=lambda row: row[2])
def test_every_option_of_the_page_can_be_set(row):
    assert len(row) == 4
    settings = re.findall(r"`([a-z_]+)\.([a-z_]+): ([^`]+)`", row[2])
    assert settings
    for owner, name, value in settings:
        replace(OWNERS[owner](), **{name: yaml.safe_load(value)})


def test_the_overlay_of_the_authors_training_sets_the_options_of_the_page():
    overlay = yaml.safe_load((PAGE.parents[1] / "experiments/ablations/reference_training.yaml").read_text())["model"]
    listed = {
        (owner, name): yaml.safe_load(value)
        for row in table()
        for owner, name, value in re.findall(r"`([a-z_]+)\.([a-z_]+): ([^`]+)`", row[2])
        if owner != "sampling"
    }
    written = {(owner, name): value for owner, values in overlay.items() for name, value in values.items()}
    assert {key: value for key, value in listed.items() if key in written} == written
    # the base model chooses its own distribution of noise levels by default
    assert listed.keys() - written.keys() == {("objective", "noise_levels")}


if __name__ == "__main__":
    for name, text in measured().items():
        print(f"{name:24} {text}")
