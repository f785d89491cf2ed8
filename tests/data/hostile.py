"""Shards that somebody broke or built to do harm: one good pair, and then the fault."""

import io
import json
import struct
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from safetensors.torch import save

from idlora_pl.data.samples import META_FILE, TENSORS_FILE, PairSample, encode_sample

GOOD, BAD = "good", "bad"


@dataclass(frozen=True)
class Hostile:
    """Bytes of a tar whose pair "bad" cannot be read, and what the reason must say."""

    name: str
    tar: bytes
    says: str


Files = dict[str, bytes]


def member(name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, **fields) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size, info.type = len(content) if kind == tarfile.REGTYPE else 0, kind
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def packed(*members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=form) as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return target.getvalue()


def pair(key: str, files: Files) -> list[tuple[tarfile.TarInfo, bytes]]:
    return [member(f"{key}.{suffix}", content) for suffix, content in files.items()]


def hostile_members(good: Files, bad: Files) -> Iterator[Hostile]:
    """An extra member, before or inside the pair that follows."""
    extras = {
        "up": (member("../evil.meta.json", b"{}"), "points outside the tar"),
        "far up": (member("../../../../tmp/evil", b"x"), "points outside the tar"),
        "up inside": (member(f"a/../../{BAD}.meta.json", b"{}"), "points outside the tar"),
        "only up": (member("..", b"x"), "points outside the tar"),
        "absolute": (member("/tmp/evil.meta.json", b"{}"), "points outside the tar"),
        "absolute passwd": (member("/etc/passwd", b"root"), "points outside the tar"),
        "backslash": (member("..\\evil.meta.json", b"{}"), "no file of a pair"),
        "drive": (member("C:\\evil.meta.json", b"{}"), "no file of a pair"),
        "dot": (member(f"./{BAD}.meta.json", b"{}"), "no file of a pair"),
        "folder name": (member(f"sub/{BAD}.meta.json", b"{}"), "no file of a pair"),
        "unknown key": (member("other.meta.json", b"{}"), "no file of a pair"),
        "no name": (member("", b"{}"), "no file of a pair"),
        "pickle": (member(f"{BAD}.pyd", b"cos\nsystem\n(S'true'\ntR."), "no file of a pair"),
        "pickled weights": (member(f"{BAD}.pth", b"\x80\x04."), "no file of a pair"),
        "script": (member(f"{BAD}.py", b"raise SystemExit"), "no file of a pair"),
        "upper case": (member(f"{BAD}.META.JSON", b"{}"), "no file of a pair"),
        "new line": (member("a\nTraceback: b", b"{}"), "no file of a pair"),
        "escape codes": (member("\x1b[2Ja", b"{}"), "no file of a pair"),
        "not utf-8": (member("\udcff\udcfe", b"{}"), "no file of a pair"),
        "long name": (member("n" * 5000, b"{}"), "no file of a pair"),
        "long way up": (member("../" * 2000 + "evil", b"{}"), "points outside the tar"),
        "symlink": (member(f"{BAD}.{META_FILE}", kind=tarfile.SYMTYPE, linkname="/etc/passwd"), "is a link"),
        "symlink up": (member("x", kind=tarfile.SYMTYPE, linkname="../../x"), "is a link"),
        "hard link": (member(f"{BAD}.{META_FILE}", kind=tarfile.LNKTYPE, linkname=f"{GOOD}.{META_FILE}"), "is a link"),
        "folder": (member(f"{BAD}.{META_FILE}", kind=tarfile.DIRTYPE), "is a folder"),
        "pipe": (member(f"{BAD}.{META_FILE}", kind=tarfile.FIFOTYPE), "is a device"),
        "character device": (member(f"{BAD}.{META_FILE}", kind=tarfile.CHRTYPE, devmajor=1, devminor=5), "is a device"),
        "block device": (member(f"{BAD}.{META_FILE}", kind=tarfile.BLKTYPE, devmajor=8), "is a device"),
        "twice": (member(f"{GOOD}.{META_FILE}", good[META_FILE]), "twice"),
        "tensors twice": (member(f"{GOOD}.{TENSORS_FILE}", good[TENSORS_FILE]), "twice"),
    }
    for name, (extra, says) in extras.items():
        first, second = pair(BAD, bad)
        yield Hostile(f"{name}, before", packed(*pair(GOOD, good), extra, first, second), says)
        yield Hostile(f"{name}, inside", packed(*pair(GOOD, good), first, extra, second), says)


