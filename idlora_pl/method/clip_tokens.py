"""The noisy tokens of a clip: the one place where training and sampling build what the model sees.

At noise level 1 nothing of the data is left in tokens that are not clean, so training at sigma 1 and the start of
sampling are the same sequence, bit for bit.

Letters: B batch, N tokens, C channels, F H W the video latent grid.
"""

import torch
from torch import Tensor

from idlora_pl.method.flow import x_sigma
from idlora_pl.method.positions import AudioGrid, VideoGrid
from idlora_pl.method.tokens import Tokens


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
