"""A model behind a server that speaks OpenAI's protocol: OpenAI's own, vLLM, llama.cpp, Ollama and others."""

import base64
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from data_tools.captions.looking import Look, picture_url
from data_tools.verb.lists import RejectedError

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
