"""What workers do: read a block of items, or write one shard."""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from data_tools.released.layout import Item
from data_tools.released.plan import PRECISIONS
from data_tools.released.reading import RefusedFileError, read_contents
from data_tools.verb.lists import Row, write_rows
from idlora_pl.data.samples import PairSample
from idlora_pl.data.shards import ShardIndex, write_shard
from idlora_pl.files import replacing
from idlora_pl.method.tokens import TextFeatures


@dataclass(frozen=True)
class ScanJob:
    """Read and check a block of items, and note what they are or why they are refused.

    Attributes:
        items: the block.
        notes: file for one line an item.
    """

    items: tuple[Item, ...]
    notes: Path

    def __len__(self) -> int:
        """Return how many items it reads."""
        return len(self.items)

    def run(self) -> None:
        """Do it."""
        write_rows(self.notes, [_note(item) for item in self.items])
        for item in self.items:
            item.discard()


def _note(item: Item) -> Row:
    note: Row = {"key": item.name, "order": item.order}
    try:
        return note | {"shown": dict(item.shown), "facts": read_contents(item).facts().to_json()}
    except RefusedFileError as error:
        return note | {"file": error.file, "reason": error.reason, "detail": error.detail}


@dataclass(frozen=True)
class ShardJob:
    """Write one shard.

    Attributes:
        items: in the order of the shard, each with the `meta` of its sample.
        path: the tar.
        notes: file for what index.json says of the tar.
        index: shapes and precision of every sample.
    """

    items: tuple[tuple[Item, Mapping[str, Any]], ...]
    path: Path
    notes: Path
    index: ShardIndex

    def __len__(self) -> int:
        """Return how many samples it writes."""
        return len(self.items)

    def run(self) -> None:
        """Do it.

        Raises:
            ValueError: when a file is no longer what it was when it was checked.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # beside the notes, so that a killed process leaves nothing in the folder that becomes the result
        partial = self.notes.with_name(f".{self.notes.name}.{os.getpid()}.partial")
        try:
            written = write_shard(self._samples(), partial, self.index)
        except RefusedFileError as error:
            raise ValueError(f"{error.detail} (it was whole when it was checked)") from error
        os.replace(partial, self.path)
        with replacing(self.notes) as notes:
            notes.write_text(json.dumps(asdict(written) | {"name": self.path.name}))
        for item, _ in self.items:
            item.discard()

    def _samples(self) -> Iterator[PairSample]:
        shapes = self.index.shapes
        for item, meta in self.items:
            found = read_contents(item)
            stored = (found.video, found.audio, found.reference, *found.text)
            video, audio, reference, *text = (
                tensor.to(getattr(torch, name)) for tensor, name in zip(stored, PRECISIONS, strict=True)
            )
            yield PairSample(
                video,
                _of_length(audio, shapes["target_audio"][1]),
                _of_length(reference, shapes["reference"][1]),
                TextFeatures(text[0], text[1], found.mask),
                meta,
            )


def _of_length(latents: Tensor, n_tokens: int) -> Tensor:
    """Cut the end of (C, T, M) latents, or pad it with zeros, the start stays in step with the video."""
    return nn.functional.pad(latents, (0, 0, 0, max(0, n_tokens - latents.shape[1])))[:, :n_tokens]
