"""An image-text model of transformers, from a folder on this machine."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from data_tools.captions.looking import Look
from data_tools.verb.lists import RejectedError
from idlora_pl.scorers.snapshot import load_snapshot


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
