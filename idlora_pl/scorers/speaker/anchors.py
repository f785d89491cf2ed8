"""What proves the speaker scorers: public recordings with known values."""

from pathlib import Path

import torch
from torch import Tensor

from idlora_pl.files import files_below, is_hidden
from idlora_pl.media import read_audio
from idlora_pl.metrics.clip_mean import ClipMean, mono
from idlora_pl.metrics.embedders import SpeakerEmbedder
from idlora_pl.metrics.functional import cosine_similarity
from idlora_pl.metrics.speaker import VoiceSimilarity
from idlora_pl.scorers.card import Inputs
from idlora_pl.scorers.speaker.error_rate import equal_error_rate

UNISPEECH = tuple(
    f"unispeech/{name}.wav" for name in ("hn8GyCJIfLM_0000012", "xTOk1Jz-F_g_0000015", "HXUqYaOwrxA_0000015")
)
"""Two recordings of one speaker, and one of another."""
SPEECHBRAIN = tuple(f"speechbrain_asr/{name}.wav" for name in ("spk1_snt1", "spk1_snt2", "spk2_snt1"))
"""Two recordings of one speaker, and one of another."""
LIBRISPEECH = ("librispeech_test-other",)
SPEECHBRAIN_THRESHOLD = 0.25
_PER_SPEAKER = 4


def embedding_of(embedder: SpeakerEmbedder, path: Path) -> Tensor:
    """Embed a file; returns (1, D)."""
    waveform, rate = read_audio(path)
    return embedder.embed(mono(waveform)[None], rate)


def same_and_different(embedder: SpeakerEmbedder, paths: list[Path]) -> dict[str, float]:
    """Compare the first recording with the second, which is of the same speaker, and with the third, which is not."""
    first, second, third = (embedding_of(embedder, path) for path in paths)
    pairs = {"same": second, "different": third}
    return {name: cosine_similarity(first, other).item() for name, other in pairs.items()}


def unispeech_pair(metric: ClipMean, inputs: Inputs) -> dict[str, float]:
    """Measure the pairs of UniSpeech's README."""
    assert isinstance(metric, VoiceSimilarity)
    return same_and_different(metric.embedder, [inputs / name for name in UNISPEECH])


def speechbrain_decisions(metric: ClipMean, inputs: Inputs) -> dict[str, float]:
    """Decide as the model's card does whether its recordings are of one speaker: 1, or 0."""
    assert isinstance(metric, VoiceSimilarity)
    found = same_and_different(metric.embedder, [inputs / name for name in SPEECHBRAIN])
    return {name: float(value > SPEECHBRAIN_THRESHOLD) for name, value in found.items()}


def librispeech_voices(metric: ClipMean, inputs: Inputs) -> dict[str, float]:
    """Compare all pairs of the first four utterances of each speaker."""
    assert isinstance(metric, VoiceSimilarity)
    return librispeech_pairs(metric.embedder, inputs / LIBRISPEECH[0], _PER_SPEAKER)


def librispeech_pairs(embedder: SpeakerEmbedder, folder: Path, per_speaker: int) -> dict[str, float]:
    """Compare all pairs of utterances of LibriSpeech speakers.

    Args:
        embedder: The speaker network.
        folder: One folder a speaker with flac files.
        per_speaker: How many utterances of each speaker, in the order of their names.

    Returns:
        `same` and `different`, mean cosines, and `eer`, the equal error rate.
    """
    vectors, speakers = [], []
    for speaker in sorted(path for path in folder.iterdir() if path.is_dir() and not is_hidden(path.name)):
        for path in files_below(speaker, (".flac",), deep=False)[:per_speaker]:
            vectors.append(embedding_of(embedder, path)[0])
            speakers.append(speaker.name)
    first, second = torch.triu_indices(len(vectors), len(vectors), offset=1)
    stacked = torch.stack(vectors)
    values = cosine_similarity(stacked[first], stacked[second])
    same = torch.tensor([speakers[a] == speakers[b] for a, b in zip(first.tolist(), second.tolist(), strict=True)])
    return {
        "same": values[same].mean().item(),
        "different": values[~same].mean().item(),
        "eer": equal_error_rate(values[same], values[~same]),
    }
