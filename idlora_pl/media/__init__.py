"""Audio and video files in and out; the only place that imports PyAV."""

from idlora_pl.media.clip import Clip, MediaError
from idlora_pl.media.reading import (
    Codecs,
    MediaInfo,
    codecs_of,
    middle_frame,
    probe,
    read_audio,
    read_clip,
    read_image,
    read_metadata,
    read_part_sound,
    read_recording,
    read_voice,
)
from idlora_pl.media.strips import Strip, read_strips
from idlora_pl.media.writing import AI_GENERATED_LABEL, Sound, write_audio, write_clip, write_image, write_pictures

__all__ = [
    "AI_GENERATED_LABEL",
    "Clip",
    "Codecs",
    "MediaError",
    "MediaInfo",
    "Sound",
    "Strip",
    "codecs_of",
    "middle_frame",
    "probe",
    "read_audio",
    "read_clip",
    "read_image",
    "read_metadata",
    "read_part_sound",
    "read_recording",
    "read_strips",
    "read_voice",
    "write_audio",
    "write_clip",
    "write_image",
    "write_pictures",
]
