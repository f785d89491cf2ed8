"""The latent upsampler: twice the size, between normalised latents, from a folder or from the authors' file."""

import pytest
import torch
from diffusers.pipelines.ltx2.latent_upsampler import LTX2LatentUpsamplerModel
from safetensors.torch import save_file

from idlora_pl.ltx2.upsampler import LatentUpsampler, load_upsampler
from idlora_pl.nano.codecs import NanoCodecs


@pytest.fixture(scope="module")
def upsampler(smoke_codecs):
    return LatentUpsampler.from_preset(smoke_codecs)


@pytest.fixture
def latents():
    return torch.randn(2, 128, 3, 2, 3)


def test_height_and_width_are_doubled_and_time_is_not(upsampler, latents):
    large = upsampler(latents)
    assert large.shape == (2, 128, 3, 4, 6)
    assert large.dtype == torch.float32
    assert not large.requires_grad


def test_the_network_sees_latents_that_are_not_normalised(upsampler, smoke_codecs, latents):
    vae = smoke_codecs.video.vae
    mean, std = (getattr(vae, f"latents_{name}")[None, :, None, None, None] for name in ("mean", "std"))
    with torch.no_grad():
        expected = (upsampler.network(latents * std + mean) - mean) / std
    torch.testing.assert_close(upsampler(latents), expected)
    assert not torch.allclose(upsampler(latents), upsampler.network(latents))


def test_a_clip_does_not_depend_on_its_batch(upsampler, latents):
    # convolutions of another batch size add in another order
    torch.testing.assert_close(upsampler(latents)[1:], upsampler(latents[1:]), atol=1e-4, rtol=1e-4)


def test_a_folder_its_parent_and_a_single_file_are_the_same_network(upsampler, smoke_codecs, latents, tmp_path):
    upsampler.save_pretrained(tmp_path / "latent_upsampler")
    save_file(upsampler.network.state_dict(), tmp_path / "authors.safetensors")
    expected = upsampler(latents)
    for path in (tmp_path, tmp_path / "latent_upsampler", tmp_path / "authors.safetensors"):
        assert torch.equal(load_upsampler(path, smoke_codecs)(latents), expected)


def test_an_upsampler_without_the_rational_resampler_is_read_from_a_file(smoke_codecs, latents, tmp_path):
    network = LTX2LatentUpsamplerModel(128, 32, 2, use_rational_resampler=False)
    save_file(network.state_dict(), tmp_path / "old.safetensors")
    assert torch.equal(
        load_upsampler(tmp_path / "old.safetensors", smoke_codecs)(latents),
        LatentUpsampler(network, smoke_codecs)(latents),
    )


def test_weights_of_another_network_are_refused(smoke_codecs, tmp_path):
    save_file({"weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    (tmp_path / "text.safetensors").write_text("no weights")
    (tmp_path / "empty").mkdir()
    wide = LTX2LatentUpsamplerModel(128, 32, 1, rational_spatial_scale=1.5)
    save_file(wide.state_dict(), tmp_path / "wide.safetensors")
    for name, message in {
        "other.safetensors": "has no initial_conv.weight, so it is no latent upsampler; first name weight",
        "text.safetensors": "no safetensors file",
        "empty": "no config.json; give the folder of a diffusers latent upsampler",
        "wide.safetensors": "not the weights of a spatial x2 upsampler",
    }.items():
        with pytest.raises(ValueError, match=message):
            load_upsampler(tmp_path / name, smoke_codecs)
    with pytest.raises(FileNotFoundError, match="nowhere: no such upsampler; give its folder or its safetensors file"):
        load_upsampler(tmp_path / "nowhere", smoke_codecs)
    with pytest.raises(ValueError, match="NanoCodecs has no latent upsampler; leave upsampler out"):
        load_upsampler(tmp_path / "empty", NanoCodecs())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temporal_upsample": True}, "must enlarge height and width by 2 and not time"),
        ({"rational_spatial_scale": 1.5}, "must enlarge height and width by 2 and not time"),
        ({"in_channels": 64}, "upsampler has 64 channels, the video latents have 128"),
    ],
)
def test_networks_that_do_something_else_are_refused(smoke_codecs, options, message):
    options = {"in_channels": 128, "mid_channels": 32, "num_blocks_per_stage": 1} | options
    with pytest.raises(ValueError, match=message):
        LatentUpsampler(LTX2LatentUpsamplerModel(**options), smoke_codecs)
