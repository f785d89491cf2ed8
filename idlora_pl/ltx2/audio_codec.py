"""Waveforms <-> audio latents of LTX-2: log-mel, audio VAE, token-wise normalisation, vocoder.

The log-mel front end is always float32.
Letters: B clips, S samples, C channels, T latent steps (one step is one audio token, 0.04 s) or mel frames, M frequency
bins or mel bands.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torchaudio
from diffusers.models.autoencoders.autoencoder_kl_ltx2_audio import AutoencoderKLLTX2Audio
from diffusers.pipelines.ltx2.vocoder import LTX2Vocoder, LTX2VocoderWithBWE
from torch import Tensor, nn

from idlora_pl.method.positions import AudioGrid
from idlora_pl.method.tokens import patchify_audio, unpatchify_audio


class AudioCodec(nn.Module):
    """The audio VAE with its front end, and the vocoder behind it; posterior means, nothing is sampled.

    Args:
        vae: The diffusers audio VAE.
        vocoder: The diffusers vocoder.
    """

    def __init__(self, vae: AutoencoderKLLTX2Audio, vocoder: LTX2Vocoder | LTX2VocoderWithBWE) -> None:
        super().__init__()
        config = vae.config
        width = config["latent_channels"] * config["mel_bins"] // vae.mel_compression_ratio
        if vae.latents_mean.numel() != width:
            raise ValueError(
                f"audio_vae: {vae.latents_mean.numel()} latent statistics (base_channels) for tokens of "
                f"{width} numbers (latent_channels x mel_bins / 4); set base_channels to {width}"
            )
        self.vae, self.vocoder = vae, vocoder
        self.mel = LogMel(config["sample_rate"], config["mel_hop_length"], config["mel_bins"])
        self.grid = AudioGrid(config["sample_rate"], config["mel_hop_length"], vae.temporal_compression_ratio)
        self.channels: int = config["latent_channels"]
        self.sample_rate_hz: int = vocoder.config["output_sampling_rate"]

    @torch.no_grad()
    def encode(self, waveform: Tensor, sample_rate_hz: int, *, n_tokens: int | None = None) -> Tensor:
        """Encode a waveform (B, 1 or 2, S) in [-1, 1] to float32 latents (B, C, T, M) of about unit variance.

        The whole waveform gives T = ceil((1 + S // 160) / 4) steps with S counted at 16 kHz: 4.84 s give 122,
        one more than the 121 tokens that go with 121 frames. The reference implementation trains on 122 and
        samples 121; `n_tokens` gives the same length in both. The encoder is causal, so dropping steps at the
        end changes no other.

        Args:
            waveform: Mono is given to both channels.
            sample_rate_hz: Its rate; anything but 16 kHz is resampled.
            n_tokens: Return exactly this many steps. A sound track that ends up to one token (0.04 s) early,
                as tracks of compressed files do, is continued with silence.

        Raises:
            ValueError: If the waveform is empty, too short, or has more than two channels.
        """
        if waveform.ndim == 3 and waveform.shape[1] == 1:
            waveform = waveform.expand(-1, self.vae.config["in_channels"], -1)
        elif waveform.ndim == 3 and waveform.shape[1] != self.vae.config["in_channels"]:
            raise ValueError(
                f"waveform has {waveform.shape[1]} channels; LTX-2 takes mono or stereo: mix it down first"
            )
        if n_tokens is not None:
            waveform = self._fit(waveform, sample_rate_hz, n_tokens)
        mel = self.mel(waveform.to(self.vae.device), sample_rate_hz)
        tokens = patchify_audio(self.vae.encode(mel.to(self.vae.dtype)).latent_dist.mean.float())
        tokens = (tokens - self.vae.latents_mean.float()) / self.vae.latents_std.float()
        return unpatchify_audio(tokens, self.channels)[:, :, :n_tokens]

    def _fit(self, waveform: Tensor, sample_rate_hz: int, n_tokens: int) -> Tensor:
        """Cut a waveform (B, channels, S) to `n_tokens` tokens, or add up to one token of silence."""
        token = self.grid.token_seconds * sample_rate_hz
        wanted, got = round(n_tokens * token), waveform.shape[-1]
        if got < wanted - token:
            raise ValueError(
                f"waveform lasts {got / sample_rate_hz:.2f} s; {n_tokens} audio tokens need "
                f"{wanted / sample_rate_hz:.2f} s: use a longer sound track or fewer frames"
            )
        return nn.functional.pad(waveform[..., :wanted], (0, max(0, wanted - got)))

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Decode latents (B, C, T, M) to a float32 waveform (B, 2, S) of 4 T - 3 mel frames (0.01 s each)."""
        tokens = patchify_audio(latents.to(self.vae.device).float())
        tokens = tokens * self.vae.latents_std.float() + self.vae.latents_mean.float()
        mel = self.vae.decode(unpatchify_audio(tokens, self.channels).to(self.vae.dtype)).sample
        return self.vocoder(mel.to(self.vocoder.dtype)).float()


FLOOR = 1e-5


@dataclass(frozen=True)
class LogMel:
    """Waveform to log-mel magnitudes: slaney scale and norm, periodic Hann window, centred, reflect padding.

    Attributes:
        sample_rate_hz: Rate at which the spectrum is taken; other rates are resampled first.
        hop_length: Samples between two frames.
        n_mels: Number of mel bands between 0 Hz and half the rate.
        n_fft: Length of the window in samples.

    Example:
        >>> LogMel()(torch.zeros(1, 2, 16000), 16000).shape
        torch.Size([1, 2, 101, 64])
    """

    sample_rate_hz: int = 16000
    hop_length: int = 160
    n_mels: int = 64
    n_fft: int = 1024

    def __call__(self, waveform: Tensor, sample_rate_hz: int) -> Tensor:
        """Return the log-mel (B, channels, T, M) of a waveform (B, channels, S) in [-1, 1].

        T = 1 + S // hop, with S counted after resampling. Magnitudes are at least 1e-5, so silence is finite.

        Raises:
            ValueError: If the waveform is not (B, channels, S) of floats, or shorter than half a window.
        """
        if waveform.ndim != 3 or not waveform.is_floating_point():
            raise ValueError(
                f"waveform must be float (B, channels, S) in [-1, 1]; got {waveform.dtype} {tuple(waveform.shape)}"
            )
        audio = waveform.float()
        if sample_rate_hz != self.sample_rate_hz and audio.shape[-1]:
            audio = torchaudio.functional.resample(audio, sample_rate_hz, self.sample_rate_hz)
        needed = self.n_fft // 2 + 1
        if audio.shape[-1] < needed:
            raise ValueError(
                f"waveform has {waveform.shape[-1]} samples at {sample_rate_hz} Hz; the mel window needs at "
                f"least {needed / self.sample_rate_hz:.3f} s: use a longer clip with a sound track"
            )
        with torch.autocast(audio.device.type, enabled=False):
            return self.transform(audio.device)(audio).clamp(min=FLOOR).log().transpose(-1, -2)

    def transform(self, device: torch.device) -> torchaudio.transforms.MelSpectrogram:
        """Build the transform to mel magnitudes on `device`; not a buffer, so that a bf16 copy cannot round it."""
        return torchaudio.transforms.MelSpectrogram(
            sample_rate=self.sample_rate_hz,
            n_fft=self.n_fft,
            hop_length=self.hop_length,
            f_min=0.0,
            f_max=self.sample_rate_hz / 2,
            n_mels=self.n_mels,
            power=1.0,
            norm="slaney",
            mel_scale="slaney",
        ).to(device)
