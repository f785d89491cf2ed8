"""Voice similarity: whole clip, against the target, at the start and in the rest."""

import pytest
import torch

from idlora_pl.media.clip import Clip
from idlora_pl.metrics.clip_mean import Expected
from idlora_pl.metrics.speaker import VoiceSimilarity

RATE = 16000


class Pitch:
    """An embedder that can be followed by hand: the spectrum below 1 kHz, of one direction per tone."""

    def embed(self, waveform, sample_rate_hz):
        spectrum = torch.fft.rfft(waveform, n=sample_rate_hz).abs()
        return spectrum[:, 50:1000]


def tone(hertz, seconds=2.0):
    return 0.1 * torch.sin(2 * torch.pi * hertz * torch.arange(round(seconds * RATE)) / RATE)


@pytest.fixture
def metric():
    return VoiceSimilarity(Pitch(), name="spk")


def test_a_wrong_voice_in_the_first_half_second_is_seen_there_and_only_there(metric):
    clip = torch.cat([tone(700, 0.5), tone(300, 2.0)])
    score = metric.score(clip, sample_rate_hz=RATE, reference=(tone(300), RATE))
    assert score.values["spk_first_0.5s"] < 0.1
    assert score.values["spk_rest"] > 0.99
    curve = score.curves["spk"]
    assert (curve.start_s, curve.step_s, len(curve.values)) == (0.0, 0.25, 7)
    assert curve.values[0] < 0.9 < 0.99 < curve.values[-1]


def test_reference_and_target_are_scored_apart(metric):
    score = metric.score(tone(300), sample_rate_hz=RATE, reference=(tone(300), RATE), target=(tone(700), RATE))
    assert score.values["spk"] > 0.99
    assert score.values["spk_target"] < 0.1


@pytest.mark.parametrize(
    ("options", "reasons"),
    [
        (
            {},
            {
                "spk": "no_reference",
                "spk_target": "no_target",
                "spk_first_0.5s": "no_reference",
                "spk_rest": "no_reference",
            },
        ),
        (
            {"reference": (torch.zeros(9000), RATE), "target": (tone(300), RATE)},
            dict.fromkeys(("spk", "spk_first_0.5s", "spk_rest"), "reference_silent"),
        ),
        ({"reference": (tone(300), RATE), "target": (torch.zeros(0), RATE)}, {"spk_target": "target_no_audio"}),
    ],
)
def test_what_is_missing_has_its_own_reason(metric, options, reasons):
    score = metric.score(tone(300), sample_rate_hz=RATE, **options)
    assert score.reasons == reasons
    assert set(score.values) == set(metric.names) - set(reasons)


def test_a_clip_that_ends_early_has_no_rest_and_a_silent_start_has_no_start(metric):
    short = metric.score(tone(300, 0.6), sample_rate_hz=RATE, reference=(tone(300), RATE))
    assert short.reasons["spk_rest"] == "too_short"
    quiet = torch.cat([torch.zeros(RATE // 2), tone(300)])
    score = metric.score(quiet, sample_rate_hz=RATE, reference=(tone(300), RATE))
    assert score.reasons["spk_first_0.5s"] == "silent"
    assert score.values["spk_rest"] > 0.99


@pytest.mark.parametrize(
    ("clip", "reason"),
    [
        (torch.zeros(RATE), "silent"),
        (torch.zeros(0), "no_audio"),
        (torch.full((RATE,), float("nan")), "not_finite"),
        (tone(300, 0.1), "too_short"),
    ],
)
def test_a_clip_that_cannot_be_scored_has_one_reason_for_all(metric, clip, reason):
    score = metric.score(clip, sample_rate_hz=RATE, reference=(tone(300), RATE))
    assert (score.values, score.reason) == ({}, reason)
    assert {score.reason_of(name) for name in metric.names} == {reason}


def test_means_count_each_name_on_its_own(metric):
    clip = Clip(torch.zeros(1, 3, 4, 4, dtype=torch.uint8), tone(300)[None], 25.0, RATE)
    metric.update([clip, clip], [Expected(tone(300)[None]), Expected(tone(700)[None])])
    found = metric.compute()
    assert found["spk"].item() == pytest.approx(0.5, abs=0.01)
    assert (found["spk/n_scored"], found["spk_target/n_scored"], found["spk_target/n_total"]) == (2, 0, 2)
    assert torch.isnan(found["spk_target"])


def test_no_recording_is_embedded_twice(metric, monkeypatch):
    seen = []
    embed = metric.embedder.embed
    monkeypatch.setattr(
        metric.embedder, "embed", lambda voice, rate: (seen.append(voice.numpy().tobytes()), embed(voice, rate))[1]
    )
    target = tone(300, 1.7)
    metric.score(tone(310, 3.1), sample_rate_hz=RATE, reference=(tone(320), RATE), target=(target, RATE))
    assert len(seen) == len(set(seen)) == 3 + 2 + 9  # three recordings, two parts, nine windows
