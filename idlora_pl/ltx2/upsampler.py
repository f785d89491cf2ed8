"""The latent upsampler: video latents of a clip to those of a clip of twice the size.

Letters: B clips, C channels, F H W the video latent grid.
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

import torch
from diffusers.pipelines.ltx2.latent_upsampler import LTX2LatentUpsamplerModel
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from idlora_pl.ltx2.checkpoint import Movable, load_component
from idlora_pl.ltx2.codecs import Codecs

# Convolutions of mid_channels in groups of 32: the smallest network that diffusers' class can be.
_SMOKE = {"mid_channels": 32, "num_blocks_per_stage": 1}


class LatentUpsampler(Movable):
    """diffusers' x2 spatial upsampler between normalised latents; frozen, and every call is without gradients.

    The network was trained on latents that are not normalised, so they are taken back to the VAE's own scale
    before it and normalised again after it (spec section 4.5).

    Args:
        network: The upsampler.
        codecs: Whose latents it enlarges; their statistics are copied.

    Raises:
        ValueError: If the network enlarges time, or has other channels than the latents.
    """

    latents_mean: Tensor
    latents_std: Tensor

    def __init__(self, network: LTX2LatentUpsamplerModel, codecs: Codecs) -> None:
        super().__init__()
        config, channels = network.config, codecs.video.vae.config["latent_channels"]
        spatial = config["spatial_upsample"] and not config["temporal_upsample"]
        if not spatial or (config["use_rational_resampler"] and config["rational_spatial_scale"] != 2.0):
            raise ValueError(f"upsampler must enlarge height and width by 2 and not time; its config is {dict(config)}")
        if config["in_channels"] != channels:
            raise ValueError(f"upsampler has {config['in_channels']} channels, the video latents have {channels}")
        self.network = network
        for name in ("latents_mean", "latents_std"):
            statistic = codecs.video.vae.get_buffer(name).float()
            self.register_buffer(name, statistic[None, :, None, None, None].clone(), persistent=False)
        self.eval().requires_grad_(False)

    @classmethod
    def from_preset(cls, codecs: Codecs, seed: int = 0) -> Self:
        """Build a tiny upsampler with random weights, for the codecs of the smoke preset."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(LTX2LatentUpsamplerModel(codecs.video.vae.config["latent_channels"], **_SMOKE), codecs)

    @classmethod
    def from_pretrained(cls, path: str | Path, codecs: Codecs, *, dtype: torch.dtype = torch.float32) -> Self:
        """Load an upsampler; no network access.

        Args:
            path: A folder in diffusers' layout, its parent with `latent_upsampler/`, or the authors' safetensors
                file (`ltx-2-spatial-upscaler-x2-1.0.safetensors`), whose names are diffusers' names.
            codecs: Whose latents it enlarges.
            dtype: Dtype of the weights.

        Raises:
            FileNotFoundError: If there is nothing at the path.
            ValueError: If the weights are those of another network.
        """
        path = Path(path)
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such upsampler; give its folder or its safetensors file")
        if path.is_file():
            network = _from_file(path)
            nn.Module.to(network, dtype)
            return cls(network, codecs)
        folder = path / "latent_upsampler" if (path / "latent_upsampler").is_dir() else path
        if not (folder / "config.json").is_file():
            raise ValueError(f"{folder}: no config.json; give the folder of a diffusers latent upsampler")
        return cls(load_component(LTX2LatentUpsamplerModel, folder.parent, folder.name, dtype), codecs)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the network as a folder in diffusers' layout."""
        self.network.save_pretrained(str(folder))

    @torch.no_grad()
    def forward(self, latents: Tensor) -> Tensor:
        """Enlarge normalised latents (B, C, F, H, W) to normalised float32 latents (B, C, F, 2H, 2W)."""
        own = latents.float() * self.latents_std + self.latents_mean
        large = self.network(own.to(self.network.dtype)).float()
        return (large - self.latents_mean) / self.latents_std


def load_upsampler(path: str | Path, codecs: object) -> LatentUpsampler:
    """Load the upsampler of a base model's codecs; see `LatentUpsampler.from_pretrained`.

    Raises:
        ValueError: If the codecs are not those of LTX-2.
    """
    if not isinstance(codecs, Codecs):
        raise ValueError(f"upsampler {path}: {type(codecs).__name__} has no latent upsampler; leave upsampler out")
    return LatentUpsampler.from_pretrained(path, codecs)


def _from_file(path: Path) -> LTX2LatentUpsamplerModel:
    """Build the network that a state dict is of: its sizes follow from names and shapes."""
    try:
        state = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path}: no safetensors file ({error}); pass the upsampler's weights") from error
    first = state.get("initial_conv.weight")
    if first is None:
        raise ValueError(f"{path}: has no initial_conv.weight, so it is no latent upsampler; first name {min(state)}")
    blocks = {name.split(".")[1] for name in state if name.startswith("res_blocks.")}
    network = LTX2LatentUpsamplerModel(
        in_channels=first.shape[1],
        mid_channels=first.shape[0],
        num_blocks_per_stage=len(blocks),
        dims=first.ndim - 2,
        use_rational_resampler="upsampler.conv.weight" in state,
    )
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"{path}: not the weights of a spatial x2 upsampler ({reason})") from error
    return network
