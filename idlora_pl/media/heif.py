"""Photographs as phones store them (HEIC, AVIF): tiles, transparency and orientation, which FFmpeg leaves apart.

FFmpeg gives every tile as a stream of its own, whose id is that of the item in the file; how they belong together
stands in the file's `meta` box (ISO/IEC 23008-12, 23000-22), of which PyAV shows nothing.
Letters: H W pixels.
"""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from idlora_pl.media.clip import MediaError
from idlora_pl.media.colour import Screen, on_white
from idlora_pl.media.orientation import Orientation
from idlora_pl.media.source import Source, decoded

_CODED = ("hvc1", "av01")
_ALPHA = ("urn:mpeg:mpegB:cicp:systems:auxiliary:alpha", "urn:mpeg:hevc:2015:auxid:1")
_LONGEST_META = 1 << 24
_FIX = "save it as png or jpg"


@dataclass(frozen=True)
class _Item:
    """One picture, or what is made of several.

    Attributes:
        kind: "hvc1", "av01", "grid", ...
        parts: Items that it is made of.
        helps: Items that it is an auxiliary picture of.
        multiplied: Items of transparency with which its colours are multiplied already.
        properties: (type, content) in their order.
        content: Of an item that is made of others.
    """

    kind: str
    parts: tuple[int, ...]
    helps: tuple[int, ...]
    multiplied: tuple[int, ...]
    properties: tuple[tuple[str, bytes], ...]
    content: bytes


def read_heif(source: Source, screen: Screen) -> VideoFrame | None:
    """Read the main picture of a HEIC or AVIF file, upright and on white, as rgb24; None for files of another kind.

    Raises:
        MediaError: The picture is of a kind that is not assembled here.
    """
    found = _items_of(Path(source.path)) if source.container.format.name.startswith("mov") else None
    if found is None:
        return None
    items, main = found
    try:
        pictures = _Pictures(source, screen, items)
        pixels = pictures.of(main)
        for alpha in [name for name, item in items.items() if main in item.helps and _is_alpha(item)][:1]:
            opacity = pictures.of(alpha)[..., 0]
            if opacity.shape != pixels.shape[:2]:
                raise MediaError(f"{source.name} has transparency of another size than its picture; {_FIX}")
            pixels = on_white(pixels, opacity, multiplied=alpha in items[main].multiplied)
        upright = _orientation(items[main], source.name).upright(pixels)
    except (KeyError, IndexError, struct.error) as error:
        raise MediaError(f"{source.name} is damaged: its pictures do not fit together; {_FIX}") from error
    return VideoFrame.from_ndarray(np.ascontiguousarray(upright), format="rgb24")


class _Pictures:
    """Decodes items of a file, which is read once."""

    def __init__(self, source: Source, screen: Screen, items: Mapping[int, _Item]) -> None:
        self.name, self.screen, self.items = source.name, screen, items
        streams = {stream.id: stream for stream in source.container.streams.video}
        self.frames: dict[int, VideoFrame] = {}
        for name, stream in streams.items():
            if name in items and stream.codec_context is not None:
                source.container.seek(0)
                self.frames[name] = self._first(source, stream)

    def _first(self, source: Source, stream: VideoStream) -> VideoFrame:
        frame = next(decoded(source, stream), None)
        if not isinstance(frame, VideoFrame):
            raise MediaError(f"{self.name} has no picture in it, or a damaged one; {_FIX}")
        return frame

    def of(self, name: int) -> np.ndarray:
        """Return the pixels of an item as stored, uint8 (H, W, 3)."""
        item = self.items[name]
        if item.kind in _CODED:
            return self.screen.seen(self.frames[name]).reformat(format="rgb24").to_ndarray()
        if item.kind != "grid":
            raise MediaError(f"{self.name} has a main picture of kind '{item.kind}', which is not read here; {_FIX}")
        _, flags, rows, columns = struct.unpack_from(">4B", item.content)
        width, height = struct.unpack_from(">II" if flags & 1 else ">HH", item.content, 4)
        # a grid of grids is none, and one of itself has no end
        tiles = [self.of(part) for part in item.parts if self.items[part].kind in _CODED]
        if len(tiles) != (rows + 1) * (columns + 1) or len({tile.shape for tile in tiles}) != 1:
            raise MediaError(f"{self.name} has {len(tiles)} tiles, not {rows + 1} x {columns + 1} of one size; {_FIX}")
        lines = [np.concatenate(tiles[at : at + columns + 1], 1) for at in range(0, len(tiles), columns + 1)]
        whole = np.concatenate(lines, 0)
        if height > whole.shape[0] or width > whole.shape[1] or not height * width:
            raise MediaError(f"{self.name} claims {height} x {width} pixels, its tiles have fewer; {_FIX}")
        return whole[:height, :width]


def _is_alpha(item: _Item) -> bool:
    return any(kind == "auxC" and content[4:].split(b"\0")[0].decode("latin-1") in _ALPHA
               for kind, content in item.properties)  # fmt: skip


def _orientation(item: _Item, name: str) -> Orientation:
    """Return what the properties of an item do to it, in their order."""
    found = Orientation()
    for kind, content in item.properties:
        if kind == "irot":
            found = found.then(Orientation(turns=content[0] & 3))
        elif kind == "imir":
            # 0 exchanges top and bottom, which is a mirror and half a turn
            found = found.then(Orientation(True, 0 if content[0] & 1 else 2))
        elif kind == "clap":
            raise MediaError(f"{name} is to be cropped when it is shown ('clap'), which is not done here; {_FIX}")
    return found


