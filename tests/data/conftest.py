"""Small shard sets of random latents."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from idlora_pl.data.samples import PairSample
from idlora_pl.data.shards import write_shards
from idlora_pl.method.tokens import TextFeatures


def random_sample(index: int, *, audio_tokens: int = 6, reference_tokens: int = 5) -> PairSample:
    """A pair of random latents: bf16 video and text, float32 audio."""
    rng = torch.Generator().manual_seed(index)
    text = torch.randn(4, 8, generator=rng).bfloat16()
    return PairSample(
        target_video=torch.randn(3, 2, 2, 2, generator=rng).bfloat16(),
        target_audio=torch.randn(2, audio_tokens, 4, generator=rng),
        reference=torch.randn(2, reference_tokens, 4, generator=rng),
        text=TextFeatures(text, torch.randn(4, 6, generator=rng).bfloat16(), torch.arange(4) < 3),
        meta={"key": f"pair{index:04d}", "speaker": f"s{index % 3}", "prompt": f"Äh, number {index}"},
    )


@pytest.fixture
def make_sample() -> Callable[..., PairSample]:
    """`random_sample`."""
    return random_sample


@pytest.fixture
def shard_folder(tmp_path: Path) -> Path:
    """Twenty-two samples in four shards of six, six, six and four."""
    folder = tmp_path / "shards"
    write_shards(
        (random_sample(index) for index in range(22)),
        folder,
        samples_per_shard=6,
        codecs="random",
        settings={"duration_s": 0.24},
    )
    return folder
