"""Write a clip as mp4 (H.264 and AAC), labelled as AI-generated unless it is a recording; sound as wav; a picture."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain

import av
import torch
from av.audio.frame import AudioFrame
from av.codec.context import CodecContext
from av.container import OutputContainer
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from torch import Tensor

from idlora_pl.files import replacing
from idlora_pl.media.clip import Clip, MediaError
from idlora_pl.media.sound import finite
from idlora_pl.media.source import shown_name

AI_GENERATED_LABEL = "AI-generated with ID-LoRA (idlora_pl): face, voice and words are synthetic."
_AAC_RATES_HZ = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)
_LAYOUTS = {1: "mono", 2: "stereo"}


def write_clip(
    clip: Clip,
    path: str | os.PathLike[str],
    *,
    metadata: Mapping[str, str] | None = None,
    scale: int = 1,
    generated: bool = True,
) -> None:
    """Write a clip as an mp4 file; the file appears under its name only when it is complete.

    Args:
        clip: what to write; mono or stereo.
        path: where to write; folders are made, an older file is replaced.
        metadata: tags to keep in the file, for example prompt and seed; `read_metadata` gives them back.
        scale: whole number by which both sides are enlarged, pixel by pixel: 64x64 with 4 becomes 256x256.
            H.264 needs even sides: an odd one is lengthened by repeating its last row or column.
        generated: whether the clip comes from a model; if so, its comment says that it is AI-generated.

    Raises:
        ValueError: when the clip has no frames, a sample rate or channels that AAC cannot hold, or scale < 1.
        MediaError: when the encoder or the disk refuses, or a sample is infinite or not a number.
    """
    if scale < 1:
        raise ValueError(f"scale must be a whole number of at least 1; got {scale}")
    sound = Sound(clip.waveform, clip.sample_rate_hz)
    pictures = _pictures(_even(clip.frames, scale))
    write_pictures(pictures, clip.frame_rate_fps, sound, path, metadata=metadata, generated=generated)


@dataclass(frozen=True, eq=False)
class Sound:
    """Samples to be written.

    Attributes:
        waveform: float (1 or 2, S) in [-1, 1].
        sample_rate_hz: their rate.
    """

    waveform: Tensor
    sample_rate_hz: int


def write_pictures(
    pictures: Iterable[VideoFrame],
    frame_rate_fps: float,
    sound: Sound,
    path: str | os.PathLike[str],
    *,
    metadata: Mapping[str, str] | None = None,
    generated: bool = True,
) -> None:
    """Write pictures as they come, all of one even size in yuv420p, with sound, as `write_clip` does.

    Args:
        pictures: FFmpeg frames; their times are set here.
        frame_rate_fps: of the pictures.
        sound: what is heard from the first picture on.
        path: as in `write_clip`, like the others.
        metadata: as there.
        generated: as there.

    Raises:
        ValueError: when there is no picture or no sample, or a rate or number of channels that AAC cannot hold.
        MediaError: when the encoder or the disk refuses, or a sample is infinite or not a number.
    """
    _refuse_unwritable(sound)
    finite(sound.waveform, sound.sample_rate_hz, shown_name(path), "it was not written; use another seed or precision")
    coming = iter(pictures)
    first = next(coming, None)
    if first is None:
        raise ValueError("a clip without frames or without samples cannot be written; check its slice")
    given = f"H.264 was given frames of {first.height} x {first.width} pixels, choose another size or folder"
    with created(path, "mp4", given, options={"movflags": "faststart"}) as container:
        container.metadata.update(_tags(metadata or {}, generated))
        _mux(container, first, coming, frame_rate_fps, sound)


@contextmanager
def created(
    path: str | os.PathLike[str], form: str, advice: str, *, options: dict[str, str] | None = None
) -> Iterator[OutputContainer]:
    """Open a file to write to that appears under its name when it is complete.

    Args:
        path: its name, in which FFmpeg sees neither an address nor a pattern.
        form: container format.
        advice: what a message says beside the name and FFmpeg's reason.
        options: of the format.

    Raises:
        MediaError: when the encoder or the disk refuses.
    """
    try:
        with (
            replacing(path) as partial,
            av.open(f"file:{partial}", "w", format=form, options=options or {}) as container,
        ):
            yield container
    except av.FFmpegError as error:
        raise MediaError(f"{shown_name(path)} cannot be written ({error.strerror}); {advice}") from error


def _refuse_unwritable(sound: Sound) -> None:
    """Raise ValueError for what AAC cannot hold."""
    if sound.waveform.shape[1] == 0:
        raise ValueError("a clip without frames or without samples cannot be written; check its slice")
    if sound.waveform.shape[0] not in _LAYOUTS:
        raise ValueError(f"waveform has {len(sound.waveform)} channels, mp4 holds 1 or 2; mix it down first")
    if sound.sample_rate_hz not in _AAC_RATES_HZ:
        rates = ", ".join(map(str, _AAC_RATES_HZ))
        raise ValueError(f"sample_rate_hz must be one of {rates}; got {sound.sample_rate_hz}; resample first")


def _tags(metadata: Mapping[str, str], generated: bool) -> dict[str, str]:
    """Pack tags into two that every player shows: comment (the label) and description (the rest, JSON)."""
    rest = {key: str(value) for key, value in metadata.items() if key != "comment"}
    comment = " ".join(filter(None, [AI_GENERATED_LABEL if generated else "", metadata.get("comment", "")]))
    tags = {"comment": comment, "description": json.dumps(rest, ensure_ascii=False) if rest else ""}
    return {key: value for key, value in tags.items() if value}


def _mux(
    container: OutputContainer, first: VideoFrame, rest: Iterator[VideoFrame], frame_rate_fps: float, sound: Sound
) -> None:
    """Encode picture and sound into an open container."""
    rate = Fraction(frame_rate_fps).limit_denominator(1001)
    video = container.add_stream("libx264", rate=rate)
    video.height, video.width = first.height, first.width
    video.pix_fmt = "yuv420p"
    video.options = {"crf": "18", "preset": "veryfast"}
    video.codec_context.color_range, video.codec_context.colorspace = ColorRange.MPEG, 1  # 1 is BT.709
    audio = container.add_stream("aac", rate=sound.sample_rate_hz, layout=_LAYOUTS[sound.waveform.shape[0]])
    for index, picture in enumerate(chain([first], rest)):
        picture.pts, picture.time_base = index, 1 / rate
        container.mux(video.encode(picture))
    heard = AudioFrame.from_ndarray(
        sound.waveform.clamp(-1, 1).contiguous().cpu().numpy(), format="fltp", layout=audio.layout.name
    )
    heard.sample_rate, heard.pts = sound.sample_rate_hz, 0
    container.mux(audio.encode(heard))
    container.mux(video.encode(None))
    container.mux(audio.encode(None))


def _pictures(frames: Tensor) -> Iterator[VideoFrame]:
    """Yield frames uint8 (F, 3, H, W) as the encoder wants them."""
    scaler = VideoReformatter()
    for frame in frames:
        picture = VideoFrame.from_ndarray(frame.permute(1, 2, 0).numpy(), format="rgb24")
        yield scaler.reformat(
            picture, format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
        )


def _even(frames: Tensor, scale: int) -> Tensor:
    """Enlarge uint8 (F, 3, H, W) by whole pixels and lengthen odd sides by one."""
    frames = frames.cpu()
    if scale > 1:
        frames = frames.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    if frames.shape[2] % 2:
        frames = torch.cat([frames, frames[:, :, -1:]], 2)
    if frames.shape[3] % 2:
        frames = torch.cat([frames, frames[..., -1:]], 3)
    return frames.contiguous()


def write_audio(waveform: Tensor, path: str | os.PathLike[str], sample_rate_hz: int) -> None:
    """Write a waveform (1 or 2 channels, S) float32 in [-1, 1] as a 16-bit wav file.

    Raises:
        ValueError: when there are no samples or the channels are not one or two.
        MediaError: when the disk refuses, or a sample is infinite or not a number.
    """
    if waveform.ndim != 2 or waveform.shape[0] not in (1, 2) or waveform.shape[1] == 0:
        raise ValueError(f"waveform must be (1 or 2, S) with S > 0; got {tuple(waveform.shape)}; mix it down first")
    finite(waveform, sample_rate_hz, shown_name(path), "it was not written")
    layout = "mono" if len(waveform) == 1 else "stereo"
    whole = (waveform * 32768).round().clamp(-32768, 32767).short()
    with created(path, "wav", "choose another folder or make room") as container:
        stream = container.add_stream("pcm_s16le", rate=sample_rate_hz, layout=layout)
        frame = AudioFrame.from_ndarray(whole.T.reshape(1, -1).contiguous().numpy(), format="s16", layout=layout)
        frame.sample_rate = sample_rate_hz
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)


def write_image(image: Tensor, path: str | os.PathLike[str]) -> None:
    """Write a picture uint8 (3, H, W) as a png file, without loss."""
    if image.ndim != 3 or image.shape[0] != 3:
        raise ValueError(f"image must be uint8 (3, H, W); got {tuple(image.shape)}")
    encoder = CodecContext.create("png", "w")
    assert isinstance(encoder, VideoCodecContext)
    encoder.height, encoder.width, encoder.pix_fmt, encoder.time_base = *image.shape[1:], "rgb24", Fraction(1)
    frame = VideoFrame.from_ndarray(image.permute(1, 2, 0).contiguous().numpy(), format="rgb24")
    with replacing(path) as partial:
        partial.write_bytes(b"".join(bytes(packet) for packet in (*encoder.encode(frame), *encoder.encode(None))))