def broken_tars(good: Files, bad: Files) -> Iterator[Hostile]:
    """Tars that are cut, overwritten or none at all."""
    whole = packed(*pair(GOOD, good), *pair(BAD, bad))
    half = packed(*pair(GOOD, good))
    begin = len(half.rstrip(b"\0")) // 512 * 512 + 512
    for where in (begin, begin + 1, begin + 200, begin + 511, begin + 512, begin + 513, begin + 700, begin + 900):
        yield Hostile(f"cut at {where}", whole[:where], "(ends|end of|truncated|not in the tar)")
    yield Hostile("empty", b"", "empty file")
    yield Hostile("only zeros", b"\0" * 10240, "not in the tar")
    yield Hostile("one byte", b"x", "truncated header")
    yield Hostile("text", b"this is no tar at all\n" * 200, "(invalid|bad checksum)")
    yield Hostile("png", b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 40, "(invalid|bad checksum)")
    yield Hostile("html of an error page", b"<!doctype html><title>404</title>" * 100, "(invalid|bad checksum)")
    yield Hostile("gzip", b"\x1f\x8b\x08" + b"\0" * 2000, "(invalid|bad checksum)")
    yield Hostile("zeros instead of the pair", whole[:begin] + b"\0" * (len(whole) - begin), "not in the tar")
    yield Hostile("noise instead of the pair", whole[:begin] + b"\xa5" * 4096, "not in the tar")
    yield Hostile("without the pair", half, "not in the tar")
    yield Hostile("without its meta", packed(*pair(GOOD, good), pair(BAD, bad)[0]), "not in the tar")
    yield Hostile("without its tensors", packed(*pair(GOOD, good), pair(BAD, bad)[1]), "not in the tar")
    for name, size in (
        ("huge", b"\x80" + b"\0" * 3 + b"\x7f" * 8),
        ("negative", b"\xff" * 12),
        ("octal", b"77777777777\0"),
    ):
        yield Hostile(
            f"{name} size", resized(half[:begin], pair(BAD, bad)[0][0], size), "(claims|end of|not in the tar|ends)"
        )
    sparse = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "9" * 15}
    info, content = pair(BAD, bad)[0]
    info.pax_headers = sparse | {"GNU.sparse.name": info.name}
    yield Hostile(
        "sparse", packed(*pair(GOOD, good), (info, b"1\n0\n1\n" + content)), "(no ordinary file|ends|invalid)"
    )
    info, content = pair(BAD, bad)[0]
    info.pax_headers = {"size": "9" * 30}
    yield Hostile("pax size", packed(*pair(GOOD, good), (info, content)), "(claims|end of|ends|invalid|too large)")
    nested = b"".join(longname() for _ in range(3000))
    yield Hostile("nested long names", half[:begin] + nested, "(recursion|ends|end of|not in the tar|header)")


def resized(start: bytes, info: tarfile.TarInfo, size: bytes) -> bytes:
    """Append a header that claims another size."""
    header = bytearray(info.tobuf(tarfile.USTAR_FORMAT)[:512])
    header[124:136] = size
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return start + bytes(header) + b"x" * 1024


def longname() -> bytes:
    info, _ = member("././@LongLink", b"abc\0", kind=tarfile.GNUTYPE_LONGNAME, size=4)
    return info.tobuf(tarfile.GNU_FORMAT)[:512] + b"abc\0" + b"\0" * 508


