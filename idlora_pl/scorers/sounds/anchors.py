"""What proves the scorers of sounds: a public sound and the probabilities that are published for it."""

from idlora_pl.media import read_audio
from idlora_pl.metrics.clip_mean import ClipMean, mono
from idlora_pl.metrics.functional import cosine_similarity
from idlora_pl.metrics.sounds import SoundsSimilarity
from idlora_pl.scorers.card import Inputs

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
