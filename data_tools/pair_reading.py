"""Read what encode_clips encodes: rows with the frames and sounds of their files, a group at a time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.utils.data import DataLoader, get_worker_info

from data_tools.verb.lists import RejectedError, Row, located
from idlora_pl.data.share import OwnShare
from idlora_pl.media import read_audio, read_clip
from idlora_pl.media.sound import UnusableSoundError, audible

SAMPLE_RATE_HZ = 16000
FAULTS = (ValueError, OSError, ArithmeticError, MemoryError, EOFError)
"""What reading a damaged or hostile file may end with; `MediaError` is a ValueError."""


@dataclass(frozen=True)
class Lengths:
    """What all samples share.

    Attributes:
        frame_rate_fps: of the targets.
        n_frames: of every target.
        reference_s: seconds of every reference.
        token_s: seconds of one audio token.
    """

    frame_rate_fps: float
    n_frames: int
    reference_s: float
    token_s: float


class ReadPair:
    """A row with what its files hold, or why they cannot be used; a plain object, which Lightning leaves on the CPU."""

    def __init__(self, row: Row, pairs: Path, lengths: Lengths) -> None:
        self.row = row
        self.rejected: Row | None = None
        try:
            if row["n_frames"] < lengths.n_frames:
                raise RejectedError("too_short", f"{row['n_frames']} frames, {lengths.n_frames} are needed")
            self.frames, self.sound = _target(located(pairs, row["target"]), lengths)
            self.voice, self.voice_rate_hz = _voice(located(pairs, row["reference"]), lengths)
        except RejectedError as error:
            self.rejected = {"key": row["key"], "reason": error.reason, "detail": error.detail}


def _target(path: Path, lengths: Lengths) -> tuple[Tensor, Tensor]:
    """Read frames uint8 (F, 3, H, W) and sound (channels, S) of a target."""
    try:
        clip = read_clip(
            path,
            frame_rate_fps=lengths.frame_rate_fps,
            n_frames=lengths.n_frames,
            sample_rate_hz=SAMPLE_RATE_HZ,
        )
    except FAULTS as error:
        raise _rejected(error) from error
    return clip.frames, clip.waveform


def _voice(path: Path, lengths: Lengths) -> tuple[Tensor, int]:
    """Read the first `reference_s` of a voice (channels, S).

    A track that ends up to one token early, as in compressed files, is continued with silence.
    """
    try:
        voice, rate_hz = read_audio(path)
    except FAULTS as error:
        raise _rejected(error) from error
    wanted, got = round(lengths.reference_s * rate_hz), voice.shape[1]
    if got < wanted - lengths.token_s * rate_hz:
        detail = f"{path.name} lasts {got / rate_hz:.2f} s of {lengths.reference_s:.2f} s"
        raise RejectedError("reference_too_short", detail)
    try:
        audible(voice[:, :wanted], path.name)
    except UnusableSoundError as error:
        raise _rejected(error) from error
    return nn.functional.pad(voice[:, :wanted], (0, max(0, wanted - got))), rate_hz


def _rejected(error: Exception) -> RejectedError:
    reason = error.reason if isinstance(error, UnusableSoundError) else "unreadable"
    return RejectedError(reason, str(error) or type(error).__name__)


class ReadGroups(OwnShare):
    """Groups of rows, read from disk; shared out among ranks and, within a rank, among reading processes."""

    def __init__(self, groups: Sequence[Sequence[Row]], pairs: Path, lengths: Lengths) -> None:
        super().__init__(groups)
        self.pairs, self.lengths = pairs, lengths

    def __iter__(self) -> Iterator[list[ReadPair]]:
        """Yield the groups of this process."""
        info = get_worker_info()
        own = self._own()[info.id :: info.num_workers] if info else self._own()
        for group in own:
            yield [ReadPair(row, self.pairs, self.lengths) for row in group]


def group_loader(groups: Sequence[Sequence[Row]], pairs: Path, lengths: Lengths, n_workers: int) -> DataLoader[Any]:
    """Return the loader of groups."""
    return DataLoader(ReadGroups(groups, pairs, lengths), batch_size=None, num_workers=n_workers)
