"""Write sound as wav and a picture as png, whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
from av.audio.frame import AudioFrame
from av.container import OutputContainer
from av.video.frame import VideoFrame
from torch import Tensor

from idlora_pl.files import replacing


@contextmanager
def _appearing(path: Path, form: str) -> Iterator[OutputContainer]:
    """Open a temporary file of the given container format that becomes `path` on success."""
    options = {"update": "1"} if form == "image2" else {}
    with replacing(path) as partial, av.open(str(partial), "w", format=form, options=options) as container:
        yield container


def write_audio(waveform: Tensor, path: str | os.PathLike[str], sample_rate_hz: int) -> None:
    """Write a waveform (1 or 2 channels, S) float32 in [-1, 1] as a 16-bit wav file.

    Raises:
        ValueError: when there are no samples or the channels are not one or two.
    """
    if waveform.ndim != 2 or waveform.shape[0] not in (1, 2) or waveform.shape[1] == 0:
        raise ValueError(f"waveform must be (1 or 2, S) with S > 0; got {tuple(waveform.shape)}; mix it down first")
    layout = "mono" if len(waveform) == 1 else "stereo"
    whole = (waveform * 32768).round().clamp(-32768, 32767).short()
    with _appearing(Path(path), "wav") as container:
        stream = container.add_stream("pcm_s16le", rate=sample_rate_hz, layout=layout)
        frame = AudioFrame.from_ndarray(whole.T.reshape(1, -1).contiguous().numpy(), format="s16", layout=layout)
        frame.sample_rate = sample_rate_hz
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)


def write_image(image: Tensor, path: str | os.PathLike[str]) -> None:
    """Write a picture uint8 (3, H, W) as a png file, without loss."""
    if image.ndim != 3 or image.shape[0] != 3:
        raise ValueError(f"image must be uint8 (3, H, W); got {tuple(image.shape)}")
    with _appearing(Path(path), "image2") as container:
        stream = container.add_stream("png", rate=1)
        stream.height, stream.width, stream.pix_fmt = *image.shape[1:], "rgb24"
        frame = VideoFrame.from_ndarray(image.permute(1, 2, 0).contiguous().numpy(), format="rgb24")
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)
