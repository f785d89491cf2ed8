"""Encode pairs to latents and text features, two files each; pairs that are encoded already are kept."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from rich.console import Console
from rich.progress import Progress
from torch import Tensor, nn

from data_tools.command import run
from data_tools.manifest import RejectedError, Row, located, read_rows, write_rows
from data_tools.sample_folder import keep_settings, sample_exists, write_sample
from idlora_pl.components import ClipCodecs, PromptEncoder, load_codecs, load_text
from idlora_pl.data.samples import PairSample
from idlora_pl.ltx2.presets import PresetName
from idlora_pl.media import MediaError, read_audio, read_clip
from idlora_pl.method.tokens import TextFeatures

REQUIRED = ("key", "target", "reference", "prompt", "n_frames")
SAMPLE_RATE_HZ = 16000
_DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}


@dataclass(frozen=True, eq=False)
class Encoder:
    """Codecs and text encoder with the lengths that all samples share.

    Attributes:
        codecs: clip <-> latents.
        text: prompt -> features.
        n_frames: frames of every target.
        reference_s: seconds of every reference.
        dtype: of video latents and text features; audio latents stay float32.
        last_prompt: the features of the last prompt, since neighbours often share it.
    """

    codecs: ClipCodecs
    text: PromptEncoder
    n_frames: int
    reference_s: float
    dtype: torch.dtype
    last_prompt: dict[str, TextFeatures] = field(default_factory=dict)

    def encode(self, row: Row, pairs: Path) -> PairSample:
        """Encode one pair of a list.

        Raises:
            RejectedError: when a file cannot be read or is too short.
            ValueError: when the clip has a size that the codecs do not take.
        """
        target_path, voice_path = located(pairs, row["target"]), located(pairs, row["reference"])
        rate_fps = self.codecs.geometry.video.frame_rate_fps
        try:
            target = read_clip(
                target_path, frame_rate_fps=rate_fps, n_frames=self.n_frames, sample_rate_hz=SAMPLE_RATE_HZ
            )
            voice, voice_rate_hz = read_audio(voice_path)
        except MediaError as error:
            raise RejectedError("unreadable", str(error)) from error
        n_tokens = self.codecs.n_audio_tokens(self.n_frames)
        return PairSample(
            self.codecs.encode_video(target.frames[None])[0].cpu().to(self.dtype),
            self.codecs.encode_audio(target.waveform[None], SAMPLE_RATE_HZ, n_tokens=n_tokens)[0].cpu().float(),
            self._reference(voice, voice_rate_hz, voice_path),
            self._features(row["prompt"]),
            {name: value for name, value in row.items() if name not in ("target", "reference")},
        )

    def _reference(self, voice: Tensor, rate_hz: int, path: Path) -> Tensor:
        """Encode the first `reference_s` of (channels, S) as the pipeline encodes a voice: (C, R, M) float32.

        A track that ends up to one token early, as in compressed files, is continued with silence.
        """
        wanted, got = round(self.reference_s * rate_hz), voice.shape[1]
        if got < wanted - self.codecs.geometry.audio.token_seconds * rate_hz:
            detail = f"{path} lasts {got / rate_hz:.2f} s of {self.reference_s:.2f} s"
            raise RejectedError("reference_too_short", detail)
        sound = nn.functional.pad(voice[:, :wanted], (0, max(0, wanted - got)))
        return self.codecs.encode_audio(sound[None], rate_hz)[0].cpu().float()

    def _features(self, prompt: str) -> TextFeatures:
        """Encode one prompt to features without the batch axis."""
        if prompt not in self.last_prompt:
            found = self.text.encode([prompt])
            video, audio = (part[0].cpu().to(self.dtype) for part in (found.video, found.audio))
            self.last_prompt.clear()
            self.last_prompt[prompt] = TextFeatures(video, audio, found.mask[0].cpu().bool())
        return self.last_prompt[prompt]


def common_length(rows: Sequence[Row], duration_s: float | None, frame_rate_fps: float) -> int:
    """Return the frames of every target: those of `duration_s`, else those that all clips have.

    Raises:
        ValueError: when clips differ and no duration is given, or the duration is not 8k + 1 frames.
    """
    lengths = Counter(int(row["n_frames"]) for row in rows)
    if duration_s is None and len(lengths) > 1:
        found = ", ".join(f"{count} of {n_frames}" for n_frames, count in sorted(lengths.items()))
        shortest = min(lengths) / frame_rate_fps
        raise ValueError(
            f"the list mixes clips of different frame counts ({found}); --duration {shortest:g} uses all, "
            "a longer one rejects those that are too short"
        )
    n_frames = max(lengths) if duration_s is None else round(duration_s * frame_rate_fps)
    if n_frames < 9 or n_frames % 8 != 1:
        nearest = max(9, round((n_frames - 1) / 8) * 8 + 1)
        raise ValueError(
            f"{n_frames} frames at {frame_rate_fps:g} fps are not 8k + 1; use --duration "
            f"{nearest / frame_rate_fps:g} ({nearest} frames)"
        )
    return n_frames


def encode_clips(
    pairs: str,
    output: str,
    base: PresetName = "ltx2-19b",
    weights: str | None = None,
    gemma: str | None = None,
    duration: float | None = None,
    reference_duration: float | None = None,
    dtype: Literal["bfloat16", "float32"] = "bfloat16",
    device: str = "cpu",
) -> None:
    """Encode pairs to latents and text features.

    Writes OUTPUT/<key>.latents.safetensors and OUTPUT/<key>.meta.json for every pair, settings.json, and
    rejected.jsonl with a reason (too_short, unreadable, reference_too_short) for what was left out. A run
    that was interrupted continues where it stopped.

    Args:
        pairs: The list of pair_clips.
        output: The folder to write to.
        base: Base model whose codecs and text encoder are used; "smoke" has random weights, for trying out.
        weights: Its checkpoint, a folder in the layout of a diffusers pipeline or the authors' file.
        gemma: Folder of its language model, when the checkpoint holds none.
        duration: Seconds of every target; by default the length that all clips have.
        reference_duration: Seconds of every voice reference; by default as long as the target.
        dtype: Precision of video latents and text features; audio latents are float32.
        device: Where to encode, such as cpu or cuda.
    """
    source, folder = Path(pairs), Path(output)
    rows = read_rows(source, REQUIRED)
    codecs, text = load_codecs(base, weights), load_text(base, weights, gemma=gemma)
    for network in (codecs, text):
        if isinstance(network, nn.Module):
            network.to(device)
    rate_fps = codecs.geometry.video.frame_rate_fps
    n_frames = common_length(rows, duration, rate_fps)
    reference_s = reference_duration or n_frames / rate_fps
    settings = {"base": base, "weights": weights, "duration_s": n_frames / rate_fps}
    keep_settings(folder, settings | {"reference_duration_s": reference_s, "dtype": dtype})
    encoder = Encoder(codecs, text, n_frames, reference_s, _DTYPES[dtype])
    rejected: list[Row] = []
    with Progress() as progress:
        for row in progress.track(rows, description="encoding"):
            if sample_exists(folder, row["key"]):
                continue
            try:
                if row["n_frames"] < n_frames:
                    raise RejectedError("too_short", f"{row['n_frames']} frames, {n_frames} are needed")
                write_sample(encoder.encode(row, source), folder)
            except RejectedError as error:
                rejected.append({"key": row["key"], "reason": error.reason, "detail": error.detail})
    write_rows(folder / "rejected.jsonl", rejected)
    Console().print(f"{len(rows) - len(rejected)} samples in {folder}, {len(rejected)} rejected")
    if len(rejected) == len(rows):
        raise ValueError(f"no pair could be encoded; {folder / 'rejected.jsonl'} has the reasons")


if __name__ == "__main__":
    run(encode_clips)
