"""Write sound as wav and a picture as png, whole or not at all."""

import os
from fractions import Fraction

from av.audio.frame import AudioFrame
from av.codec.context import CodecContext
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from torch import Tensor

from idlora_pl.files import replacing
from idlora_pl.media.sound import finite
from idlora_pl.media.source import shown_name
from idlora_pl.media.writing import created


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
