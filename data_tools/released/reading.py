"""The .pt files of the authors' layout: loaded without running anything in them; the four of an item compared (1.2).

Letters: C channels, F H W the video latent grid, T target and R reference audio tokens, M frequency bins, L text
tokens, D1 D2 text widths.
"""

import io
import math
import pickle
import re
import struct
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from data_tools.released.layout import KINDS, Item
from data_tools.verb.lists import RejectedError

_PRECISIONS = (torch.bfloat16, torch.float16, torch.float32, torch.float64)
_AGAIN = "copy it again or make it again"
_CODE = re.compile(r"nsupported (?:global: )?GLOBAL (\S+)|nsupported class (\S+)")
_ADVICE = ("Weights only load failed", "In PyTorch", "Please file", "Check the doc")
# What torch.load raises for bytes that are no such file; tests change bytes of real ones to look for others.
_BROKEN = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
    struct.error,
    zipfile.BadZipFile,
)


class RefusedFileError(RejectedError):
    """A file because of which an item is left out."""

    def __init__(self, reason: str, detail: str, file: str) -> None:
        """Keep reason, sentence and file."""
        super().__init__(reason, detail)
        self.file = file


@dataclass(frozen=True)
class PtFile:
    """The dict that a .pt file holds.

    Attributes:
        values: its content.
        shown: how reports call the file.
    """

    values: Mapping[str, Any]
    shown: str

    @classmethod
    def read(cls, path: Path, shown: str) -> "PtFile":
        """Load a file.

        Raises:
            RefusedFileError: when it cannot be read (unreadable), asks for code to be run (forbidden_pickle), or
                holds no dict (wrong_keys).
        """
        try:
            content = path.read_bytes()
            _refuse_changed_bytes(content)
            with warnings.catch_warnings(action="ignore"):  # about changed pickles; they end in an error anyway
                values = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        except _BROKEN as error:
            code = _CODE.search(str(error)) if isinstance(error, pickle.UnpicklingError) else None
            if code is not None:
                detail = f"{shown} asks for {code[1] or code[2]}, which is code and no data; do not load it"
                raise RefusedFileError("forbidden_pickle", detail, shown) from error
            cause = _cause(error)
            raise RefusedFileError("unreadable", f"{shown} cannot be read ({cause}); {_AGAIN}", shown) from error
        if not isinstance(values, dict):
            detail = f"{shown} holds a {type(values).__name__}, a dict with 'latents' or prompt features is needed"
            raise RefusedFileError("wrong_keys", f"{detail}; {_AGAIN}", shown)
        return cls(values, shown)

    def refused(self, reason: str, what: str) -> RefusedFileError:
        """Return the error for something wrong with this file."""
        return RefusedFileError(reason, f"{self.shown} {what}; {_AGAIN}", self.shown)

    def tensor(self, key: str, n_axes: tuple[int, ...]) -> Tensor:
        """Return a floating-point tensor that is finite and has one of the numbers of axes.

        Raises:
            RefusedFileError: wrong_keys, wrong_dtype, wrong_shape or not_finite.
        """
        tensor = self._any_tensor(key, n_axes)
        if tensor.dtype not in _PRECISIONS:
            raise self.refused("wrong_dtype", f"has '{key}' in {_short(tensor.dtype)}, floating point is needed")
        # the extremes of a tensor with NaN are NaN; looking at them alone takes a fifth of the time
        if tensor.numel() and not torch.isfinite(torch.stack(tensor.aminmax()).float()).all():
            n_bad = int((~torch.isfinite(tensor.float())).sum())
            raise self.refused("not_finite", f"has {n_bad} values in '{key}' that are not finite in float32")
        return tensor

    def mask(self, key: str, length: int) -> Tensor:
        """Return a mask (L,) as bool: padding first, then at least one token.

        Raises:
            RefusedFileError: wrong_keys, wrong_dtype, wrong_shape or wrong_mask.
        """
        tensor = self._any_tensor(key, (1,))
        if tensor.dtype.is_floating_point or tensor.dtype.is_complex:
            raise self.refused("wrong_dtype", f"has '{key}' in {_short(tensor.dtype)}, whole numbers are needed")
        if tensor.shape[0] != length:
            raise self.refused("wrong_shape", f"has '{key}' of {tensor.shape[0]} tokens beside features of {length}")
        values = tensor.long()
        if not bool(((values == 0) | (values == 1)).all()) or bool((values.diff() < 0).any()) or not bool(values.any()):
            raise self.refused("wrong_mask", f"has '{key}' that is not zeros for the padding followed by ones")
        return values.bool()

    def number(self, key: str) -> float | None:
        """Return a number, None when the key is missing.

        Raises:
            RefusedFileError: wrong_keys when it is something else.
        """
        value = self.values.get(key)
        if isinstance(value, Tensor) and value.numel() == 1 and value.device.type == "cpu":
            value = value.item()
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise self.refused("wrong_keys", f"has '{key}' {value!r:.40}, a number is needed")
        return value

    def _any_tensor(self, key: str, n_axes: tuple[int, ...]) -> Tensor:
        if key not in self.values:
            has = ", ".join(sorted(map(str, self.values))[:8]) or "nothing"
            raise self.refused("wrong_keys", f"has no '{key}' (it has {has})")
        value = self.values[key]
        if not isinstance(value, Tensor) or value.layout is not torch.strided or value.device.type != "cpu":
            raise self.refused("wrong_keys", f"has '{key}' that is no plain tensor but {type(value).__name__}")
        if value.is_quantized:
            raise self.refused("wrong_dtype", f"has '{key}' in {_short(value.dtype)}, floating point is needed")
        if value.ndim not in n_axes:
            wanted = " or ".join(map(str, n_axes))
            raise self.refused("wrong_shape", f"has '{key}' of shape {tuple(value.shape)}, {wanted} axes are needed")
        if value.untyped_storage().nbytes() < value.numel() * value.element_size():
            raise self.refused("wrong_shape", f"has '{key}' of shape {tuple(value.shape)} but fewer values stored")
        return value.detach()


