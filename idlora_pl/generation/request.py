"""What a user asks for, one clip each, from a prompt, a face and a voice; and faces, voices and clips as tokens.

Letters: B clips, H W pixels, S samples, C channels, R reference tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from idlora_pl.benchmark.prompt import split_prompt
from idlora_pl.generation.base_model import ClipCodecs
from idlora_pl.ltx2.codecs import Codecs
from idlora_pl.media.clip import Clip
from idlora_pl.media.reading import read_image, read_voice
from idlora_pl.media.sound import finite
from idlora_pl.method.noise import checked_seed
from idlora_pl.method.tokens import AVSequence, patchify_audio, patchify_video, unpatchify_audio, unpatchify_video


@dataclass(frozen=True, eq=False)
class Request:
    """One clip to generate.

    Attributes:
        prompt: `[VISUAL]: ... [SPEECH]: ... [SOUNDS]: ...`
        face: First frame, uint8 (3, H, W), or None.
        voice: Reference waveform (channels, S) in [-1, 1], or None.
        voice_rate_hz: Sample rate of the voice.
        seed: Seed of the noise.

    Raises:
        ValueError: If the prompt lacks a section, a face or a voice has another shape, or a sample is not finite.
    """

    prompt: str
    face: Tensor | None = None
    voice: Tensor | None = None
    voice_rate_hz: int = 16000
    seed: int = 42

    def __post_init__(self) -> None:
        """Refuse what could not be generated."""
        split_prompt(self.prompt)
        checked_seed(self.seed, "seed")
        face, voice = self.face, self.voice
        if face is not None and (face.ndim != 3 or len(face) != 3 or face.dtype != torch.uint8):
            raise ValueError(f"face must be uint8 (3, H, W); got {face.dtype} {tuple(face.shape)}; use read_image")
        if voice is not None and (voice.ndim != 2 or voice.shape[1] == 0):
            raise ValueError(f"voice must be (channels, S) with S > 0; got {tuple(voice.shape)}; use read_audio")
        if voice is not None:
            finite(voice, self.voice_rate_hz, "voice")


def read_request(
    prompt: str,
    *,
    face: str | Path | None = None,
    voice: str | Path | None = None,
    size: tuple[int, int],
    seed: int = 42,
) -> Request:
    """Read the files of one request.

    Args:
        prompt: `[VISUAL]: ... [SPEECH]: ... [SOUNDS]: ...`
        face: Image of the first frame, resized to cover `size` and cropped.
        voice: Sound file, or any clip with sound that is not silent.
        size: (H, W) of the clip to generate.
        seed: Seed of the noise.

    Raises:
        ValueError: If the prompt lacks a section or a file is not what it should be; the message names it.
    """
    image = None if face is None else read_image(Path(face), size=size)
    sound, rate_hz = (None, 16000) if voice is None else read_voice(Path(voice))
    return Request(prompt, image, sound, rate_hz, seed)


def alike(requests: Sequence[Request]) -> list[list[int]]:
    """Group the indices of requests that can be sampled together: all with or without a face, voices of one length."""
    groups: dict[tuple[bool, int, int], list[int]] = {}
    for index, request in enumerate(requests):
        length = 0 if request.voice is None else request.voice.shape[-1]
        groups.setdefault((request.face is None, length, request.voice_rate_hz), []).append(index)
    return list(groups.values())


Size = tuple[int, int]


def first_frames(
    codecs: ClipCodecs, requests: Sequence[Request], *, size: Size, largest: Size, device: torch.device
) -> Tensor | None:
    """Encode the first frames to tokens (B, H*W, C), or return None when no request has a face.

    Faces come at the size of the last stage, where they were cropped to the clip's aspect ratio; an earlier stage
    gets the mean of whole blocks of pixels. The released 19B one-stage script squashes the picture instead (spec
    section 6.21); this one never does.

    Args:
        codecs: Encodes.
        requests: B requests which all have a face or all have none.
        size: (H, W) of the stage.
        largest: (H, W) of the last stage, which the faces must have.
        device: Where to encode.

    Raises:
        ValueError: If a face has another size.
    """
    faces = [request.face for request in requests if request.face is not None]
    wrong = next((face for face in faces if tuple(face.shape[1:]) != largest), None)
    if wrong is not None:
        raise ValueError(
            f"face has {wrong.shape[1]}x{wrong.shape[2]} pixels, sampling is set to {largest[0]}x{largest[1]}: "
            "read it with read_image(path, size=...) or change sampling.height and sampling.width"
        )
    if not faces:
        return None
    pictures = torch.stack(faces)
    if size != largest:
        pictures = functional.interpolate(pictures.float(), size=size, mode="area").round().to(torch.uint8)
    return patchify_video(codecs.encode_video(pictures[:, None].to(device)))


def voices(codecs: ClipCodecs, requests: Sequence[Request], device: torch.device) -> Tensor | None:
    """Encode the voices, of one length, to tokens (B, R, C), or return None when no request has one."""
    heard = [(request.voice, request.voice_rate_hz) for request in requests if request.voice is not None]
    if not heard:
        return None
    return patchify_audio(torch.cat([codecs.encode_audio(sound[None].to(device), rate) for sound, rate in heard]))


def decoded(codecs: ClipCodecs, av: AVSequence, grid: tuple[int, int, int], *, tiled: bool) -> list[Clip]:
    """Decode the tokens of B clips.

    Args:
        codecs: Decodes.
        av: The end of sampling.
        grid: (F, H, W) of the video latents.
        tiled: Whether large frames are decoded in tiles, as the released two-stage scripts do.
    """
    video = unpatchify_video(av.video.latents, grid).float()
    audio = unpatchify_audio(av.audio.target().latents, codecs.audio_channels).float()
    with _tiles(codecs, tiled):
        frames = codecs.decode_video(video).cpu()
    sound = codecs.decode_audio(audio).float().cpu()
    rates = codecs.geometry.video.frame_rate_fps, codecs.sample_rate_hz
    return [Clip(picture, voice.clamp(-1, 1), *rates) for picture, voice in zip(frames, sound, strict=True)]


@contextmanager
def _tiles(codecs: ClipCodecs, tiled: bool) -> Iterator[None]:
    """Turn on tiles for the time of a `with` block, where the codecs have them and they are off."""
    if not tiled or not isinstance(codecs, Codecs) or codecs.video.tiling is not None:
        yield
        return
    codecs.enable_tiling()
    try:
        yield
    finally:
        codecs.disable_tiling()
