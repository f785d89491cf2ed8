"""Read whatever a file holds, for scoring: picture, sound or both, the sound whole.

Letters: F frames, S audio samples.
"""

from os import PathLike

import torch
from torch import Tensor

from idlora_pl.media.clip import Clip, MediaError
from idlora_pl.media.decoding import Size, read_frames
from idlora_pl.media.sound import NoSamplesError, at_rate, samples
from idlora_pl.media.source import Source, frame_rate, opened, shown_name

_FRAME_RATE_FPS = 25.0
_SAMPLE_RATE_HZ = 16000
_PADDING = 1024
"""Samples of an AAC frame: sound that is longer than its picture by no more is the padding of the last one."""


def read_recording(path: str | PathLike[str], *, size: Size | None = None) -> Clip:
    """Read the clip of any method as it is: no resizing, no resampling, no cut, and no silence added.

    Differs from `read_clip` in what a score depends on: sound that is longer than the picture by more than a frame of
    the codec is kept, sound that is shorter is not filled up, a varying frame rate becomes the average one by taking
    the nearest frames, and a file without picture or without sound is a clip with 0 frames or 0 samples.

    Args:
        path: the file.
        size: (H, W) that the picture is made to cover, for looking at it; None, for scoring, keeps its size.

    Returns:
        Clip with F frames and S samples; rates of what is not there are 25 fps and 16 kHz.

    Raises:
        MediaError: when the file is missing, cannot be decoded or has neither picture nor sound.
    """
    with opened(path) as source:
        has_picture, has_sound = source.has_video, source.has_sound
        if not (has_picture or has_sound):
            raise MediaError(f"{source.name} has neither picture nor sound; pass a clip")
        frames, fps = torch.empty(0, 3, 0, 0, dtype=torch.uint8), _FRAME_RATE_FPS
        if has_picture:
            frames, fps = read_frames(source, 0.0, frame_rate(source.video), None, size)
    waveform, hz = torch.zeros(1, 0), _SAMPLE_RATE_HZ
    if has_sound:
        # a second look, because a container is read forwards only
        with opened(path) as source:
            waveform, hz = _sound(source)
    if not len(frames) and not waveform.numel():
        raise MediaError(f"{shown_name(path)} has streams without frames and without samples; pass another file")
    n_picture = round(len(frames) / fps * hz)
    if len(frames) and n_picture < waveform.shape[1] <= n_picture + _PADDING:
        waveform = waveform[:, :n_picture]
    return Clip(frames, waveform, fps, hz)


def _sound(source: Source) -> tuple[Tensor, int]:
    try:
        waveform, hz = samples(source, start_s=0.0 if source.has_video else None)
    except NoSamplesError:
        return torch.zeros(1, 0), _SAMPLE_RATE_HZ
    # limiting to [-1, 1] would turn what is infinite into loud sound; scorers refuse what is not a number
    return at_rate(waveform.masked_fill(waveform.isinf(), torch.nan), hz, None)
