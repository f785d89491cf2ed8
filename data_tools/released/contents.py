"""The four files of an item, read and compared with each other (spec 1.2).

Letters: C channels, F H W the video latent grid, T target and R reference audio tokens, M frequency bins, L text
tokens, D1 D2 text widths.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from torch import Tensor

from data_tools.released.layout import KINDS, Item
from data_tools.released.pt_files import PtFile, RefusedFileError

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
