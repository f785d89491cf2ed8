"""Clip <-> latents of LTX-2: the diffusers VAEs and vocoder of a base model under one roof.

The networks come from a diffusers folder or from the authors' file, and are compared with a preset.
Letters: B clips, F frames, H W pixels, C channels, F' H' W' the video latent grid, S samples, T audio latent
steps (one step is one audio token, 0.04 s), M frequency bins of an audio latent.
"""

from __future__ import annotations

from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any, Self

import torch
from diffusers.models.autoencoders.autoencoder_kl_ltx2 import AutoencoderKLLTX2Video
from diffusers.models.autoencoders.autoencoder_kl_ltx2_audio import AutoencoderKLLTX2Audio
from diffusers.pipelines.ltx2.vocoder import LTX2Vocoder, LTX2VocoderWithBWE
from torch import Tensor

from idlora_pl.ltx2.audio_codec import AudioCodec
from idlora_pl.ltx2.checkpoint import Folder, Movable, check_config, load_component, read_config, require_components
from idlora_pl.ltx2.codec_presets import CodecPreset, codec_preset_named
from idlora_pl.ltx2.single_file import SingleFile, load_part
from idlora_pl.ltx2.video_codec import Tiling, VideoCodec
from idlora_pl.method.positions import Geometry
from idlora_pl.method.tokens import patchify_audio

_PARTS = ("vae", "audio_vae", "vocoder")


