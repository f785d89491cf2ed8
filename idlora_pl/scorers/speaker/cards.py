"""The speaker scorers: two scales of WavLM, SpeechBrain's ECAPA, and d-vectors."""

from pathlib import Path

import torch

from idlora_pl.media import read_audio
from idlora_pl.metrics.clip_mean import ClipMean, mono
from idlora_pl.metrics.embedders import SpeakerEmbedder
from idlora_pl.metrics.functional import cosine_similarity
from idlora_pl.metrics.voice import VoiceSimilarity
from idlora_pl.scorers.card import Anchor, Card, Inputs, Score
from idlora_pl.scorers.speaker.error_rate import equal_error_rate
from idlora_pl.scorers.weights import WeightFile

_UNISPEECH = WeightFile(
    "speaker/wavlm_large_finetune.pth",
    "51f07e3b",
    "pip install gdown && gdown 1-aE1NfzpRCLxA4GUxX9ITI3F9LlbtEGP -O WEIGHTS/speaker/wavlm_large_finetune.pth",
    "CC BY-SA 3.0 (microsoft/UniSpeech)",
)
_WAVLM = WeightFile(
    "speaker/wavlm-large",
    None,
    "hf download microsoft/wavlm-large --local-dir WEIGHTS/speaker/wavlm-large",
    "CC BY-SA 3.0 (microsoft/unilm)",
    hashed="pytorch_model.bin",
)
_ECAPA = WeightFile(
    "speaker/spkrec-ecapa-voxceleb",
    None,
    "hf download speechbrain/spkrec-ecapa-voxceleb --local-dir WEIGHTS/speaker/spkrec-ecapa-voxceleb",
    "Apache-2.0 (speechbrain)",
    hashed="embedding_model.ckpt",
)
_DVECTOR = WeightFile(
    "speaker/saved_model.bilstm.mean.all.gpu100000.pt",
    "029711a36953c5d521990e2da43be76b15cbc43fca8affedb0a621756537b6b1",
    "curl -L --create-dirs -o WEIGHTS/speaker/saved_model.bilstm.mean.all.gpu100000.pt https://raw.githubusercontent."
    "com/wq2012/SpeakerRecognitionFromScratch/1ec7b7dc58ee/saved_model/pretrained/saved_model.bilstm.mean.all."
    "gpu100000.pt",
    "Apache-2.0 (wq2012/SpeakerRecognitionFromScratch)",
)


def _scores(name: str, title: str) -> tuple[Score, ...]:
    return (
        Score(name, title, "higher", worst=0.0),
        Score(f"{name}_target", f"{title}, target", "higher", worst=0.0),
        Score(f"{name}_first_0.5s", f"{title}, first 0.5 s", "higher", worst=0.0),
        Score(f"{name}_rest", f"{title}, rest", "higher", worst=0.0),
    )


def _standard(weights: Path) -> ClipMean:
    from idlora_pl.scorers.speaker.wavlm import WavLMSpeaker

    return VoiceSimilarity(WavLMSpeaker.from_pretrained(weights / _UNISPEECH.path, "standard"), name="spk_sim")


def _hybrid(weights: Path) -> ClipMean:
    from idlora_pl.scorers.speaker.wavlm import WavLMSpeaker

    model = WavLMSpeaker.from_pretrained(weights / _UNISPEECH.path, "idlora", weights / _WAVLM.path)
    return VoiceSimilarity(model, name="spk_sim_idlora")


def _ecapa(weights: Path) -> ClipMean:
    from idlora_pl.scorers.speaker.speechbrain_ecapa import SpeechBrainEcapa

    return VoiceSimilarity(SpeechBrainEcapa.from_pretrained(weights / _ECAPA.path), name="spk_sim_ecapa")


def _dvector(weights: Path) -> ClipMean:
    from idlora_pl.scorers.speaker.dvector import DVector

    return VoiceSimilarity(DVector.from_pretrained(weights / _DVECTOR.path), name="spk_sim_dvector")


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
    for speaker in sorted(path for path in folder.iterdir() if path.is_dir()):
        for path in sorted(speaker.glob("*.flac"))[:per_speaker]:
            waveform, rate = read_audio(path)
            vectors.append(embedder.embed(mono(waveform)[None], rate)[0])
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


def _measure_dvector(scorer: ClipMean, inputs: Inputs) -> dict[str, float]:
    assert isinstance(scorer, VoiceSimilarity)
    return librispeech_pairs(scorer.embedder, inputs / "librispeech_test-other", 4)


CARDS = (
    Card(
        "spk_sim",
        "Cosine of WavLM-large speaker embeddings (UniSpeech, fine-tuned body and head) with the reference.",
        _scores("spk_sim", "Spk Sim (WavLM SV)"),
        (_UNISPEECH,),
        _standard,
        packages=("torch", "torchaudio", "transformers"),
        notes="The field's standard scale. No value of this exact checkpoint on public recordings is known to us.",
    ),
    Card(
        "spk_sim_idlora",
        "The authors' hybrid: stock WavLM-large under the fine-tuned head, raw waveform.",
        _scores("spk_sim_idlora", "Spk Sim (authors' hybrid)"),
        (_UNISPEECH, _WAVLM),
        _hybrid,
        packages=("torch", "torchaudio", "transformers"),
        notes="The scale of the paper's tables, as far as the released code tells; not comparable with spk_sim.",
    ),
    Card(
        "spk_sim_ecapa",
        "Cosine of SpeechBrain's ECAPA-TDNN embeddings (spkrec-ecapa-voxceleb) with the reference.",
        _scores("spk_sim_ecapa", "Spk Sim (ECAPA)"),
        (_ECAPA,),
        _ecapa,
        packages=("torch", "torchaudio", "speechbrain"),
        extra="eval",
    ),
    Card(
        "spk_sim_dvector",
        "Cosine of small BiLSTM d-vectors with the reference.",
        _scores("spk_sim_dvector", "Spk Sim (d-vector)"),
        (_DVECTOR,),
        _dvector,
        Anchor(
            "Seven LibriSpeech test-other speakers, the first four utterances each: mean cosine of one and of two "
            "speakers, equal error rate; recorded with librosa's features (0.874, 0.248 and 1.1 % on ten speakers).",
            {"same": 0.874, "different": 0.248, "eer": 0.011},
            {"same": 0.04, "different": 0.08, "eer": 0.03},
            _measure_dvector,
            ("librispeech_test-other",),
            "github.com/resemble-ai/Resemblyzer, audio_data/librispeech_test-other, into INPUTS",
            quick=True,
        ),
        packages=("torch", "torchaudio"),
        notes="A weak network, useful where the standard weights cannot be had; never compare its values with others.",
    ),
)
