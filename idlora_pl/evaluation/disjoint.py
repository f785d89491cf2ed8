"""Are the people of a benchmark strangers to the training set? Checked by name, and counted."""

import json
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from idlora_pl.benchmark.items import Item, read_prompts
from idlora_pl.data.samples import META_FILE, ShardError
from idlora_pl.data.shards import INDEX_NAME, ShardIndex
from idlora_pl.files import read_json_lines

_PREFIX = "speaker_"


@dataclass(frozen=True)
class Disjointness:
    """How the speakers of a benchmark and of a training set overlap.

    Attributes:
        n_benchmark: Speakers of the benchmark.
        n_training: Speakers of the training set.
        leaked: Speakers who are in both.
        unnamed_benchmark: Items that name no speaker.
        unnamed_training: Training samples that name no speaker, of which nothing can be said.
    """

    n_benchmark: int
    n_training: int
    leaked: tuple[str, ...]
    unnamed_benchmark: int = 0
    unnamed_training: int = 0

    @property
    def is_shown(self) -> bool:
        """Whether it is shown that nobody is in both: everybody is named, and there is somebody on both sides."""
        return bool(self.n_benchmark and self.n_training) and not (
            self.leaked or self.unnamed_benchmark or self.unnamed_training
        )

    def sentence(self) -> str:
        """Say it in one sentence."""
        shared = f"{len(self.leaked)} of {self.n_benchmark} speakers of the benchmark are among the {self.n_training}"
        names = f": {', '.join(self.leaked)}" if self.leaked else ""
        unnamed = []
        if self.unnamed_benchmark:
            unnamed.append(f"{self.unnamed_benchmark} items of the benchmark name no speaker")
        if self.unnamed_training:
            unnamed.append(f"{self.unnamed_training} training samples name no speaker")
        rest = f" ({', '.join(unnamed)}; nothing is known of these)" if unnamed else ""
        return f"{shared} of the training set{names}{rest}"


def compare_speakers(items: Sequence[Item], training: Path) -> Disjointness:
    """Compare the speakers of a benchmark with those of a training set.

    Names are compared without case and without a leading "speaker_".

    Args:
        items: Of the benchmark.
        training: Folder of a shard set or its index.json, a manifest or prompt file, or a list of clips or pairs
            (one JSON object a line with "speaker").

    Raises:
        ValueError: The training set cannot be read, or either of them is empty.
    """
    own = [item.speaker for item in items]
    trained = list(_training_speakers(training))
    if not own or not trained:
        empty = f"training set {training}" if own else "benchmark"
        raise ValueError(f"the {empty} is empty, so nothing is known of its speakers; give the one that was used")
    known = {_plain(name) for name in trained if name}
    leaked = {str(name) for name in own if name and _plain(name) in known}
    return Disjointness(
        len({_plain(name) for name in own if name}),
        len(known),
        tuple(sorted(leaked)),
        sum(not name for name in own),
        sum(not name for name in trained),
    )


def _plain(name: object) -> str:
    return str(name).strip().lower().removeprefix(_PREFIX)


def _training_speakers(path: Path) -> Iterator[object]:
    """Yield the speaker of each training sample, None where it names none."""
    if path.is_dir() or path.name == INDEX_NAME:
        yield from _shard_speakers(path if path.is_dir() else path.parent)
    elif path.suffix == ".jsonl":
        yield from _list_speakers(path)
    else:
        yield from (item.speaker for item in read_prompts(path, use="scoring"))


def _list_speakers(path: Path) -> Iterable[object]:
    if not path.is_file():
        raise ValueError(f"training list {path} does not exist; give a shard set, a manifest or a list of clips")
    for _, row in read_json_lines(path):
        yield row.get("speaker")


def _shard_speakers(folder: Path) -> Iterator[object]:
    """Read the meta.json of every sample; the tensors between them are skipped."""
    index_path = folder / INDEX_NAME
    if not index_path.is_file():
        raise ShardError(f"training set {folder} has no {INDEX_NAME}; give the folder of a shard set")
    index = ShardIndex.from_json(index_path.read_bytes(), str(index_path))
    for shard in index.shards:
        found = 0
        try:
            with tarfile.open(folder / shard.name) as tar:
                for member in tar:
                    if member.name.endswith(f".{META_FILE}") and (file := tar.extractfile(member)) is not None:
                        found += 1
                        yield json.loads(file.read()).get("speaker")
        except (OSError, tarfile.TarError, ValueError) as error:
            raise ShardError(f"{folder / shard.name} cannot be read ({error}); copy it again") from error
        if found != len(shard.keys):
            raise ShardError(
                f"{folder / shard.name} holds {found} samples, {INDEX_NAME} lists {len(shard.keys)}; copy it again"
            )