class Codecs(Movable):
    """Video VAE, audio VAE and vocoder of an LTX-2 base model; frozen, and every call is without gradients.

    Latents are posterior means, normalised to about unit variance, float32 whatever the networks' dtype.

    Args:
        vae: The video VAE.
        audio_vae: The audio VAE.
        vocoder: Turns the audio VAE's mel into sound.
        frame_rate_fps: Frame rate of the clips, which fixes how many audio tokens go with n frames.

    Example:
        >>> codecs = Codecs.from_preset("smoke")
        >>> codecs.video_latent_shape(121, 512, 512), codecs.n_audio_tokens(121)
        ((128, 16, 16, 16), 121)
    """

    def __init__(
        self,
        vae: AutoencoderKLLTX2Video,
        audio_vae: AutoencoderKLLTX2Audio,
        vocoder: LTX2Vocoder | LTX2VocoderWithBWE,
        *,
        frame_rate_fps: float = 25.0,
    ) -> None:
        super().__init__()
        self.video = VideoCodec(vae, frame_rate_fps=frame_rate_fps)
        self.audio = AudioCodec(audio_vae, vocoder)
        self.geometry = Geometry(self.video.grid, self.audio.grid)
        self.sample_rate_hz = self.audio.sample_rate_hz
        self.audio_channels = self.audio.channels
        self.eval().requires_grad_(False)

    @classmethod
    def from_preset(cls, name: str, seed: int = 0, device: str | torch.device | None = None) -> Self:
        """Build random codecs: "smoke" on the CPU, "ltx2-19b" and "ltx2.3-22b" on the meta device.

        Args:
            name: One of the presets.
            seed: Fixes the weights; torch's global generator is left as it was.
            device: Where to build; None takes the preset's own.

        Raises:
            ValueError: If there is no preset of that name.
        """
        preset = codec_preset_named(name)
        target = torch.device(device or preset.device)
        if name == "smoke" and target.type != "meta":
            return deepcopy(cls._measured(seed)).to(target)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(*preset.build("meta" if target.type == "meta" else "cpu")).to(target)

    @classmethod
    def from_pretrained(
        cls,
        path: Folder,
        *,
        preset: str | CodecPreset | None = None,
        dtype: torch.dtype | None = None,
        frame_rate_fps: float = 25.0,
    ) -> Self:
        """Load the three networks of a checkpoint; no network access.

        Args:
            path: A diffusers checkpoint folder with `vae/`, `audio_vae/` and `vocoder/`, or the authors' file.
            preset: The base model that they should belong to; None takes what a folder's configs say.
            dtype: Of the weights; None is float32.
            frame_rate_fps: Frame rate of the clips.

        Raises:
            ValueError: If a part is missing, or is not that of the preset.
        """
        found = codec_preset_named(preset) if isinstance(preset, str) else preset
        name = preset if isinstance(preset, str) else "given"
        return cls(*load_networks(path, found, name, dtype), frame_rate_fps=frame_rate_fps)

    def save_pretrained(self, folder: Folder) -> None:
        """Write the three networks as a diffusers checkpoint folder."""
        networks = (self.video.vae, self.audio.vae, self.audio.vocoder)
        for part, network in zip(_PARTS, networks, strict=True):
            network.save_pretrained(str(Path(folder) / part))

    @classmethod
    @cache
    def _measured(cls, seed: int) -> Self:
        """Build the smoke codecs once a process: to measure them takes longer than all that is done with them."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            codecs = cls(*codec_preset_named("smoke").build("cpu"))
            codecs._measure_statistics()
        return codecs

    def _measure_statistics(self) -> None:
        """Set the latent statistics of random networks from noise, so that latents have unit scale."""
        n_frames = self.geometry.video.temporal_stride + 1
        latents = self.encode_video(torch.randint(0, 256, (1, n_frames, 3, 128, 128), dtype=torch.uint8))
        self.video.vae.latents_mean.copy_(latents.mean((0, 2, 3, 4)))
        self.video.vae.latents_std.copy_(latents.std((0, 2, 3, 4)))
        tokens = patchify_audio(self.encode_audio(0.1 * torch.randn(1, 2, 32000), 16000))
        self.audio.vae.latents_mean.copy_(tokens.mean((0, 1)))
        self.audio.vae.latents_std.copy_(tokens.std((0, 1)))

    def enable_tiling(self, tiling: Tiling | None = None) -> None:
        """Cut frames above the tile size (512 pixels by default) into overlapping tiles."""
        self.video.tiling = tiling or Tiling()

    def disable_tiling(self) -> None:
        """Encode and decode whole frames."""
        self.video.tiling = None

    def check_clip_shape(self, n_frames: int, height: int, width: int) -> None:
        """Raise ValueError with the nearest sizes, unless frames are 8k+1 and sides multiples of 32."""
        self.video.check_shape(n_frames, height, width)

    def video_latent_shape(self, n_frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        """Return (C, F', H', W') of a clip, after `check_clip_shape`."""
        return self.video.latent_shape(n_frames, height, width)

    def n_audio_tokens(self, n_frames: int) -> int:
        """Return how many audio tokens go with `n_frames` video frames: round(25 * seconds)."""
        return self.geometry.audio.n_tokens(n_frames / self.geometry.video.frame_rate_fps)

    def encode_video(self, frames: Tensor) -> Tensor:
        """Encode uint8 frames (B, F, 3, H, W) to latents (B, C, F', H', W'); see `VideoCodec.encode`."""
        return self.video.encode(frames)

    def decode_video(self, latents: Tensor) -> Tensor:
        """Decode latents (B, C, F', H', W') to uint8 frames (B, F, 3, H, W); see `VideoCodec.decode`."""
        return self.video.decode(latents)

    def encode_audio(self, waveform: Tensor, sample_rate_hz: int, *, n_tokens: int | None = None) -> Tensor:
        """Encode a waveform (B, 1 or 2, S) to latents (B, C, T, M); see `AudioCodec.encode`."""
        return self.audio.encode(waveform, sample_rate_hz, n_tokens=n_tokens)

    def decode_audio(self, latents: Tensor) -> Tensor:
        """Decode latents (B, C, T, M) to a waveform (B, 2, S) at `sample_rate_hz`."""
        return self.audio.decode(latents)


Networks = tuple[AutoencoderKLLTX2Video, AutoencoderKLLTX2Audio, LTX2Vocoder | LTX2VocoderWithBWE]
CODEC_PARTS = ("vae", "audio_vae", "vocoder")
"""Folders of a diffusers checkpoint that hold the codecs."""


def load_networks(path: Folder, preset: CodecPreset | None, name: str, dtype: torch.dtype | None) -> Networks:
    """Load video VAE, audio VAE and vocoder.

    Args:
        path: A diffusers checkpoint folder, or the authors' file.
        preset: What they should be; None takes what a folder's configs say.
        name: Of the preset, for messages.
        dtype: Of the weights; None is float32.

    Raises:
        ValueError: If a part is missing or is not that of the preset, or a file comes without a preset.
    """
    if not Path(path).is_file():
        return _from_folder(path, preset, name, dtype)
    if preset is None:
        raise ValueError(f"{path}: a single file does not say how to build its codecs; pass preset, such as 'ltx2-19b'")
    return _from_file(SingleFile.opened(Path(path)), preset, name, dtype)


def _from_folder(folder: Folder, preset: CodecPreset | None, name: str, dtype: torch.dtype | None) -> Networks:
    require_components(folder, CODEC_PARTS)
    if preset is not None:
        for part, (cls, arguments) in preset.parts.items():
            check_config(Path(folder) / part, read_config(folder, part), cls, arguments, name)
    with_bwe = read_config(folder, "vocoder").get("_class_name") == "LTX2VocoderWithBWE"
    return (
        load_component(AutoencoderKLLTX2Video, folder, "vae", dtype),
        load_component(AutoencoderKLLTX2Audio, folder, "audio_vae", dtype),
        load_component(LTX2VocoderWithBWE if with_bwe else LTX2Vocoder, folder, "vocoder", dtype),
    )


def _from_file(file: SingleFile, preset: CodecPreset, name: str, dtype: torch.dtype | None) -> Networks:
    networks: dict[str, Any] = {}
    for part, (cls, arguments) in preset.parts.items():
        # the vocoder computes buffers that no file holds, so it cannot start on "meta"
        with torch.device("cpu" if part == "vocoder" else "meta"), torch.random.fork_rng(devices=[]):
            networks[part] = cls(**arguments)
        load_part(file, part, networks[part], name, dtype)
    return networks["vae"], networks["audio_vae"], networks["vocoder"]
