"""CLAP through transformers.

Letters: B clips or texts, S samples, D embedding size.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn
from torchaudio.functional import resample
from transformers import AutoTokenizer, ClapFeatureExtractor, ClapModel, PreTrainedTokenizerBase

from idlora_pl.metrics.scorable import Unscorable
from idlora_pl.scorers.snapshot import load_snapshot

MAX_TOKENS = 512
"""Longest text that the network was built for."""


class Clap(nn.Module):
    """Embeds one sound or text at a time; satisfies `metrics.embedders.AudioTextEmbedder`.

    The network looks at 10 s. A shorter sound is repeated as often as it fits and then padded with zeros, as its own
    preprocessing does. Of a longer one its own preprocessing takes a random part, which here is the middle, so that a
    value can be computed twice. A text of more than 512 tokens is `text_too_long`.

    Args:
        model: The network.
        extractor: Its spectrograms.
        tokenizer: Its vocabulary.
    """

    def __init__(self, model: ClapModel, extractor: ClapFeatureExtractor, tokenizer: PreTrainedTokenizerBase) -> None:
        super().__init__()
        self.model = model
        self.extractor, self.tokenizer = extractor, tokenizer

    @classmethod
    def from_pretrained(cls, folder: Path) -> "Clap":
        """Load a snapshot of the Hugging Face hub.

        Raises:
            ValueError: The snapshot lacks tensors, or is a fused network, which looks at long sounds differently.
        """
        model = load_snapshot(ClapModel, folder)
        extractor = ClapFeatureExtractor.from_pretrained(folder, local_files_only=True)
        if extractor.truncation != "rand_trunc":
            raise ValueError(
                f"{folder} is a fused CLAP (truncation {extractor.truncation!r}); get laion/clap-htsat-unfused"
            )
        return cls(model, extractor, AutoTokenizer.from_pretrained(folder, local_files_only=True))

    @torch.no_grad()
    def embed_audio(self, waveform: Tensor, sample_rate_hz: int) -> Tensor:
        """Embed waveforms (B, S) in [-1, 1]; returns (B, D) of length 1."""
        rate, wanted = self.extractor.sampling_rate, self.extractor.nb_max_samples
        sound = resample(waveform.float(), sample_rate_hz, rate)
        start = max(0, (sound.shape[-1] - wanted) // 2)
        return torch.cat([self._embed_audio(one, rate) for one in sound[:, start : start + wanted]])

    def _embed_audio(self, sound: Tensor, rate: int) -> Tensor:
        inputs = self.extractor(sound.cpu().numpy(), sampling_rate=rate, return_tensors="pt")
        features = inputs.input_features.to(self.model.device, self.model.dtype)
        return self.model.get_audio_features(features, is_longer=inputs.is_longer).pooler_output

    @torch.no_grad()
    def embed_text(self, texts: Sequence[str]) -> Tensor:
        """Embed B texts; returns (B, D) of length 1.

        Raises:
            Unscorable: `text_too_long`.
        """
        return torch.cat([self._embed_text(text) for text in texts])

    def _embed_text(self, text: str) -> Tensor:
        inputs = self.tokenizer(text, return_tensors="pt")
        if inputs["input_ids"].shape[1] > MAX_TOKENS:
            raise Unscorable("text_too_long")
        tokens = {name: inputs[name].to(self.model.device) for name in ("input_ids", "attention_mask")}
        return self.model.get_text_features(**tokens).pooler_output


@cache
def load_clap(folder: Path) -> Clap:
    """Return the network of a snapshot; one for all scorers, which differ in the sound that it hears.

    Raises:
        ValueError: The snapshot is one of the fused networks.
    """
    return Clap.from_pretrained(folder)
