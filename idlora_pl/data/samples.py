"""One training pair, a batch of them, and the two files that hold a pair inside a shard.

Letters: B batch, C channels, F H W the video latent grid, T target and R reference audio steps, M frequency
bins, L text tokens, D1 D2 text widths.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from idlora_pl.data.latents import tensors_in
from idlora_pl.method.tokens import TextFeatures

TENSORS_FILE = "latents.safetensors"
META_FILE = "meta.json"
_AGAIN = "write the shard again with data_tools.write_shards"


class ShardError(ValueError):
    """A shard set cannot be read or written; the message names shard and clip and says the fix."""


@dataclass(frozen=True, eq=False)
class PairSample:
    """A target clip, the voice reference and the prompt, encoded.

    Attributes:
        target_video: (C, F, H, W) video latents.
        target_audio: (C, T, M) audio latents.
        reference: (C, R, M) audio latents of the reference voice.
        text: text features of one prompt: (L, D1), (L, D2), (L,).
        meta: JSON values; "key" names the sample within its shard set, "speaker" and "prompt" are usual;
            "target_tokens" and "reference_tokens" are there when audio is padded with zeros at its end, and say
            how many of T and R are data.
    """

    target_video: Tensor
    target_audio: Tensor
    reference: Tensor
    text: TextFeatures
    meta: Mapping[str, Any]

    @property
    def key(self) -> str:
        """Name of the sample within its shard set."""
        return str(self.meta["key"])

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors under the names that they have in a shard."""
        return {
            "target_video": self.target_video,
            "target_audio": self.target_audio,
            "reference": self.reference,
            "text_video": self.text.video,
            "text_audio": self.text.audio,
            "text_mask": self.text.mask,
        }


@dataclass(frozen=True, eq=False)
class PairBatch:
    """Pairs of equal shapes, stacked.

    Attributes:
        target_video: (B, C, F, H, W) video latents.
        target_audio: (B, C, T, M) audio latents.
        reference: (B, C, R, M) audio latents of the reference voices.
        text: text features: (B, L, D1), (B, L, D2), (B, L).
        meta: the `meta` of each pair.
    """

    target_video: Tensor
    target_audio: Tensor
    reference: Tensor
    text: TextFeatures
    meta: list[dict[str, Any]]

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self.meta)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "PairBatch":
        """Return the batch on another device, every tensor in the precision in which it was stored."""
        return self._mapped(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "PairBatch":
        """Return the batch in page-locked memory, for copies to a GPU that do not wait."""
        return self._mapped(Tensor.pin_memory)

    def _mapped(self, change: Callable[[Tensor], Tensor]) -> "PairBatch":
        text = TextFeatures(change(self.text.video), change(self.text.audio), change(self.text.mask))
        video, audio, reference = map(change, (self.target_video, self.target_audio, self.reference))
        return PairBatch(video, audio, reference, text, self.meta)


def collate(samples: Sequence[PairSample]) -> PairBatch:
    """Stack pairs of one shard set; their shapes are equal, so nothing is padded."""
    return PairBatch(
        torch.stack([sample.target_video for sample in samples]),
        torch.stack([sample.target_audio for sample in samples]),
        torch.stack([sample.reference for sample in samples]),
        TextFeatures(
            torch.stack([sample.text.video for sample in samples]),
            torch.stack([sample.text.audio for sample in samples]),
            torch.stack([sample.text.mask for sample in samples]),
        ),
        [dict(sample.meta) for sample in samples],
    )


def encode_sample(sample: PairSample) -> dict[str, bytes]:
    """Return the two files of a pair by name; equal pairs give equal bytes.

    Text that is the same for both modalities (the 19B model) is stored once.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in sample.tensors().items()}
    video, audio = tensors["text_video"], tensors["text_audio"]
    if video.dtype == audio.dtype and torch.equal(video, audio):
        del tensors["text_audio"]
    meta = json.dumps(dict(sample.meta), ensure_ascii=False, sort_keys=True)
    return {TENSORS_FILE: save(tensors), META_FILE: meta.encode()}


def decode_sample(files: Mapping[str, bytes | memoryview], name: str) -> PairSample:
    """Return the pair whose two files are given; nothing is unpickled.

    Args:
        files: {`latents.safetensors`: bytes, `meta.json`: bytes}; the tensors share the memory of a memoryview.
        name: shard and clip, for the error message.

    Raises:
        ShardError: when a file is missing or cannot be decoded.
    """
    try:
        file = files[TENSORS_FILE]
        tensors = tensors_in(bytearray(file) if isinstance(file, bytes) else file)
        meta = _meta(files[META_FILE])
        text = TextFeatures(
            tensors["text_video"], tensors.get("text_audio", tensors["text_video"]), tensors["text_mask"]
        )
        return PairSample(tensors["target_video"], tensors["target_audio"], tensors["reference"], text, meta)
    except KeyError as error:
        raise ShardError(f"{name} lacks {error}; {_AGAIN}") from error
    except ValueError as error:
        raise ShardError(f"{name} cannot be decoded ({error}); {_AGAIN}") from error


def _meta(file: bytes | memoryview) -> dict[str, Any]:
    """Return the JSON object of a meta.json."""
    try:
        meta = json.loads(bytes(file))
    except RecursionError:
        raise ValueError(f"{META_FILE} is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"{META_FILE} is not JSON: {error}") from None
    if not isinstance(meta, dict) or not isinstance(meta.get("key"), str):
        raise ValueError(f"{META_FILE} is no JSON object with a key")
    return meta
