"""The scorers of sounds against their descriptions: CLAP on the sound as it is, and as the authors' metric hears it.

What proves them is a public sound with the probabilities that are published for it.
"""

from pathlib import Path

from idlora_pl.media.reading import read_audio
from idlora_pl.metrics.clip_mean import ClipMean, mono
from idlora_pl.metrics.functional import cosine_similarity
from idlora_pl.metrics.sounds import SoundsSimilarity
from idlora_pl.scorers.card import Anchor, Card, Inputs
from idlora_pl.scorers.scores import SCORES
from idlora_pl.scorers.weights import WeightFile

DOG = "esc50/1-100032-A-0.wav"
TEXTS = tuple(f"This is a sound of {label}." for label in ("Sound of a dog", "Sound of vaccum cleaner"))
"""As transformers' zero-shot pipeline words the labels of its example, misspelt as there."""
ASSUMED_RATE_HZ = 48000
"""The example hands the samples over without their rate, so that they are taken for samples of the network's own."""


def dog_or_vacuum_cleaner(metric: ClipMean, inputs: Inputs) -> dict[str, float]:
    """Measure the log odds of a dog against a vacuum cleaner, for a recording of a dog."""
    from idlora_pl.scorers.sounds.clap import Clap

    assert isinstance(metric, SoundsSimilarity)
    network = metric.embedder
    assert isinstance(network, Clap)
    heard = network.embed_audio(mono(read_audio(inputs / DOG)[0])[None], ASSUMED_RATE_HZ)
    dog, cleaner = cosine_similarity(heard.expand(2, -1), network.embed_text(TEXTS)).tolist()
    return {"log_odds": network.model.logit_scale_a.exp().item() * (dog - cleaner)}


_CLAP = WeightFile(
    "sounds/clap-htsat-unfused",
    "1cd3c601bc4afe0fa87be3de4c13dd2cfadd249fac1e29acf74a9b296c3219bb",
    "hf download laion/clap-htsat-unfused --revision 8fa0f1c6d0433df6e97c127f64b2a1d6c0dcda8a "
    "--include '*.json' --include merges.txt --include pytorch_model.bin --local-dir WEIGHTS/sounds/clap-htsat-unfused",
    "Apache-2.0 (laion/clap-htsat-unfused)",
    hashed="pytorch_model.bin",
)
_NOTES = (
    "An environment of 'none' is looked for as 'clear speech with no ambient or environmental sounds', as in the "
    "authors' code. Of sounds longer than 10 s the middle is heard; the authors' preprocessing takes a random part."
)


_ANCHOR = Anchor(
    "The first recording of ESC-50, a dog, as transformers' zero-shot pipeline hears it: 0.9996 for a dog and 0.0004 "
    "for a vacuum cleaner in its documentation, which are log odds of 7.7 to 8.0.",
    {"log_odds": 7.82},
    {"log_odds": 0.5},
    dog_or_vacuum_cleaner,
    (DOG,),
    f"curl -L --create-dirs -o INPUTS/{DOG} https://github.com/karolpiczak/ESC-50/raw/master/audio/1-100032-A-0.wav",
    quick=True,
)


def _native(weights: Path) -> ClipMean:
    from idlora_pl.scorers.sounds.clap import load_clap

    return SoundsSimilarity(load_clap(weights / _CLAP.path))


def _released(weights: Path) -> ClipMean:
    from idlora_pl.scorers.sounds.clap import load_clap

    return SoundsSimilarity(load_clap(weights / _CLAP.path), path="released")


CARDS = (
    Card(
        "clap",
        "Cosine of CLAP embeddings of the sound at 48 kHz and of its descriptions.",
        SCORES["clap"],
        (_CLAP,),
        _native,
        _ANCHOR,
        packages=("torch", "torchaudio", "transformers"),
        notes=_NOTES,
    ),
    Card(
        "clap_16k",
        "The authors' path: the sound goes through 16 kHz and 16 bits before CLAP hears it at 48 kHz.",
        SCORES["clap_16k"],
        (_CLAP,),
        _released,
        _ANCHOR,
        packages=("torch", "torchaudio", "transformers"),
        notes=_NOTES + " At most 30 s are heard. Resampled with torchaudio where the authors use ffmpeg and librosa.",
    ),
)
