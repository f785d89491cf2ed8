"""How a voice reference enters the sequence: the recipe that training and sampling share."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import get_args

import torch
from torch import Tensor

from idlora_pl.method.positions import AudioGrid, Placement, Precision, place_reference
from idlora_pl.method.tokens import AVSequence, HiddenText, TextContext, Tokens

_PREFIX = "in_context."
_ADDED = {"positions": "float32"}  # entries that older adapters lack, and what those adapters were trained with


@dataclass(frozen=True)
class InContext:
    """The recipe of an in-context sequence; it is stored inside the adapter file.

    Attributes:
        placement: where the reference sits on the time axis.
        video_sees_reference: whether video tokens attend to the reference.
        reference_sees_text: whether reference tokens attend to the prompt.
        hidden_text: what a reference token gets instead of the prompt, "nothing" or "uniform".
        positions: in what positions are computed; "bfloat16" is what the authors' trainer does, "mixed" what their
            inference scripts do.

    Example:
        >>> InContext(placement="shared").to_metadata()["in_context.placement"]
        'shared'
    """

    placement: Placement = "negative"
    video_sees_reference: bool = False
    reference_sees_text: bool = False
    hidden_text: HiddenText = "nothing"
    positions: Precision = "float32"

    def __post_init__(self) -> None:
        """Refuse a value that is no choice."""
        for name, kind in {"placement": Placement, "hidden_text": HiddenText, "positions": Precision}.items():
            if getattr(self, name) not in get_args(kind):
                raise ValueError(f"{name} must be one of {', '.join(get_args(kind))}; got {getattr(self, name)!r}")

    def assemble(
        self, video: Tokens, audio: Tokens, text: TextContext, reference: Tensor | None, grid: AudioGrid
    ) -> AVSequence:
        """Put the reference in front of the target audio (ID-LoRA, in-context conditioning, Eq. ?).

        Args:
            video: target video tokens.
            audio: target audio tokens, without a reference.
            text: the prompt.
            reference: (B, R, C) clean audio tokens of the voice, or None for no voice.
            grid: positions of audio tokens, `model.geometry.audio`.

        Returns:
            The sequence [reference | target]; reference tokens are clean, positions rounded as the recipe says.
        """
        if audio.n_reference:
            raise ValueError(f"audio already holds {audio.n_reference} reference tokens; pass audio.target()")
        if self.positions != "float32":
            video = replace(video, positions=video.positions.bfloat16())
        if self.positions == "bfloat16":
            audio = replace(audio, positions=audio.positions.bfloat16())
        if reference is not None:
            audio = self._concatenate(reference, audio, grid)
        return AVSequence(video, audio, text, self.video_sees_reference, self.reference_sees_text, self.hidden_text)

    def _concatenate(self, reference: Tensor, audio: Tokens, grid: AudioGrid) -> Tokens:
        batch, n_reference, _ = reference.shape
        own = grid.positions(n_reference).to(audio.positions)
        if self.positions == "mixed":
            own = own.bfloat16()
        target_end_s = float(audio.positions[..., 1].max())
        placed = place_reference(own, self.placement, grid.token_seconds, target_end_s)
        clean = torch.ones(batch, n_reference, dtype=torch.bool, device=audio.clean.device)
        return Tokens(
            latents=torch.cat([reference.to(audio.latents), audio.latents], dim=1),
            positions=torch.cat([placed.to(audio.positions).expand(batch, -1, -1, -1), audio.positions], dim=2),
            clean=torch.cat([clean, audio.clean], dim=1),
            n_reference=n_reference,
        )

    def to_metadata(self) -> dict[str, str]:
        """The recipe as entries of a safetensors header."""
        return {_PREFIX + field.name: str(getattr(self, field.name)).lower() for field in fields(self)}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> "InContext":
        """Read the recipe back from an adapter's metadata; entries of other owners are ignored.

        Adapters without an entry for positions are older than it and were trained with float32.

        Raises:
            ValueError: when an entry is missing, unknown or holds no value that the recipe knows.
        """
        names = [field.name for field in fields(cls)]
        own = {key: value for key, value in metadata.items() if key.startswith(_PREFIX)}
        found = _ADDED | {key.removeprefix(_PREFIX): value for key, value in own.items()}
        missing, unknown = set(names) - set(found), set(found) - set(names)
        if missing or unknown:
            raise ValueError(
                f"adapter metadata misses {sorted(missing)} and has unknown {sorted(unknown)} under "
                f"'{_PREFIX}'; pass an InContext by hand for an adapter that idlora_pl did not write"
            )
        flags = ("video_sees_reference", "reference_sees_text")
        read = {name: _read_flag(name, found[name]) for name in flags}
        return cls(**{**found, **read})  # type: ignore[arg-type]


def _read_flag(name: str, text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError(f"adapter metadata '{_PREFIX}{name}' must be true or false; got {text!r}")
    return text == "true"
