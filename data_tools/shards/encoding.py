"""Read and encode groups of pairs inside a Lightning module, so that one command runs on a CPU, GPUs and under SLURM.

A group is a fixed part of the list. It is encoded together or not at all, because the numbers that a network gives may
depend on what else is in the batch; so a run that was interrupted gives the same bytes as one that was not.
Letters: B pairs, C channels, R reference steps, M frequency bins, S samples.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import BasePredictionWriter
from torch import Tensor, nn
from torch.utils.data import DataLoader, get_worker_info

from data_tools.shards.sample_folder import remove_sample, write_sample
from data_tools.verb.ledger import Ledger
from data_tools.verb.lists import RejectedError, Row, located
from idlora_pl.data.samples import PairSample
from idlora_pl.distributed import OwnShare
from idlora_pl.generation.base_model import ClipCodecs, PromptEncoder
from idlora_pl.media.reading import read_audio, read_clip
from idlora_pl.media.sound import UnusableSoundError, audible
from idlora_pl.method.tokens import TextFeatures

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


class EncodeClips(L.LightningModule):
    """Codecs and text encoder as a module whose `predict_step` encodes one group.

    Args:
        codecs: clip <-> latents.
        text: prompt -> features.
        n_frames: frames of every target.
        dtype: of video latents and text features; audio latents stay float32.
    """

    def __init__(self, codecs: ClipCodecs, text: PromptEncoder, n_frames: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.codecs, self.text, self.n_frames, self.stored = codecs, text, n_frames, dtype
        self.known: dict[str, TextFeatures | str] = {}

    def on_predict_start(self) -> None:
        """Give weights on the CPU memory of their own; where they lie decides the last bits of what is encoded."""
        if self.device.type == "cpu":
            for part in (self.codecs, self.text):
                if isinstance(part, nn.Module):
                    take_own_memory(part)

    def predict_step(self, batch: list[ReadPair], batch_idx: int) -> list[PairSample]:
        """Encode the usable pairs of a group."""
        features = self._features([pair.row["prompt"] for pair in batch if pair.rejected is None])
        for pair in batch:
            said = features.get(pair.row["prompt"])
            if pair.rejected is None and isinstance(said, str):
                pair.rejected = {"key": pair.row["key"], "reason": "bad_prompt", "detail": said}
        pairs = [pair for pair in batch if pair.rejected is None]
        n_tokens = self.codecs.n_audio_tokens(self.n_frames)
        videos = together([pair.frames for pair in pairs], self.codecs.encode_video)
        sounds = together(
            [pair.sound for pair in pairs],
            lambda sound: self.codecs.encode_audio(sound, SAMPLE_RATE_HZ, n_tokens=n_tokens),
        )
        voices: list[Tensor] = [torch.empty(0)] * len(pairs)
        for rate_hz in sorted({pair.voice_rate_hz for pair in pairs}):
            same = [k for k, pair in enumerate(pairs) if pair.voice_rate_hz == rate_hz]
            encode = lambda voice, rate_hz=rate_hz: self.codecs.encode_audio(voice, rate_hz)  # noqa: E731
            for k, reference in zip(same, together([pairs[k].voice for k in same], encode), strict=True):
                voices[k] = reference
        texts = [text for pair in pairs if isinstance(text := features[pair.row["prompt"]], TextFeatures)]
        return [
            PairSample(video.to(self.stored), sound.float(), voice.float(), text, _meta(pair.row))
            for pair, video, sound, voice, text in zip(pairs, videos, sounds, voices, texts, strict=True)
        ]

    def _features(self, prompts: Sequence[str]) -> dict[str, TextFeatures | str]:
        """Encode prompts to features without the batch axis, or say why not; those of the last group are remembered."""
        self.known = {prompt: self.known[prompt] for prompt in prompts if prompt in self.known}
        for prompt in prompts:
            if prompt not in self.known:
                self.known[prompt] = self._encoded(prompt)
        return self.known

    def _encoded(self, prompt: str) -> TextFeatures | str:
        """Encode one prompt alone: the same features whatever else is in the group."""
        try:
            found = self.text.encode([prompt])
        except ValueError as error:
            return str(error)
        video, audio = (part[0].cpu().to(self.stored) for part in (found.video, found.audio))
        return TextFeatures(video, audio, found.mask[0].cpu().bool())


def take_own_memory(module: nn.Module) -> None:
    """Copy weights to where torch puts new tensors.

    Matrix products on a CPU round differently when the same weights lie at another alignment, as those of a
    memory-mapped file do; after this, two processes give equal bytes.
    """
    for tensor in (*module.parameters(), *module.buffers()):
        tensor.data = tensor.data.clone(memory_format=torch.contiguous_format)


def _meta(row: Row) -> Row:
    return {name: value for name, value in row.items() if name not in ("target", "reference")}


def together(parts: Sequence[Tensor], encode: Callable[[Tensor], Tensor]) -> list[Tensor]:
    """Encode tensors, those of one shape as one batch; return the results on the CPU in the order of the parts."""
    found: list[Tensor] = [torch.empty(0)] * len(parts)
    for shape in sorted({tuple(part.shape) for part in parts}):
        same = [k for k, part in enumerate(parts) if tuple(part.shape) == shape]
        for k, latents in zip(same, encode(torch.stack([parts[k] for k in same])).cpu(), strict=True):
            found[k] = latents.clone()
    return found


class WriteSamples(BasePredictionWriter):
    """Write each sample as it is encoded, and note it, or why there is none.

    Args:
        folder: where samples go.
        ledger: the notes.
        states: state of the input of each row, by key.
    """

    def __init__(self, folder: Path, ledger: Ledger, states: dict[str, str]) -> None:
        super().__init__(write_interval="batch")
        self.folder, self.ledger, self.states = folder, ledger, states

    def write_on_batch_end(
        self,
        trainer: L.Trainer,
        module: L.LightningModule,
        prediction: list[PairSample],
        batch_indices: Sequence[int] | None,
        batch: list[ReadPair],
        *_: object,
    ) -> None:
        """Write one group."""
        left_out = [pair.rejected for pair in batch if pair.rejected is not None]
        for sample in prediction:
            wrong = [name for name, tensor in sample.tensors().items() if not torch.isfinite(tensor).all()]
            if wrong:
                left_out.append({"key": sample.key, "reason": "not_finite", "detail": f"{wrong[0]} is not finite"})
                continue
            write_sample(sample, self.folder)
            self.ledger.note(sample.key, self.states[sample.key], [])
        for row in left_out:
            remove_sample(self.folder, row["key"])
            self.ledger.note(row["key"], self.states[row["key"]], [row])

    def on_predict_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Wait for the other ranks, so that all notes are there when the lists are written."""
        trainer.strategy.barrier()
