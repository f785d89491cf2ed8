"""Whisper through transformers, and the text normalisers that its authors publish error rates with.

Letters: B clips, S samples.
"""

from pathlib import Path

import torch
from torch import Tensor, nn
from torchaudio.functional import resample
from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration, WhisperTokenizer
from transformers.models.whisper.english_normalizer import BasicTextNormalizer, EnglishTextNormalizer

from idlora_pl.metrics.scorable import Unscorable
from idlora_pl.metrics.words import one_spelling
from idlora_pl.scorers.snapshot import load_snapshot

N_BEAMS, MAX_NEW_TOKENS = 5, 256
"""Defaults of the speech recognition pipeline of transformers 4.57, which the authors decode with."""
UNSPACED = {"zh", "ja", "th", "lo", "my", "yue"}
"""Languages whose words are not separated by spaces; Whisper's authors count their characters as words."""


class Whisper(nn.Module):
    """Writes down one clip at a time, as the pipeline of transformers does; satisfies `metrics.embedders.Transcriber`.

    The language is forced and no timestamps are asked for. The network is float32 on a CPU and float16 on an
    accelerator. A clip of more than 30 s is `longer_than_30_s`, an unknown language `language_unknown`.

    Args:
        model: The network, whose generation settings know its languages.
        extractor: Its spectrograms.
        tokenizer: Its vocabulary, with the spelling table of the English normaliser.
    """

    def __init__(
        self,
        model: WhisperForConditionalGeneration,
        extractor: WhisperFeatureExtractor,
        tokenizer: WhisperTokenizer,
    ) -> None:
        super().__init__()
        self.model = model
        self.extractor, self.tokenizer = extractor, tokenizer
        self.languages = _languages(model)

    @classmethod
    def from_pretrained(cls, folder: Path) -> "Whisper":
        """Load a snapshot of the Hugging Face hub.

        Raises:
            ValueError: The snapshot lacks a part.
        """
        model = load_snapshot(WhisperForConditionalGeneration, folder)
        extractor = WhisperFeatureExtractor.from_pretrained(folder, local_files_only=True)
        tokenizer = WhisperTokenizer.from_pretrained(folder, local_files_only=True)
        if not _languages(model):
            raise ValueError(f"{folder}/generation_config.json has no lang_to_id; get the snapshot again")
        if not tokenizer.english_spelling_normalizer:
            raise ValueError(f"{folder} has no normalizer.json, the spelling table of wer_standard; get it again")
        return cls(model, extractor, tokenizer)

    @torch.no_grad()
    def transcribe(self, waveform: Tensor, sample_rate_hz: int, *, language: str = "en") -> list[str]:
        """Transcribe waveforms (B, S) in [-1, 1].

        Raises:
            Unscorable: `language_unknown`, `longer_than_30_s`.
        """
        if f"<|{language}|>" not in self.languages:
            raise Unscorable("language_unknown")
        rate = self.extractor.sampling_rate
        sound = resample(waveform.float(), sample_rate_hz, rate)
        if sound.shape[-1] > self.extractor.n_samples:
            raise Unscorable("longer_than_30_s")
        if self.model.device.type != "cpu":
            self.model.half()
        return [self._transcribe(one, rate, language) for one in sound]

    def _transcribe(self, sound: Tensor, rate: int, language: str) -> str:
        inputs = self.extractor(
            sound.cpu().numpy(), sampling_rate=rate, return_tensors="pt", return_attention_mask=True
        ).to(self.model.device)
        tokens = self.model.generate(
            inputs.input_features.to(self.model.dtype),
            attention_mask=inputs.attention_mask,
            language=language,
            task="transcribe",
            num_beams=N_BEAMS,
            # Whisper adds its prompt to this; `max_new_tokens` would warn at every clip
            max_length=MAX_NEW_TOKENS,
            return_timestamps=False,
        )
        return self.tokenizer.decode(tokens[0], skip_special_tokens=True).strip()


def _languages(model: WhisperForConditionalGeneration) -> set[str]:
    """Return the tokens of the languages that a network knows, such as `<|en|>`."""
    return set(getattr(model.generation_config, "lang_to_id", {}))


class StandardWords:
    """The normalisers of the Whisper paper: spelling, numbers and contractions in English, punctuation elsewhere.

    Where words are not separated by spaces every character is a word: `wer_standard` is then the rate of characters,
    and `cer_standard`, which counts the spaces between them too, is of no use.

    Args:
        spelling: American spelling by British spelling.
    """

    def __init__(self, spelling: dict[str, str]) -> None:
        self._english = EnglishTextNormalizer(spelling)
        self._spaced, self._unspaced = BasicTextNormalizer(), BasicTextNormalizer(split_letters=True)

    def __call__(self, text: str, language: str) -> str:
        """Normalise a text of a language (ISO 639-1); its contractions need apostrophes of ASCII."""
        text = one_spelling(text)
        if language == "en":
            return " ".join(self._english(text).split())
        normalise = self._unspaced if language in UNSPACED else self._spaced
        return " ".join(normalise(text).split())
