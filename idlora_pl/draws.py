"""The noise of sampling, stage after stage, in one of two orders.

Letters: B clips, N tokens, C channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from idlora_pl.method.res2s import sde_noise
from idlora_pl.method.sampler import NoiseSource, noise_generator, released_generator
from idlora_pl.method.tokens import AVSequence


class Draws:
    """Gaussian noise of B clips; a clip's noise does not depend on its batch, a later stage goes on where one ended.

    Args:
        seeds: One seed a clip.
        order: "independent" draws a clip's video and audio from two generators on the CPU, with the values of
            `noise_tokens`. "released" draws both from one generator on the device, video first, then audio with
            the tokens of the reference in front (spec section 4.2).
        device: Where the clips are sampled.
        dtype: Dtype in which the released order draws: that of the model's weights.

    The start of a first stage is that of `noise_tokens` and `released_noise`.

    Example:
        >>> draws = Draws([1, 2], "independent")
        >>> video, audio = draws.stage((8, 128), (6, 128))
        >>> video.shape, audio.shape
        (torch.Size([2, 8, 128]), torch.Size([2, 6, 128]))
    """

    def __init__(
        self,
        seeds: Sequence[int],
        order: NoiseSource,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self._order, self._seeds, self._n_fresh = order, list(seeds), 0
        self._released, self._device = order == "released", torch.device(device)
        self._dtype = dtype if self._released else torch.float32
        self._generators = [self._pair(seed) for seed in seeds]

    def _pair(self, seed: int) -> tuple[torch.Generator, torch.Generator]:
        if self._released:
            one = released_generator(seed, self._device)
            return one, one
        return noise_generator(seed, 0), noise_generator(seed, 1)

    def stage(self, video: tuple[int, int], audio: tuple[int, int], *, n_reference: int = 0) -> tuple[Tensor, Tensor]:
        """Draw the noise of one stage.

        Args:
            video: (tokens, channels).
            audio: (tokens, channels) of the target.
            n_reference: Tokens of the voice; the released order draws noise for them and never uses it.

        Returns:
            (B, N, C) of video and of target audio, float32 on the device.
        """
        skipped = n_reference if self._released else 0
        pictures, sounds = [], []
        for for_video, for_audio in self._generators:
            pictures.append(self._normal(video, for_video))
            sounds.append(self._normal((skipped + audio[0], audio[1]), for_audio)[skipped:])
        return torch.stack(pictures).to(self._device).float(), torch.stack(sounds).to(self._device).float()

    def fresh(self, av: AVSequence) -> Iterator[Tensor]:
        """Return the fresh noise of one stage of "res2s", other noise in every stage; see `sde_noise`.

        Args:
            av: What the stage starts from. The released order restarts at its constant seeds in every stage.
        """
        stage = self._n_fresh
        self._n_fresh += 1
        return sde_noise(av, self._seeds, self._order, stage=stage)

    def _normal(self, shape: tuple[int, int], generator: torch.Generator) -> Tensor:
        return torch.randn(shape, generator=generator, device=generator.device, dtype=self._dtype)
