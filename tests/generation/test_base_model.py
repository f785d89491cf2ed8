"""A base model by name: from a diffusers folder, or from the authors' file and a Gemma folder, to the same clip."""

import warnings
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from idlora_pl.generation.base_model import attach_adapter, load_components
from idlora_pl.generation.pipeline import IDLoRAPipeline
from idlora_pl.generation.sampling import Sampling
from idlora_pl.ltx2.lora import attach_lora, lora_state_dict
from idlora_pl.ltx2.transformer import LTX2
from idlora_pl.media.writing import write_audio, write_image
from idlora_pl.method.in_context import InContext
from idlora_pl.training.module import IDLoRA
from tests.ltx2.authors import header_of_19b, write_release

PROMPT = "[VISUAL]: A person talks. [SPEECH]: hello there [SOUNDS]: rain"
SMALL = replace(Sampling(), n_frames=9, height=64, width=64, steps=2)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """The smoke model as a diffusers folder, as the authors' file, and its language model alone."""
    folder = tmp_path_factory.mktemp("checkpoint")
    parts = load_components("smoke")
    torch.nn.init.normal_(parts.model.transformer.proj_out.weight, std=0.3)
    parts.model.transformer.save_pretrained(folder / "pipeline" / "transformer")
    parts.codecs.save_pretrained(folder / "pipeline")
    parts.text.save_pretrained(folder / "pipeline")
    parts.text.language_model.gemma.save_pretrained(folder / "gemma")
    parts.text.language_model.tokenizer.save_pretrained(folder / "gemma")
    networks = {
        "transformer": parts.model.transformer,
        "connectors": parts.text.connectors,
        "vae": parts.codecs.video.vae,
        "audio_vae": parts.codecs.audio.vae,
        "vocoder": parts.codecs.audio.vocoder,
    }
    write_release(folder / "release.safetensors", networks, header_of_19b(networks))
    return folder


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A face and a voice of noise."""
    folder = tmp_path_factory.mktemp("files")
    seeded = torch.Generator().manual_seed(0)
    write_image(torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8, generator=seeded), folder / "face.png")
    write_audio(0.1 * torch.randn(1, 16000, generator=seeded), folder / "voice.wav", 16000)
    return {"face": folder / "face.png", "voice": folder / "voice.wav"}


@pytest.mark.slow
def test_both_layouts_give_the_same_clip(checkpoint, files):
    sources = (
        {"weights": checkpoint / "pipeline"},
        {"weights": checkpoint / "pipeline", "gemma": checkpoint / "gemma"},
        {"weights": checkpoint / "release.safetensors", "gemma": checkpoint / "gemma"},
    )
    clips = [IDLoRAPipeline.from_pretrained("smoke", sampling=SMALL, **each)(PROMPT, **files) for each in sources]
    for clip in clips[1:]:
        assert torch.equal(clip.frames, clips[0].frames)
        assert torch.equal(clip.waveform, clips[0].waveform)
    other = IDLoRAPipeline.from_pretrained("smoke", sampling=SMALL)(PROMPT, **files)
    assert not torch.equal(other.frames, clips[0].frames), "the weights of the checkpoint are used"


def test_training_loads_the_authors_file_and_gemma(checkpoint):
    module = IDLoRA("smoke", weights=str(checkpoint / "release.safetensors"), gemma=str(checkpoint / "gemma"))
    expected = load_components("smoke", checkpoint / "pipeline")
    found = {name: weight for name, weight in module.model.transformer.state_dict().items() if "lora_" not in name}
    for name, weight in expected.model.transformer.state_dict().items():
        adapted = name.replace(".weight", ".base_layer.weight").replace(".bias", ".base_layer.bias")
        assert torch.equal(found[name if name in found else adapted], weight), name
    features = module.pipeline.text.encode([PROMPT])
    assert torch.equal(features.video, expected.text.encode([PROMPT]).video)


def test_the_authors_file_alone_cannot_encode_prompts(checkpoint):
    with pytest.raises(ValueError, match="release.safetensors: the authors' file holds no language model; pass gemma"):
        load_components("smoke", checkpoint / "release.safetensors")


def an_adapter(path, metadata):
    """Write a smoke adapter that does something, with these header entries and no others."""
    model = LTX2.from_preset("smoke")
    attach_lora(model, rank=4)
    state = {name: torch.ones_like(weight).contiguous() for name, weight in lora_state_dict(model).items()}
    save_file(state, path, metadata=metadata)
    return path


def test_the_recipe_of_an_adapter_is_the_files_or_the_given_one_and_never_a_silent_default(tmp_path):
    path, chosen = tmp_path / "adapter.safetensors", InContext(positions="mixed")

    def recipe(metadata, in_context):
        return attach_adapter(LTX2.from_preset("smoke"), an_adapter(path, metadata), in_context)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert recipe({}, chosen) == chosen
        assert recipe(chosen.to_metadata(), InContext()) == chosen
        assert recipe(chosen.to_metadata(), None) == chosen
    with pytest.warns(UserWarning, match="adapter.safetensors: tells no recipe, so the default InContext.* is taken"):
        assert recipe({}, InContext()) == InContext()
    with pytest.warns(UserWarning, match=r"tells InContext\(.*mixed'\), which replaces the configured .*shared"):
        assert recipe(chosen.to_metadata(), InContext(placement="shared")) == chosen
    with pytest.raises(ValueError, match="adapter.safetensors: tells no recipe; pass in_context"):
        recipe({}, None)
    with pytest.raises(ValueError, match="adapter.safetensors: adapter metadata misses"):
        recipe({"in_context.placement": "shared"}, None)
