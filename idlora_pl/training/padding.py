"""Batches whose items were padded to one length, taken apart again so that no padding reaches the model.

Shard sets have one length, so there is padding only where a set was imported with it. Such items tell their true
lengths in `meta`: "target_tokens" and "reference_tokens"; the padding follows the data.

Letters: B batch.
"""

from __future__ import annotations

from torch import Tensor

from idlora_pl.data.samples import PairBatch, ShardError
from idlora_pl.method.tokens import TextContext, TextFeatures
from idlora_pl.training.noise import Noise

Part = tuple[PairBatch, Noise, TextContext]


def unpadded(batch: PairBatch, noise: Noise, text: TextContext) -> list[Part]:
    """Split a batch into parts of equal true lengths, cut to them; without padding it is returned as it is.

    Args:
        batch: Targets and references as latents; `meta` tells the true lengths.
        noise: What was drawn for it.
        text: Context of its prompts.

    Raises:
        ShardError: If a true length is no number of tokens of this batch.
    """
    groups: dict[tuple[int, int], list[int]] = {}
    for index in range(len(batch)):
        groups.setdefault(true_lengths(batch, index), []).append(index)
    if list(groups) == [_full(batch)]:
        return [(batch, noise, text)]
    return [_part(batch, noise, text, rows, lengths) for lengths, rows in groups.items()]


def true_lengths(batch: PairBatch, index: int) -> tuple[int, int]:
    """Return how many target and reference audio tokens of an item are data and not padding.

    Raises:
        ShardError: If `meta` names a length that the item cannot have.
    """
    meta, found = batch.meta[index], []
    for name, full in zip(("target_tokens", "reference_tokens"), _full(batch), strict=True):
        length = meta.get(name, full)
        if type(length) is not int or not 1 <= length <= full:
            raise ShardError(
                f"clip {meta.get('key')}: meta '{name}' must be a whole number in 1..{full}; got {length!r}; "
                "write the shard again"
            )
        found.append(length)
    return found[0], found[1]


def _full(batch: PairBatch) -> tuple[int, int]:
    return batch.target_audio.shape[2], batch.reference.shape[2]


def _part(batch: PairBatch, noise: Noise, text: TextContext, rows: list[int], lengths: tuple[int, int]) -> Part:
    n_target, n_reference = lengths

    def chosen(tensor: Tensor) -> Tensor:
        return tensor[rows]

    return (
        PairBatch(
            chosen(batch.target_video),
            chosen(batch.target_audio)[:, :, :n_target],
            chosen(batch.reference)[:, :, :n_reference],
            TextFeatures(chosen(batch.text.video), chosen(batch.text.audio), chosen(batch.text.mask)),
            [batch.meta[row] for row in rows],
        ),
        Noise(chosen(noise.sigma), chosen(noise.video), chosen(noise.audio)[:, :n_target], chosen(noise.first_frame)),
        TextContext(chosen(text.video), chosen(text.audio), None if text.mask is None else chosen(text.mask)),
    )