def _items_of(path: Path) -> tuple[dict[int, _Item], int] | None:
    """Read the items of a file and the id of the main one; None for a video and for what is no such file."""
    with open(path, "rb") as file:
        meta, at, size = b"", 0, path.stat().st_size
        while at + 8 <= size:
            file.seek(at)
            head = file.read(16)
            length, kind = struct.unpack_from(">I4s", head)
            header = 16 if length == 1 and len(head) == 16 else 8
            length = struct.unpack_from(">Q", head, 8)[0] if header == 16 else length or size - at
            if kind == b"moov" or length < header:
                return None
            if kind == b"meta" and length <= _LONGEST_META:
                file.seek(at + header)
                meta = file.read(length - header)
            at += length
    try:
        return _read_meta(meta, path) if meta else None
    except (struct.error, KeyError, IndexError):
        return None


def _read_meta(meta: bytes, path: Path) -> tuple[dict[int, _Item], int] | None:
    boxes = dict(_boxes(meta[4:]))
    if not {"pitm", "iinf", "iprp"} <= boxes.keys():
        return None
    main = _Fields(boxes["pitm"]).of_item()
    references = list(_references(boxes.get("iref", b"")))
    properties = _properties(boxes["iprp"])
    places = _places(boxes.get("iloc", b""))
    items = {}
    for name, kind in _kinds(boxes["iinf"]):
        named = {how: to for how, one, to in reversed(references) if one == name}
        parts, helps, multiplied = (named.get(how, ()) for how in ("dimg", "auxl", "prem"))
        content = _content(places, name, boxes.get("idat", b""), path) if kind == "grid" else b""
        items[name] = _Item(kind, parts, helps, multiplied, tuple(properties.get(name, ())), content)
    return (items, main) if main in items else None


def _boxes(content: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield (type, content) of boxes that follow each other."""
    at = 0
    while at + 8 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, at)
        if length < 8:
            return
        yield kind.decode("latin-1"), content[at + 8 : at + length]
        at += length


class _Fields:
    """Reads numbers one after the other from a box that begins with version and flags."""

    def __init__(self, content: bytes) -> None:
        self.content, self.at = content, 4
        self.version, self.flags = content[0], int.from_bytes(content[1:4])

    def number(self, n_bytes: int) -> int:
        """Return the next number; 0 of no bytes."""
        found = self.content[self.at : self.at + n_bytes]
        if len(found) < n_bytes:
            raise IndexError("a box ends too early")
        self.at += n_bytes
        return int.from_bytes(found)

    def of_item(self, *, wide_from: int = 1) -> int:
        """Return the next number that later versions write with four bytes and earlier ones with two."""
        return self.number(4 if self.version >= wide_from else 2)


def _kinds(content: bytes) -> Iterator[tuple[int, str]]:
    start = 6 if content[0] == 0 else 8
    for kind, entry in _boxes(content[start:]):
        if kind == "infe" and entry[0] >= 2:
            fields = _Fields(entry)
            name = fields.of_item(wide_from=3)
            fields.number(2)
            yield name, fields.number(4).to_bytes(4).decode("latin-1")


def _references(content: bytes) -> Iterator[tuple[str, int, tuple[int, ...]]]:
    """Yield (how, from, to)."""
    for kind, entry in _boxes(content[4:]):
        fields = _Fields(content[:4] + entry)
        name = fields.of_item()
        yield kind, name, tuple(fields.of_item() for _ in range(fields.number(2)))


def _properties(content: bytes) -> dict[int, list[tuple[str, bytes]]]:
    """Return the properties of each item in their order."""
    boxes = dict(_boxes(content))
    known = list(_boxes(boxes["ipco"]))
    fields = _Fields(boxes["ipma"])
    found: dict[int, list[tuple[str, bytes]]] = {}
    for _ in range(fields.number(4)):
        name = fields.of_item()
        wide = fields.flags & 1
        chosen = [fields.number(2) & 0x7FFF if wide else fields.number(1) & 0x7F for _ in range(fields.number(1))]
        found[name] = [known[index - 1] for index in chosen if 0 < index <= len(known)]
    return found


def _places(content: bytes) -> dict[int, tuple[bool, int, int]]:
    """Return of each item whether it lies in `idat`, where, and its length."""
    if not content:
        return {}
    fields, found = _Fields(content), {}
    sizes = fields.number(2)
    offset_size, length_size, base_size, index_size = (sizes >> shift & 15 for shift in (12, 8, 4, 0))
    for _ in range(fields.of_item(wide_from=2)):
        name = fields.of_item(wide_from=2)
        in_idat = fields.version > 0 and fields.number(2) & 15 == 1
        fields.number(2)
        base = fields.number(base_size)
        for _ in range(fields.number(2)):
            if fields.version > 0:
                fields.number(index_size)
            found[name] = (in_idat, base + fields.number(offset_size), fields.number(length_size))
    return found


def _content(places: Mapping[int, tuple[bool, int, int]], name: int, idat: bytes, path: Path) -> bytes:
    """Return the content of an item, which for a grid is a few bytes."""
    in_idat, at, length = places[name]
    if in_idat:
        return idat[at : at + length]
    with open(path, "rb") as file:
        file.seek(at)
        return file.read(min(length, 64))
