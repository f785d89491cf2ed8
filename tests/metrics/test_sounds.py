"""Sound against description: which text is compared, one pass of the sound, and a reason for what is missing."""

import pickle

import pytest
import torch

from idlora_pl.media.clip import Clip
from idlora_pl.metrics.clip_mean import Expected
from idlora_pl.metrics.sounds import NO_ENVIRONMENT, SoundsSimilarity, environment_text, released_sound

RATE = 48000
SOUND = 0.1 * torch.sin(torch.arange(RATE) * 0.3)


def clip_of(sound):
    return Clip(torch.zeros(1, 3, 4, 4, dtype=torch.uint8), sound[None], 25.0, RATE)


class Places:
    """Maps sound and text to the plane: sound to its first samples, a text to the angle of its length in degrees."""

    def __init__(self) -> None:
        self.heard, self.read = [], []

    def embed_audio(self, waveform, sample_rate_hz):
        self.heard.append((tuple(waveform.shape), sample_rate_hz))
        return torch.tensor([[1.0, 0.0]]).repeat(len(waveform), 1)

    def embed_text(self, texts):
        self.read += texts
        angles = torch.deg2rad(torch.tensor([float(len(text)) for text in texts]))
        return 3 * torch.stack([angles.cos(), angles.sin()], 1)


def test_three_cosines_come_from_one_pass_of_the_sound():
    metric = SoundsSimilarity(Places())
    score = metric.score(SOUND, sample_rate_hz=RATE, environment="r" * 60, style="s" * 30, sounds="t" * 90)
    assert score.values == pytest.approx(
        {"clap_environment": 0.5, "clap_style": 0.75**0.5, "clap_sounds": 0.0}, abs=1e-6
    )
    assert metric.embedder.heard == [((1, RATE), RATE)]


def test_the_released_path_has_names_of_its_own_and_a_narrow_sound():
    metric = SoundsSimilarity(Places(), described=("environment", "style"), path="released")
    score = metric.score(SOUND, sample_rate_hz=RATE, environment="a", style="b", sounds="c")
    assert set(score.values) == {"clap_environment_16k", "clap_style_16k"}
    assert metric.embedder.heard == [((1, 16000), 16000)]
    assert metric.embedder.read == ["a", "b"]


def test_the_released_sound_has_16_bits_and_nothing_above_8_khz():
    times = torch.arange(RATE) / RATE
    low, high = (0.5 * torch.sin(6.2832 * pitch * times) for pitch in (1000, 12000))
    sound, rate = released_sound(low + high, RATE)
    alone, _ = released_sound(low, RATE)
    assert rate == 16000
    assert (sound - alone)[1000:-1000].abs().max() < 0.01
    assert torch.equal(sound * 32768, (sound * 32768).round())
    assert released_sound(torch.tensor([1.5, -1.5]).repeat(8000), 16000)[0].unique().tolist() == [-1.0, 32767 / 32768]


@pytest.mark.parametrize("text", ["none", "None", " NONE. "])
def test_no_environment_is_looked_for_in_the_authors_words(text):
    assert environment_text(text) == NO_ENVIRONMENT
    metric = SoundsSimilarity(Places())
    metric.score(SOUND, sample_rate_hz=RATE, environment=text, style="none")
    assert metric.embedder.read == [NO_ENVIRONMENT, "none"]


@pytest.mark.parametrize(
    ("waveform", "reason"),
    [(SOUND[:0], "no_audio"), (SOUND[:10], "too_short"), (0 * SOUND, "silent"), (SOUND / 0, "not_finite")],
)
def test_sound_that_cannot_be_scored_has_a_reason(waveform, reason):
    metric = SoundsSimilarity(Places())
    score = metric.score(waveform, sample_rate_hz=RATE, environment="a", style="b", sounds="c")
    assert {score.reason_of(name) for name in metric.names} == {reason}


def test_without_texts_the_network_does_not_run():
    metric = SoundsSimilarity(Places())
    assert metric.score_clip(clip_of(SOUND), Expected(sounds=" ")).reasons == {
        "clap_environment": "no_environment_text",
        "clap_style": "no_style_text",
        "clap_sounds": "no_sounds_text",
    }
    assert metric.embedder.heard == []


def test_batches_order_and_pickling_do_not_change_the_means():
    clips = [clip_of(SOUND), clip_of(SOUND), clip_of(0 * SOUND)]
    expected = [Expected(environment_sounds=text) for text in ("a" * 60, "", "b" * 90)]
    whole, split = SoundsSimilarity(Places()), SoundsSimilarity(Places())
    whole.update(clips, expected)
    for index in (2, 0, 1):
        split.update(clips[index], expected[index])
    found, again = whole.compute(), pickle.loads(pickle.dumps(split)).compute()
    assert {k: v.item() for k, v in again.items()} == pytest.approx(
        {k: v.item() for k, v in found.items()}, nan_ok=True
    )
    assert found["clap_environment"].item() == pytest.approx(0.5)
    assert (found["clap_environment/n_scored"], found["clap_environment/n_total"]) == (1, 3)
