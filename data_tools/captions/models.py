"""Models that look at a clip: what they are asked, the pictures and the sound that they get, and the two kinds of them.

One is behind a server that speaks OpenAI's protocol (OpenAI's own, vLLM, llama.cpp, Ollama and others), the other is an
image-text model of transformers from a folder on this machine.
"""

import base64
import io
import wave
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from data_tools.verb.lists import RejectedError
from idlora_pl.media.clip import Clip
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


NO_KEY = "none"
"""What is sent to a server that wants no key."""


@dataclass(frozen=True)
class Endpoint:
    """A server and one of its models; satisfies `captions.captioning.Describer`.

    Attributes:
        base_url: such as http://localhost:8000/v1.
        model: its name there.
        key: of the user.
        timeout_s: how long one answer may take.
        retries: how often a question is asked again after no answer, "too many requests" or a fault of the server;
            each time later, or when the server says so.
        max_tokens: of an answer.
    """

    base_url: str
    model: str
    key: str = field(default=NO_KEY, repr=False)
    timeout_s: float = 60.0
    retries: int = 4
    max_tokens: int = 1000

    def describe(self, look: Look) -> str:
        """Return the model's answer.

        Raises:
            RejectedError: no_answer, refused, cut_off or bad_answer.
            ValueError: the server knows neither the key nor the model, so that no clip would get an answer.
        """
        import openai

        try:
            answer = _client(self).chat.completions.create(
                model=self.model, messages=_messages(look), max_tokens=self.max_tokens, temperature=0.0
            )
        except openai.APITimeoutError as error:
            raise RejectedError("no_answer", f"{self.base_url} took more than {self.timeout_s:g} s") from error
        except openai.APIConnectionError as error:
            raise RejectedError("no_answer", f"{self.base_url}: {error.__cause__ or error}") from error
        except openai.APIStatusError as error:
            detail = f"{self.base_url} says {error.status_code}: {error.message[:200]}"
            if error.status_code in (401, 403, 404):
                raise ValueError(f"{detail}; correct --endpoint, --model or the key in --key_variable") from error
            raise RejectedError("no_answer", detail) from error
        except (openai.OpenAIError, ValueError) as error:
            raise RejectedError("bad_answer", f"{self.base_url} answers with no JSON ({error})") from error
        return _text_of(answer)


@cache
def _client(endpoint: Endpoint) -> Any:
    import openai

    return openai.OpenAI(
        base_url=endpoint.base_url,
        api_key=endpoint.key,
        timeout=endpoint.timeout_s,
        max_retries=endpoint.retries,
    )


def _messages(look: Look) -> Any:
    content: list[dict[str, Any]] = [{"type": "text", "text": look.question}]
    content += [{"type": "image_url", "image_url": {"url": picture_url(picture)}} for picture in look.pictures]
    if look.sound is not None:
        sound = {"data": base64.b64encode(look.sound).decode(), "format": "wav"}
        content.append({"type": "input_audio", "input_audio": sound})
    return [{"role": "user", "content": content}]


def _text_of(answer: Any) -> str:
    """Return the text of an answer whose shape nobody has checked."""
    choices = getattr(answer, "choices", None)
    message = getattr(choices[0], "message", None) if isinstance(choices, list) and choices else None
    if message is None or not choices:
        raise RejectedError("bad_answer", f"the server sent no answer: '{str(answer)[:80]}'")
    finished = getattr(choices[0], "finish_reason", None)
    if getattr(message, "refusal", None) or finished == "content_filter":
        raise RejectedError("refused", str(getattr(message, "refusal", None) or "stopped by its content filter")[:200])
    if finished == "length":
        raise RejectedError("cut_off", "the answer is longer than max_tokens")
    text = getattr(message, "content", None)
    if not isinstance(text, str) or not text.strip():
        raise RejectedError("bad_answer", "the answer is empty")
    return text


@dataclass(frozen=True)
class LocalModel:
    """A snapshot of the Hugging Face hub, of any class that takes pictures and text; a `Describer`.

    Attributes:
        folder: with config.json, weights in safetensors, and a processor with a chat template.
        device: that it runs on; float32 on a CPU, else bfloat16.
        max_tokens: of an answer.
    """

    folder: Path
    device: str = "cpu"
    max_tokens: int = 1000

    @torch.no_grad()
    def describe(self, look: Look) -> str:
        """Return the model's answer, its likeliest token at each step.

        Raises:
            RejectedError: cut_off or bad_answer.
        """
        processor, model = load_model(self.folder, self.device)
        content = [{"type": "image", "image": picture} for picture in look.pictures]
        message = {"role": "user", "content": [*content, {"type": "text", "text": look.question}]}
        inputs = processor.apply_chat_template(
            [message], add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
        ).to(self.device, dtype=model.dtype)
        tokens = model.generate(**inputs, max_new_tokens=self.max_tokens, do_sample=False)[0]
        answer = tokens[inputs["input_ids"].shape[1] :]
        text = str(processor.decode(answer, skip_special_tokens=True)).strip()
        if len(answer) >= self.max_tokens:
            raise RejectedError("cut_off", f"the answer is longer than {self.max_tokens} tokens: '{text[:80]}'")
        if not text:
            raise RejectedError("bad_answer", "the answer is empty")
        return text


@cache
def load_model(folder: Path, device: str) -> tuple[Any, Any]:
    """Load a processor and its model, once in a process.

    Raises:
        ValueError: the folder lacks one of them, or cannot be asked questions.
    """
    from transformers import AutoModelForImageTextToText, AutoProcessor

    from idlora_pl.scorers.snapshot import load_snapshot

    try:
        processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
        kind: Any = AutoModelForImageTextToText
        model = load_snapshot(kind, folder)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"--model {folder} cannot be loaded ({reason}); give the folder of an image-text model"
        ) from error
    if getattr(processor, "chat_template", None) is None:
        raise ValueError(f"--model {folder} has no chat template; give a model that answers questions")
    return processor, model.to(device, torch.float32 if device == "cpu" else torch.bfloat16)
