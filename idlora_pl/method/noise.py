"""The noise of sampling, stage after stage, in one of two orders; and which seeds there are.

In one, noise does not depend on the batch; the other is that of the released scripts.
Letters: B batch, N tokens, C channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import Literal

import torch
from torch import Tensor

from idlora_pl.method.tokens import AVSequence

# Noise of every sample and modality by itself, or the noise of the released scripts.
NoiseSource = Literal["independent", "released"]

# torch's CPU generator keeps 32 bits of a seed. Seeds below 2^29 have room in them for two streams of the start and of
# the fresh noise of three stages; whatever does not fit is hashed, so that no bit of a seed is lost.
_PLAIN_SEEDS, _PLAIN_STAGES = 2**29, 3

_RELEASED_SEEDS = {"end": -1, "middle": 9999}

END = 2**63
"""torch's generators take 64 bits, with a sign."""


def checked_seed(seed: object, name: str, *, end: int = END) -> int:
    """Return a seed.

    Args:
        seed: What somebody wrote.
        name: Of the key or the place, for the message.
        end: The first number that is too large.

    Raises:
        ValueError: If it is not a whole number from 0 to below the end.

    Example:
        >>> checked_seed(7, "model.seed")
        7
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < end:
        raise ValueError(f"{name} must be a whole number from 0 to {end - 1}; got {seed!r}")
    return seed


class Draws:
    """Gaussian noise of B clips; a clip's noise does not depend on its batch, a later stage goes on where one ended.

    Args:
        seeds: One seed a clip.
        order: "independent" draws a clip's video and audio from two generators on the CPU, with the values of
            `noise_generator`. "released" draws both from one generator on the device, video first, then audio with
            the tokens of the reference in front (spec section 4.2).
        device: Where the clips are sampled.
        dtype: Dtype in which the released order draws: that of the model's weights.

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


def noise_generator(seed: int, stream: int, *, fresh_of_stage: int | None = None) -> torch.Generator:
    """Return the CPU generator of one stream of noise of one sample.

    Args:
        seed: of the sample, any integer. Two seeds of 2^29 or more meet by chance only, once in 2^32.
        stream: 0 (video) or 1 (audio).
        fresh_of_stage: None for what sampling starts from, else the stage whose fresh noise of "res2s" is drawn.

    Raises:
        ValueError: when stream is neither 0 nor 1.

    Example:
        >>> seeds = (7, 7 + 2**32, 7 + 2**31)
        >>> len({float(torch.randn((), generator=noise_generator(seed, 0))) for seed in seeds})
        3
    """
    if stream not in (0, 1):
        raise ValueError(f"stream must be 0 (video) or 1 (audio); got {stream}")
    stage = 0 if fresh_of_stage is None else fresh_of_stage
    if 0 <= seed < _PLAIN_SEEDS and stage < _PLAIN_STAGES:
        number = 2 * (seed + stage * _PLAIN_SEEDS) + stream
        # the negative numbers never meet those of the start
        return torch.Generator().manual_seed(number if fresh_of_stage is None else -1 - number)
    digest = sha256(f"{seed} {stream} {fresh_of_stage}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:4], "little"))


def released_generator(seed: int, device: str | torch.device = "cpu") -> torch.Generator:
    """Return the generator of the released scripts, which is seeded with the number itself.

    Args:
        seed: of the sample.
        device: on the CPU, torch keeps 32 bits of a seed.

    Raises:
        ValueError: when the seed is 2^32 or more on the CPU, where it would repeat the noise of another one.
    """
    device = torch.device(device)
    if device.type == "cpu" and not 0 <= seed < 2**32:
        raise ValueError(
            f"seed {seed} repeats the noise of seed {seed % 2**32} in the released order on the CPU; give a seed below "
            "2^32, or noise: independent"
        )
    return torch.Generator(device).manual_seed(seed)


def sde_noise(
    av: AVSequence, seeds: Sequence[int], noise: NoiseSource = "independent", *, stage: int = 0
) -> Iterator[Tensor]:
    """Yield the fresh noise of `sample_res2s` without end: video, audio, video, audio.

    "independent" draws every sample and modality from a generator of its own, so that neither batching nor a
    reference changes a sample; rows of the reference are 0, since they never move. "released" repeats the HQ
    script: two generators with the constant seeds 9999 (middle) and -1 (end), so that every sample gets the same
    noise, which is standardised over the whole tensor twice.

    Args:
        av: the sequence, for shapes; "released" also draws on its device.
        seeds: one per sample, see `noise_generator`; "released" does not use them.
        noise: whose noise.
        stage: number of the stage; "independent" draws other noise in each, "released" the same in all.

    Yields:
        (B, N, C) float64, N with the rows of the reference.
    """
    if noise == "released":
        yield from _released_sde_noise(av)
    streams = [
        (tokens, [noise_generator(seed, stream, fresh_of_stage=stage) for seed in seeds])
        for stream, tokens in enumerate((av.video, av.audio))
    ]
    while True:
        for tokens, generators in streams:
            shape = (tokens.n_tokens - tokens.n_reference, tokens.latents.shape[2])
            rows = torch.stack([torch.randn(shape, generator=g, dtype=torch.float64) for g in generators])
            yield torch.nn.functional.pad(rows, (0, 0, tokens.n_reference, 0))


def _released_sde_noise(av: AVSequence) -> Iterator[Tensor]:
    device = av.video.latents.device
    generators = {name: torch.Generator(device).manual_seed(seed) for name, seed in _RELEASED_SEEDS.items()}
    while True:
        for name in ("middle", "end"):
            for latents in (av.video.latents, av.audio.latents):
                shape = (1, *latents.shape[1:])
                noise = torch.randn(shape, generator=generators[name], dtype=torch.float64, device=device)
                for _ in range(2):
                    noise = (noise - noise.mean()) / noise.std()
                yield noise.expand(latents.shape)
