"""Fixtures of the whole suite: seeds, the smoke model, and sequences that fit it."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import settings
from safetensors.torch import save_file

import idlora_pl
from idlora_pl.ltx2.codecs import Codecs
from idlora_pl.ltx2.upsampler import LatentUpsampler
from idlora_pl.method.in_context import InContext
from idlora_pl.method.positions import Geometry
from idlora_pl.method.tokens import AVSequence, TextContext, Tokens
from idlora_pl.nano.dataset import write_pairs, write_test_items

if TYPE_CHECKING:
    from selenium.webdriver.remote.webdriver import WebDriver

# Timings on shared cores vary too much for a deadline; the same examples every time keep failures repeatable.
settings.register_profile("suite", deadline=None, derandomize=True)
settings.load_profile("suite")


@pytest.fixture(autouse=True)
def seeds() -> None:
    """Every test starts from the same random state."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def smoke_ltx2() -> "idlora_pl.LTX2":
    """A base model of 0.1 M random parameters without an adapter; tests must leave it as it is."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return idlora_pl.LTX2.from_preset("smoke").requires_grad_(False)


@pytest.fixture(scope="session")
def make_sequence() -> Callable[..., AVSequence]:
    """Build a noisy sequence for the smoke model: 2x2x2 video tokens, 6 audio tokens, 5 text tokens."""

    def make(batch: int = 1, n_reference: int = 3, recipe: InContext | None = None, seed: int = 0) -> AVSequence:
        samples = [torch.Generator().manual_seed(1000 * seed + sample) for sample in range(batch)]

        def normal(*shape: int) -> torch.Tensor:
            return torch.stack([torch.randn(*shape, generator=sample) for sample in samples])

        geometry = Geometry()
        first_frame = (torch.arange(8) < 4).expand(batch, -1)
        video = Tokens(normal(8, 128), geometry.video.positions(2, 2, 2).expand(batch, -1, -1, -1), first_frame)
        audio = Tokens(
            normal(6, 128),
            geometry.audio.positions(6).expand(batch, -1, -1, -1),
            torch.zeros(batch, 6, dtype=torch.bool),
        )
        text = TextContext(normal(5, 24), normal(5, 24))
        reference = normal(n_reference, 128) if n_reference else None
        return (recipe or InContext()).assemble(video, audio, text, reference, geometry.audio)

    return make


@pytest.fixture(scope="session")
def sample_of() -> Callable[[AVSequence, int], AVSequence]:
    """Cut one sample out of the sequence of a batch."""

    def tokens_of(tokens: Tokens, index: int) -> Tokens:
        parts = (part[index : index + 1] for part in (tokens.latents, tokens.positions, tokens.clean))
        return replace(tokens, **dict(zip(("latents", "positions", "clean"), parts, strict=True)))

    def sample(av: AVSequence, index: int) -> AVSequence:
        mask = None if av.text.mask is None else av.text.mask[index : index + 1]
        text = TextContext(av.text.video[index : index + 1], av.text.audio[index : index + 1], mask)
        return replace(av, video=tokens_of(av.video, index), audio=tokens_of(av.audio, index), text=text)

    return sample


@pytest.fixture(scope="session")
def nano_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny data set of the nano world: train/ (12 pairs), validation/ (4 pairs) and test/prompts.json (2 items)."""
    folder = tmp_path_factory.mktemp("nano") / "data"
    write_pairs(folder / "train", "train", 6)
    write_pairs(folder / "validation", "validation", 2)
    write_test_items(folder / "test", "test", 2)
    return folder


@pytest.fixture(scope="session")
def nano_prompt() -> str:
    """A prompt that the nano world can say."""
    return "[VISUAL]: A person talks. [SPEECH]: aa ee oo er [SOUNDS]: steady rain in the background"


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator["WebDriver"]:
    """A headless Chromium with logs of its console and of what it requests; skipped where it is not installed."""
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if browser is None or driver is None:
        pytest.skip("needs chromium and chromedriver; on Debian: apt-get install chromium chromium-driver")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = browser
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    folder = tmp_path_factory.mktemp("chromium")
    quiet = "headless=new no-sandbox disable-gpu disable-quic no-first-run disable-background-networking mute-audio"
    for switch in [*quiet.split(), "disable-component-update", "disable-sync", "window-size=1300,1600"]:
        options.add_argument(f"--{switch}")
    options.add_argument(f"--user-data-dir={folder}")
    options.add_experimental_option("prefs", {"download.default_directory": str(folder)})
    started = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield started
    started.quit()


@pytest.fixture(scope="session")
def refining_weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny random upsampler and a tiny random distilled LoRA of the smoke base, as paths by option."""
    folder = tmp_path_factory.mktemp("refining")
    LatentUpsampler.from_preset(Codecs.from_preset("smoke")).save_pretrained(folder / "latent_upsampler")
    random = torch.Generator().manual_seed(3)
    state = {}
    for name, inputs, outputs, rank in (("patchify_proj", 128, 32, 3), ("transformer_blocks.1.attn1.to_q", 32, 32, 2)):
        state[f"diffusion_model.{name}.lora_A.weight"] = torch.randn(rank, inputs, generator=random)
        state[f"diffusion_model.{name}.lora_B.weight"] = torch.randn(outputs, rank, generator=random)
    save_file(state, folder / "distilled.safetensors")
    return {"upsampler": folder / "latent_upsampler", "distilled_lora": folder / "distilled.safetensors"}
