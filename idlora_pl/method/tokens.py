"""Token sequences of the two modalities, the text context, and how latents become tokens, noisy ones too.

Training and sampling build what the model sees in one place. At noise level 1 nothing of the data is left in tokens
that are not clean, so training at sigma 1 and the start of sampling are the same sequence, bit for bit.

Letters: B batch, N tokens, C channels, D position axes, L text tokens, F H W the video latent grid,
T audio steps, M frequency bins of an audio latent.
"""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from idlora_pl.method.flow import x_sigma
from idlora_pl.method.positions import AudioGrid, VideoGrid

HiddenText = Literal["nothing", "uniform"]


@dataclass(frozen=True)
class TextFeatures:
    """Text as the encoder gives it, before the connectors; what shards store.

    Attributes:
        video: (B, L, D1) features for the video stream.
        audio: (B, L, D2) features for the audio stream.
        mask: (B, L) bool, True where there is a text token.
    """

    video: Tensor
    audio: Tensor
    mask: Tensor


@dataclass(frozen=True)
class TextContext:
    """Text as the transformer reads it, after the connectors.

    Attributes:
        video: (B, L, Dv) context of the video tokens.
        audio: (B, L, Da) context of the audio tokens.
        mask: (B, L) bool, True where there is a text token; None when every position is one.
    """

    video: Tensor
    audio: Tensor
    mask: Tensor | None = None

    def expand(self, batch: int) -> "TextContext":
        """The one prompt of this context (B = 1) for a whole batch."""
        mask = None if self.mask is None else self.mask.expand(batch, -1)
        return TextContext(self.video.expand(batch, -1, -1), self.audio.expand(batch, -1, -1), mask)

    def replaced(self, chosen: Tensor, other: "TextContext") -> "TextContext":
        """This context with the samples that are True in chosen (B,) taken from another one (B or 1)."""
        pick, mask = chosen[:, None, None], None
        if self.mask is not None or other.mask is not None:
            mask = torch.where(chosen[:, None], other._full_mask(), self._full_mask())
        video = torch.where(pick, other.video.to(self.video), self.video)
        return TextContext(video, torch.where(pick, other.audio.to(self.audio), self.audio), mask)

    def _full_mask(self) -> Tensor:
        return torch.ones_like(self.video[..., 0], dtype=torch.bool) if self.mask is None else self.mask


@dataclass(frozen=True)
class Tokens:
    """One modality's sequence; a reference, if there is one, comes first.

    Attributes:
        latents: (B, N, C) noisy or clean latents.
        positions: (B, D, N, 2) [start, end); D = 1 (seconds) for audio, D = 3 (seconds, pixels, pixels) for
            video. float32, or what `InContext.positions` rounds them to.
        clean: (B, N) bool, True on conditioning tokens: timestep 0, no loss, never moved by a sampler.
        n_reference: how many leading tokens are the reference.

    Raises:
        ValueError: when the shapes do not belong together.

    Example:
        >>> clean = torch.tensor([[True, False, False]])
        >>> audio = Tokens(torch.zeros(1, 3, 8), torch.zeros(1, 1, 3, 2), clean, n_reference=1)
        >>> audio.timesteps(torch.tensor([0.5]))
        tensor([[0.0000, 0.5000, 0.5000]])
        >>> audio.target().n_tokens
        2
    """

    latents: Tensor
    positions: Tensor
    clean: Tensor
    n_reference: int = 0

    def __post_init__(self) -> None:
        """Refuse shapes that do not belong together."""
        if self.latents.ndim != 3:
            raise ValueError(f"latents must be (B, N, C); got {tuple(self.latents.shape)}; patchify first")
        batch, n_tokens, _ = self.latents.shape
        if self.clean.shape != (batch, n_tokens) or self.clean.dtype != torch.bool:
            raise ValueError(
                f"clean must be ({batch}, {n_tokens}) bool like the latents; "
                f"got {tuple(self.clean.shape)} {self.clean.dtype}"
            )
        positions = self.positions.shape
        if len(positions) != 4 or (positions[0], positions[2], positions[3]) != (batch, n_tokens, 2):
            raise ValueError(
                f"positions must be ({batch}, D, {n_tokens}, 2) like the latents; got {tuple(positions)}; "
                "expand a grid of batch 1 with .expand(B, -1, -1, -1)"
            )
        if not 0 <= self.n_reference <= n_tokens:
            raise ValueError(f"n_reference must lie in 0..{n_tokens}; got {self.n_reference}")

    @property
    def n_tokens(self) -> int:
        """Number of tokens, reference included."""
        return self.latents.shape[1]

    def target(self) -> "Tokens":
        """The same sequence without its reference."""
        cut = self.n_reference
        return Tokens(self.latents[:, cut:], self.positions[:, :, cut:], self.clean[:, cut:])

    def with_latents(self, latents: Tensor) -> "Tokens":
        """The same sequence with other latents (B, N, C)."""
        return replace(self, latents=latents)

    def moved(self, velocity: Tensor, change: float | Tensor) -> "Tokens":
        """The same sequence with its noisy tokens moved by velocity * change; clean tokens stay bit for bit.

        Args:
            velocity: (B, N, C), without rows for the reference.
            change: difference of noise levels, one number or (B, 1, 1); -sigma gives the clean estimate.
        """
        rows = functional.pad(velocity, (0, 0, self.n_reference, 0)).to(self.latents.dtype)
        return self.with_latents(torch.where(self.clean[..., None], self.latents, self.latents + rows * change))

    def timesteps(self, sigma: Tensor) -> Tensor:
        """Noise level of every token: sigma (B,) where it is noisy, 0 where it is clean; (B, N)."""
        return sigma[:, None] * ~self.clean


