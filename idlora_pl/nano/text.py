"""Text of the nano world: a fixed table of words behind the interface of the Gemma text encoder."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from idlora_pl.benchmark.prompt import split_prompt
from idlora_pl.method.tokens import TextContext, TextFeatures
from idlora_pl.nano.world import ENVIRONMENTS, VOWELS, WORDS_PER_CLIP

N_TEXT_TOKENS = 8
TEXT_CHANNELS = 32
_SLOT, _PLACE, _NULL = len(VOWELS), len(VOWELS) + WORDS_PER_CLIP, TEXT_CHANNELS - 1


class NanoTextEncoder:
    """Encode a prompt of the nano world: one token a word (word and slot), one token for the environment.

    The visual section must be there but says nothing that the first frame does not show, so it has no token. The
    empty prompt is the null text of text guidance.
    """

    def encode(self, prompts: Sequence[str]) -> TextFeatures:
        """Encode B prompts to features with video and audio (B, 8, 32) and an all-true mask (B, 8).

        Raises:
            ValueError: If a section is missing, a word or environment is unknown, or there are too many words.
        """
        table = torch.stack([self._tokens(prompt) for prompt in prompts])
        return TextFeatures(table, table, torch.ones(table.shape[:2], dtype=torch.bool))

    def connect(self, features: TextFeatures) -> TextContext:
        """Return the features as the transformer reads them; nano has no connectors."""
        return TextContext(features.video, features.audio)

    def _tokens(self, prompt: str) -> Tensor:
        tokens = torch.zeros(N_TEXT_TOKENS, TEXT_CHANNELS)
        tokens[:, _NULL] = 1.0
        if not prompt.strip():
            return tokens
        sections = split_prompt(prompt)
        for slot, word in enumerate(_spoken_words(sections.speech)):
            tokens[slot] = 0.0
            tokens[slot, list(VOWELS).index(word)] = 1.0
            tokens[slot, _SLOT + slot] = 1.0
        tokens[WORDS_PER_CLIP] = 0.0
        tokens[WORDS_PER_CLIP, _PLACE + ENVIRONMENTS.index(environment_of(sections.sounds))] = 1.0
        return tokens


def _spoken_words(speech: str) -> list[str]:
    """Split a [SPEECH] section into known words, at most four."""
    words = speech.lower().replace(",", " ").replace(".", " ").split()
    unknown = [word for word in words if word not in VOWELS]
    if unknown:
        raise ValueError(f"[SPEECH] has the word '{unknown[0]}'; the nano world only speaks {', '.join(VOWELS)}")
    if len(words) > WORDS_PER_CLIP:
        raise ValueError(f"[SPEECH] has {len(words)} words; a nano clip holds at most {WORDS_PER_CLIP}")
    return words


def environment_of(sounds: str) -> str:
    """Find which of `ENVIRONMENTS` a [SOUNDS] section names.

    Raises:
        ValueError: If it names none.
    """
    found = [name for name in ENVIRONMENTS if name in sounds.lower()]
    if not found:
        raise ValueError(f"[SOUNDS] is '{sounds}'; the nano world only knows {', '.join(ENVIRONMENTS)}")
    return found[0]