def _refuse_changed_bytes(content: bytes) -> None:
    """Raise ValueError when a checksum inside the file differs; torch.load does not compare them."""
    if zipfile.is_zipfile(io.BytesIO(content)):
        with zipfile.ZipFile(io.BytesIO(content)) as parts:
            wrong = parts.testzip()
        if wrong is not None:
            raise ValueError(f"its part {wrong} has another checksum than was stored")


def _cause(error: BaseException) -> str:
    """Return what went wrong in one line, without torch's advice to load the file in the unsafe way."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip() and not line.startswith(_ADVICE)]
    return lines[0].rstrip(".") if lines else type(error).__name__


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


Layout = Literal["single", "two"]
_GRID_KEYS = ("num_frames", "height", "width")


@dataclass(frozen=True, eq=False)
class Contents:
    """What the files of one item hold.

    Attributes:
        video: (C, F, H, W) latents.
        audio: (C, T, M) latents of the target's sound.
        reference: (C, R, M) latents of the voice.
        text: (L, D1) features for video and (L, D2) for audio; the same tensor where the file has one.
        mask: (L,) bool, True = token, padding first.
        layout: whether the text has one tensor for both modalities, or two.
        fps: frames per second as the file says; None where it does not.
        unpatchified: whether the video was stored as (F*H*W, C), as old caches do.
    """

    video: Tensor
    audio: Tensor
    reference: Tensor
    text: tuple[Tensor, Tensor]
    mask: Tensor
    layout: Layout
    fps: float | None
    unpatchified: bool

    def facts(self) -> "Facts":
        """Return shapes, precisions and rate."""
        tensors = (self.video, self.audio, self.reference, *self.text)
        return Facts(
            grid=tuple(self.video.shape),
            audio=(self.audio.shape[0], self.audio.shape[2]),
            target_tokens=self.audio.shape[1],
            reference_tokens=self.reference.shape[1],
            fps=self.fps,
            text=(self.layout, *self.text[0].shape, self.text[1].shape[1]),
            precisions=tuple(str(tensor.dtype).removeprefix("torch.") for tensor in tensors),
            unpatchified=self.unpatchified,
        )


@dataclass(frozen=True)
class Facts:
    """What the rules of a set need to know of an item.

    Attributes:
        grid: (C, F, H, W) of the video.
        audio: (C, M) of both sounds.
        target_tokens: T.
        reference_tokens: R.
        fps: frames per second; None where the file does not say.
        text: (layout, L, D1, D2).
        precisions: of video, audio, reference and the two texts, such as "bfloat16".
        unpatchified: whether the video was stored as (F*H*W, C).
    """

    grid: tuple[int, ...]
    audio: tuple[int, int]
    target_tokens: int
    reference_tokens: int
    fps: float | None
    text: tuple[str | int, ...]
    precisions: tuple[str, ...]
    unpatchified: bool

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Facts":
        """Return what `to_json` wrote."""
        given: dict[str, Any] = {k: tuple(value) if isinstance(value, list) else value for k, value in values.items()}
        return cls(**given)


def read_contents(item: Item) -> Contents:
    """Read and check the files of an item.

    Raises:
        RefusedFileError: with the reason and the file.
    """
    missing = [kind for kind in KINDS if kind not in item.files]
    if missing:
        there = ", ".join(item.shown[kind] for kind in KINDS if kind in item.shown)
        lacking = " and ".join("reference_audio_latents" if kind == "reference" else kind for kind in missing)
        raise RefusedFileError("missing_file", f"{there}: no file of that name in {lacking}; add it", there)
    files = {kind: PtFile.read(item.files[kind], item.shown[kind]) for kind in KINDS}
    video, fps, unpatchified = _video(files["latents"])
    audio, reference = _audio(files["audio_latents"]), _audio(files["reference"])
    if audio.shape[::2] != reference.shape[::2]:
        shapes = f"of shape {tuple(reference.shape)}, those of the target's sound have {tuple(audio.shape)}"
        raise files["reference"].refused("wrong_shape", f"has latents {shapes}")
    text, mask, layout = _text(files["conditions"])
    return Contents(video, audio, reference, text, mask, layout, fps, unpatchified)


def _video(file: PtFile) -> tuple[Tensor, float | None, bool]:
    """Return (C, F, H, W) latents, the rate, and whether they were stored as (F*H*W, C)."""
    latents = file.tensor("latents", (2, 4))
    said = [file.number(key) for key in _GRID_KEYS]
    fps = file.number("fps")
    if fps is not None and fps <= 0:
        raise file.refused("wrong_keys", f"has 'fps' {fps:g}, a positive rate is needed")
    unpatchified = latents.ndim == 2
    if unpatchified:
        grid = [int(size) for size in said if size is not None and size >= 1 and size == int(size)]
        if len(grid) < 3:
            raise file.refused("wrong_keys", f"has flat latents and no whole numbers in {', '.join(_GRID_KEYS)}")
        if grid[0] * grid[1] * grid[2] != latents.shape[0]:
            raise file.refused(
                "wrong_shape", f"has {latents.shape[0]} video tokens and says {'x'.join(map(str, grid))}"
            )
        latents = latents.reshape(*grid, latents.shape[1]).permute(3, 0, 1, 2)
    wrong = [size for size, real in zip(said, latents.shape[1:], strict=True) if size not in (None, real)]
    if wrong or 0 in latents.shape:
        sizes = ", ".join(f"{key} {size}" for key, size in zip(_GRID_KEYS, said, strict=True))
        raise file.refused("wrong_shape", f"has latents of shape {tuple(latents.shape)} and says {sizes}")
    return latents, fps, unpatchified


def _audio(file: PtFile) -> Tensor:
    """Return (C, T, M) latents."""
    latents = file.tensor("latents", (3,))
    duration_s, said = file.number("duration"), file.number("num_time_steps")
    if 0 in latents.shape or (duration_s is not None and duration_s <= 0):
        raise file.refused("empty_audio", f"has latents of shape {tuple(latents.shape)} and duration {duration_s}")
    if said not in (None, latents.shape[1]):
        raise file.refused("wrong_shape", f"has {latents.shape[1]} audio tokens and says num_time_steps {said:g}")
    if file.number("frequency_bins") not in (None, latents.shape[2]):
        raise file.refused("wrong_shape", f"has {latents.shape[2]} frequency bins and says another number")
    return latents


def _text(file: PtFile) -> tuple[tuple[Tensor, Tensor], Tensor, Layout]:
    """Return features for both modalities, the mask and the layout; old caches have one tensor for both."""
    layout: Layout = "two" if {"video_prompt_embeds", "audio_prompt_embeds"} & set(file.values) else "single"
    keys = ("video_prompt_embeds", "audio_prompt_embeds") if layout == "two" else ("prompt_embeds",)
    found = [file.tensor(key, (2,)) for key in keys]
    text = found[0], found[-1]
    if text[0].shape[0] != text[1].shape[0] or 0 in (*text[0].shape, *text[1].shape):
        shapes = " and ".join(str(tuple(part.shape)) for part in text)
        raise file.refused("wrong_shape", f"has text features of shape {shapes}")
    return text, file.mask("prompt_attention_mask", text[0].shape[0]), layout
