"""Embeddings of clips, computed once: kept by the hash of the clip in one safetensors file for each network."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from rich.progress import Progress
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from data_tools.verb.parallel import Crashed, run_all
from idlora_pl.files import replacing
from idlora_pl.media.clip import Clip, MediaError
from idlora_pl.media.reading import read_recording
from idlora_pl.metrics.scorable import Unscorable

KEEP_EVERY = 100
"""Clips after which the files are written again: as many are lost when a run is killed."""

CRASHED = "crashed"
"""The reason of a clip whose process died, as for a want of memory; it is not kept, the next run tries again."""

Seen = Tensor | str
"""A vector (D,), or the reason why there is none."""


class Embeds(Protocol):
    """Something that makes a vector of a clip, such as `speakers.embedders.Embedder`."""

    @property
    def name(self) -> str:
        """Names the file of its vectors."""

    @property
    def digest(self) -> str:
        """Hash of what they depend on."""

    def embed(self, clip: Clip) -> Tensor:
        """Return a vector (D,); raises `Unscorable` without one."""


@dataclass(frozen=True)
class _Look:
    """One clip, and the networks that have not seen it yet."""

    path: Path
    digest: str
    embedders: tuple[Embeds, ...]


def _look(item: _Look) -> dict[str, np.ndarray | str]:
    """Embed one clip; runs in worker processes, each of which makes its networks once."""
    try:
        clip = read_recording(item.path)
    except MediaError:
        return {embedder.name: "unreadable" for embedder in item.embedders}
    found: dict[str, np.ndarray | str] = {}
    for embedder in item.embedders:
        try:
            found[embedder.name] = embedder.embed(clip).numpy()
        except Unscorable as fault:
            found[embedder.name] = fault.reason
    return found


def embed_clips(
    files: Mapping[Path, str], embedders: Sequence[Embeds], folder: Path, *, workers: int
) -> dict[str, dict[str, Seen]]:
    """Embed clips, but for those that are remembered.

    Args:
        files: clips with their hashes.
        embedders: networks.
        folder: where embeddings are kept.
        workers: processes.

    Returns:
        By name of the network and hash of the clip a vector (D,), or the reason why there is none.
    """
    known = {embedder.name: read_embeddings(_file_of(embedder, folder)) for embedder in embedders}
    items = [
        _Look(path, digest, unseen)
        for digest, path in {digest: path for path, digest in files.items()}.items()
        if (unseen := tuple(one for one in embedders if digest not in known[one.name]))
    ]
    with Progress() as progress:
        bar = progress.add_task("embedding", total=len(items))

        def done(item: _Look, found: dict[str, np.ndarray | str] | Crashed) -> None:
            for embedder in item.embedders:
                value = CRASHED if isinstance(found, Crashed) else found[embedder.name]
                known[embedder.name][item.digest] = value if isinstance(value, str) else torch.from_numpy(value)
            progress.advance(bar)
            count = int(progress.tasks[0].completed)
            if count % KEEP_EVERY == 0 or count == len(items):
                for embedder in embedders:
                    _keep(known[embedder.name], _file_of(embedder, folder), embedder)

        run_all(_look, items, workers, done)
    return known


def stacked(vectors: Sequence[Seen]) -> np.ndarray:
    """Return vectors as (N, D) float32, a row of NaN for each reason."""
    size = next((len(vector) for vector in vectors if isinstance(vector, Tensor)), 1)
    empty = np.full(size, np.nan, np.float32)
    return np.stack([vector.float().numpy() if isinstance(vector, Tensor) else empty for vector in vectors])


def _file_of(embedder: Embeds, folder: Path) -> Path:
    return folder / f"{embedder.name}-{embedder.digest[:16]}.safetensors"


def read_embeddings(path: Path) -> dict[str, Seen]:
    """Read remembered embeddings by the hash of their clip; {} when there is no such file.

    Raises:
        ValueError: the file is damaged.
    """
    if not path.is_file():
        return {}
    try:
        with safe_open(path, framework="pt") as file:
            reasons = json.loads((file.metadata() or {}).get("reasons", "{}"))
            vectors: dict[str, Seen] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, json.JSONDecodeError, OSError) as error:
        raise ValueError(f"{path} cannot be read ({error}); remove it, it is made again") from error
    return vectors | reasons


def _keep(seen: Mapping[str, Seen], path: Path, embedder: Embeds) -> None:
    vectors = {digest: value for digest, value in seen.items() if isinstance(value, Tensor)}
    reasons = {digest: value for digest, value in seen.items() if isinstance(value, str) and value != CRASHED}
    about = {"scorer": embedder.name, "weights": embedder.digest, "reasons": json.dumps(reasons, sort_keys=True)}
    with replacing(path) as partial:
        save_file(vectors, partial, about)
