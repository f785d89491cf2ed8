"""What is asked of a model that looks at a clip, and the clip as pictures and sound that it takes."""

import base64
import io
import wave
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from idlora_pl.media import Clip
from idlora_pl.metrics.clip_mean import mono

SIDE_PX = 512
"""The longer side of a picture that is sent: larger ones are cut into tiles, which costs and shows no more."""
_MEANINGS = {
    "visual": "what is seen: the person, clothes, framing, place and light, in two or three sentences",
    "speech": "the words that are said, and nothing else",
    "sounds": "how the voice sounds and what else is heard in the place, in one or two sentences",
    "speaking_style": "how the person speaks: tone, pace and emotion, in a few words",
    "environment_sounds": "what is heard besides the voice, in a few words",
}
QUESTION = (
    "You see {n} pictures, in their order, of a clip in which one person talks{heard}. {said}Answer with one JSON "
    "object and nothing else. It has these keys, each with a text in English:\n{keys}"
)


@dataclass(frozen=True)
class Look:
    """What a model is shown.

    Attributes:
        question: what it is asked.
        pictures: of the clip, in their order.
        sound: of the clip, a wav file; None when the model cannot hear.
    """

    question: str
    pictures: tuple[Image.Image, ...]
    sound: bytes | None = None


def look_at(clip: Clip, asked: Sequence[str], speech: str, *, n_pictures: int, with_sound: bool) -> Look:
    """Prepare a question about a clip.

    Args:
        clip: at least one frame.
        asked: keys that are asked for.
        speech: what is said in it; "" when that is not known.
        n_pictures: frames at most, evenly spread.
        with_sound: send the sound too.
    """
    frames = clip.frames
    count = min(n_pictures, len(frames))
    places = ((torch.arange(count) + 0.5) * len(frames) / count).long()
    heard = ", and hear it" if with_sound else ""
    said = f'These words are said: "{speech}" ' if speech else ""
    keys = "\n".join(f'"{name}": {_MEANINGS[name]}' for name in asked)
    question = QUESTION.format(n=count, heard=heard, said=said, keys=keys)
    return Look(question, tuple(_picture(frame) for frame in frames[places]), _wav(clip) if with_sound else None)


def _picture(frame: Tensor) -> Image.Image:
    picture = Image.fromarray(frame.permute(1, 2, 0).contiguous().numpy())
    picture.thumbnail((SIDE_PX, SIDE_PX))
    return picture


def _wav(clip: Clip) -> bytes:
    samples = (mono(clip.waveform).clamp(-1, 1) * 32767).round().short().numpy()
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(clip.sample_rate_hz)
        file.writeframes(samples.tobytes())
    return stream.getvalue()


def picture_url(picture: Image.Image) -> str:
    """Return a picture as a data URL that holds a JPEG file."""
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=90)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"
