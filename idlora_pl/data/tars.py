"""The pairs inside a tar, read from front to back; nothing is unpacked, and no member is trusted.

Members are held in memory only. A member that index.json does not announce ends the reading of its tar.
"""

import tarfile
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet

import numpy as np

from idlora_pl.data.addresses import Stream
from idlora_pl.data.samples import META_FILE, TENSORS_FILE

Files = dict[str, memoryview]
"""The files of one pair by suffix."""
MAX_META_BYTES = 1 << 20
# what tarfile raises for headers that no tar program would write
MALFORMED = (tarfile.TarError, EOFError, ValueError, OverflowError, RecursionError, IndexError, KeyError)


class TarFault(Exception):
    """A tar cannot be read any further; the message is half a sentence that says why."""


def pairs_in(
    stream: Stream, keys: Sequence[str], wanted: AbstractSet[str], max_bytes: int
) -> Iterator[tuple[str, Files]]:
    """Yield (key, files) of the pairs `wanted`, in the order of the tar.

    A tar is read no further than the last wanted pair. The last pair of a tar is given out when its end was seen.

    Args:
        stream: the tar.
        keys: of all pairs that the tar should hold.
        wanted: those to give out.
        max_bytes: size of the larger file of a pair, at most.

    Raises:
        TarFault: when the tar is malformed or ends early, or holds what it should not.
        OSError: when it cannot be read.
    """
    listed = {f"{key}.{suffix}": (key, suffix) for key in keys for suffix in (TENSORS_FILE, META_FILE)}
    pairs: dict[str, Files] = {}
    left = set(wanted)
    for member, size in _members(stream):
        if member not in listed:
            raise TarFault(f"it holds {member!r:.80}, which is no file of a pair that index.json lists")
        key, suffix = listed.pop(member)
        limit = max_bytes if suffix == TENSORS_FILE else MAX_META_BYTES
        if size > limit:
            raise TarFault(f"its member {member!r:.80} claims {size} bytes, at most {limit} are expected")
        if key not in wanted:
            continue
        pairs.setdefault(key, {})[suffix] = _content(stream, member, size)
        if len(pairs[key]) == 2 and key != keys[-1]:
            left.discard(key)
            yield key, pairs.pop(key)
            if not left:
                return
    if len(pairs.get(keys[-1], ())) == 2:
        yield keys[-1], pairs[keys[-1]]


def _members(stream: Stream) -> Iterator[tuple[str, int]]:
    """Yield name and size of every member; the stream then stands at its first byte."""
    seen: set[str] = set()
    try:
        with tarfile.open(fileobj=stream, mode="r:") as tar:  # type: ignore[call-overload]
            for member in tar:
                name = member.name
                if not member.isreg() or member.issparse():
                    raise TarFault(f"its member {name!r:.80} is {_kind(member)}")
                if name.startswith("/") or ".." in name.split("/"):
                    raise TarFault(f"its member {name!r:.80} points outside the tar")
                if name in seen:
                    raise TarFault(f"it holds {name!r:.80} twice")
                if member.size < 0:
                    raise TarFault(f"its member {name!r:.80} claims {member.size} bytes")
                seen.add(name)
                stream.seek(member.offset_data)
                yield name, member.size
    except MALFORMED as error:
        raise TarFault(str(error) or "it is no tar") from error


def _kind(member: tarfile.TarInfo) -> str:
    """Say what a member is that is no ordinary file."""
    if member.issym() or member.islnk():
        return "a link"
    if member.isdir():
        return "a folder"
    return "a device" if member.isdev() else "no ordinary file"


def _content(stream: Stream, member: str, size: int) -> memoryview:
    """Read a member as a whole."""
    content = np.empty(size, np.uint8).data  # a bytearray would be filled with zeros first
    n_read = stream.readinto(content)
    if n_read != size:
        raise TarFault(f"it ends within {member!r:.80}, after {n_read} of {size} bytes")
    return content