def header_of(entries: dict, length: int | None = None, data: bytes = b"") -> bytes:
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def bad_tensors(sample: PairSample) -> Iterator[tuple[str, bytes, str]]:
    """Files in the place of a safetensors file."""
    whole = encode_sample(sample)[TENSORS_FILE]
    n_header = int.from_bytes(whole[:8], "little")
    entries = json.loads(whole[8 : 8 + n_header])
    data = whole[8 + n_header :]

    def changed(name: str, **values) -> bytes:
        return header_of(entries | {name: entries[name] | values}, data=data)

    for length in (2**64 - 1, 2**63, 2**40, 10**8, len(whole), 0):
        yield f"header of {length} bytes", struct.pack("<Q", length) + whole[8:], "(claims|not JSON|Expecting)"
    yield "no bytes", b"", "claims"
    yield "seven bytes", b"\0" * 7, "claims"
    yield "one byte short", whole[:-1], "end at byte"
    yield "one byte more", whole + b"\0", "end at byte"
    yield "a pickle", b"\x80\x04\x95" + b"." * 200, "claims"
    yield "header no JSON", struct.pack("<Q", 4) + b"{{{{", "Expecting"
    yield "header a list", header_of([]), "no JSON object"  # type: ignore[arg-type]
    yield "header nested", struct.pack("<Q", 200_000) + b"[" * 200_000, "nested too deeply"
    yield "header not utf-8", struct.pack("<Q", 4) + b"\xff\xff\xff\xff", "decode"
    yield "a tensor is a number", header_of(entries | {"reference": 1}, data=data), "no dtype, shape"
    yield "unknown dtype", changed("reference", dtype="PICKLE"), "unknown dtype"
    yield "dtype a list", changed("reference", dtype=[]), "unknown dtype"
    yield "negative shape", changed("reference", shape=[-1, 5, 4]), "unusable shape"
    yield "shape of floats", changed("reference", shape=[2.0, 5, 4]), "unusable shape"
    yield "shape of truths", changed("reference", shape=[True, 5, 4]), "unusable shape"
    yield "shape too large", changed("reference", shape=[2**61, 5, 4]), "does not fit"
    yield "shape endless", changed("reference", shape=[2**200]), "unusable shape"
    yield "too many axes", changed("reference", shape=[1] * 5000 + [2, 5, 4]), "unusable shape"
    n_audio = 4 * sample.target_audio.numel()
    yield "offsets overlap", changed("target_audio", data_offsets=[0, n_audio]), "does not fit"
    yield "offsets swapped", changed("reference", data_offsets=[160, 0]), "does not fit"
    yield "offsets outside", changed("reference", data_offsets=[2**50, 2**50 + 160]), "does not fit"
    yield "offsets one", changed("reference", data_offsets=[0]), "unusable shape"
    entry = json.dumps(entries["reference"]).encode()
    twice = whole[8 : 8 + n_header].rstrip()[:-1] + b', "reference": ' + entry + b"}"
    yield "twice in the header", struct.pack("<Q", len(twice)) + twice + data, "twice"


def bad_samples(sample: PairSample) -> Iterator[tuple[str, PairSample, str]]:
    """Samples that are well formed and do not belong in this set."""
    for name in ("target_video", "target_audio", "reference"):
        tensor = getattr(sample, name)
        yield f"{name} longer", replace(sample, **{name: torch.cat([tensor, tensor], 1)}), "shard set has"
        yield f"{name} flat", replace(sample, **{name: tensor.flatten()}), "shard set has"
        yield f"{name} in float64", replace(sample, **{name: tensor.double()}), "in float64, shard set has"
    for values in ({"target_tokens": 7}, {"target_tokens": 0}, {"reference_tokens": "5"}, {"reference_tokens": True}):
        yield f"meta says {values}", replace(sample, meta=dict(sample.meta) | values), "expected 1 to"
    yield "another key", replace(sample, meta={"key": "../evil"}), "says that it is"
    yield "no key", replace(sample, meta={"speaker": "s"}), "no JSON object with a key"
    yield "key a number", replace(sample, meta={"key": 5}), "no JSON object with a key"


BAD_META = {
    "empty": b"",
    "not JSON": b"{'key': 1}",
    "not utf-8": b'{"key": "\xff"}',
    "a list": b"[]",
    "null": b"null",
    "nested": b"[" * 100_000,
    "long number": b"9" * 10_000,
    "cut": b'{"key": "ba',
    "python": b"__import__('os').system('true')",
}


def hostile_shards(make_sample: Callable[..., PairSample]) -> list[Hostile]:
    """All of them."""
    good_sample = replace(make_sample(0), meta={"key": GOOD, "speaker": "s"})
    sample = replace(make_sample(1), meta={"key": BAD, "speaker": "s"})
    good, bad = encode_sample(good_sample), encode_sample(sample)
    found = [*hostile_members(good, bad), *broken_tars(good, bad)]

    def with_bad(name: str, files: Files, says: str) -> Hostile:
        return Hostile(name, packed(*pair(GOOD, good), *pair(BAD, files)), says)

    for name, content, says in bad_tensors(sample):
        found.append(with_bad(f"tensors: {name}", bad | {TENSORS_FILE: content}, says))
    found += [with_bad(f"sample: {name}", encode_sample(other), says) for name, other, says in bad_samples(sample)]
    found += [
        with_bad(f"meta: {name}", bad | {META_FILE: text}, "(not JSON|no JSON|nested)")
        for name, text in BAD_META.items()
    ]
    without = {name: value for name, value in sample.tensors().items() if name != "target_audio"}
    found.append(with_bad("a tensor is missing", bad | {TENSORS_FILE: save(without)}, "lacks 'target_audio'"))
    found.append(with_bad("meta too large", bad | {META_FILE: b" " * (1 << 21)}, "claims 2097152 bytes"))
    found.append(with_bad("tensors too large", bad | {TENSORS_FILE: b" " * (1 << 21)}, "claims 2097152 bytes"))
    return found