@dataclass(frozen=True)
class AVSequence:
    """Everything that the transformer needs except the noise level.

    Attributes:
        video: video tokens.
        audio: audio tokens, the voice reference first.
        text: the prompt.
        video_sees_reference: whether video tokens attend to reference audio tokens.
        reference_sees_text: whether reference audio tokens attend to the prompt.
        hidden_text: what a reference token gets that does not see the text: "nothing" (exact zeros) or
            "uniform" (the mean over all text values, which the authors' mask amounts to).
    """

    video: Tokens
    audio: Tokens
    text: TextContext
    video_sees_reference: bool = True
    reference_sees_text: bool = True
    hidden_text: HiddenText = "nothing"

    def __post_init__(self) -> None:
        """Refuse parts with different batch sizes."""
        parts = (self.video.latents, self.audio.latents, self.text.video, self.text.audio)
        sizes = [part.shape[0] for part in parts]
        if len(set(sizes)) != 1:
            raise ValueError(
                f"video, audio and both text contexts must share one batch size; got {sizes}; expand the smaller ones"
            )

    def without_reference(self) -> "AVSequence":
        """The same sequence as the model would get it had no voice been given."""
        return replace(self, audio=self.audio.target())


def patchify_video(latents: Tensor) -> Tensor:
    """Turn video latents (B, C, F, H, W) into tokens (B, F*H*W, C): frame, then row, then column."""
    return latents.flatten(2).transpose(1, 2)


def unpatchify_video(tokens: Tensor, grid: tuple[int, int, int]) -> Tensor:
    """Turn video tokens (B, F*H*W, C) back into latents (B, C, F, H, W) of the grid (F, H, W)."""
    return tokens.transpose(1, 2).unflatten(2, grid)


def patchify_audio(latents: Tensor) -> Tensor:
    """Turn audio latents (B, C, T, M) into tokens (B, T, C*M), channel-major."""
    return latents.transpose(1, 2).flatten(2)


def unpatchify_audio(tokens: Tensor, channels: int) -> Tensor:
    """Turn audio tokens (B, T, C*M) back into latents (B, C, T, M) with C channels."""
    return tokens.unflatten(2, (channels, -1)).transpose(1, 2)


def video_tokens(
    x0: Tensor, noise: Tensor, sigma: Tensor, *, shape: tuple[int, int, int], first_frame: Tensor, grid: VideoGrid
) -> Tokens:
    """Build the video tokens of a clip at a noise level.

    Args:
        x0: (B, N, C) data; only the first latent frame matters at sigma 1.
        noise: (B, N, C) Gaussian noise.
        sigma: (B,) noise level.
        shape: (F, H, W) with F*H*W = N.
        first_frame: (B,) bool, whether the first latent frame is given clean.
        grid: positions of video tokens.

    Example:
        >>> zeros, ones = torch.zeros(1, 8, 4), torch.ones(1)
        >>> given = torch.tensor([True])
        >>> made = video_tokens(zeros, zeros, ones, shape=(2, 2, 2), first_frame=given, grid=VideoGrid())
        >>> int(made.clean.sum())
        4
    """
    clean = torch.zeros(x0.shape[:2], dtype=torch.bool, device=x0.device)
    clean[:, : shape[1] * shape[2]] = first_frame[:, None]
    positions = grid.positions(*shape).to(x0.device).expand(len(x0), -1, -1, -1)
    return Tokens(x_sigma(x0, noise, sigma, clean), positions, clean)


def audio_tokens(x0: Tensor, noise: Tensor, sigma: Tensor, *, grid: AudioGrid) -> Tokens:
    """Build the audio tokens of a clip at a noise level, without a reference; none is clean.

    Args:
        x0: (B, N, C) data; does not matter at sigma 1.
        noise: (B, N, C) Gaussian noise.
        sigma: (B,) noise level.
        grid: positions of audio tokens.
    """
    clean = torch.zeros(x0.shape[:2], dtype=torch.bool, device=x0.device)
    positions = grid.positions(x0.shape[1]).to(x0.device).expand(len(x0), -1, -1, -1)
    return Tokens(x_sigma(x0, noise, sigma, clean), positions, clean)
