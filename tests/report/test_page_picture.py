"""Pictures of sounds show when, how loud and how high, on the same scales for every sound."""

import numpy as np
import pytest
import torch
from torchaudio.functional import resample

from idlora_pl.report.page.clips import N_MELS, PIXELS_PER_SECOND, TICK_HEIGHT, WAVE_HEIGHT, sound_picture

MEL = slice(WAVE_HEIGHT, WAVE_HEIGHT + N_MELS)


def tone(hertz, seconds=2.0, rate=16000, level=0.5):
    return level * torch.sin(2 * torch.pi * hertz * torch.arange(round(rate * seconds)) / rate)[None]


def brightest(picture):
    """Mel band, counted from below, that is brightest over time."""
    return N_MELS - 1 - int(picture[MEL].astype(int).sum((1, 2)).argmax())


def test_a_higher_tone_stands_higher():
    bands = [brightest(sound_picture(tone(hertz), 16000)) for hertz in (200, 600, 1500, 4000, 7000)]
    assert bands == sorted(bands)
    assert len(set(bands)) == 5


def test_the_rate_of_the_file_does_not_move_a_tone():
    assert brightest(sound_picture(tone(1000, rate=48000), 48000)) == brightest(sound_picture(tone(1000), 16000))


def test_width_is_time_and_half_seconds_are_ticked():
    picture = sound_picture(tone(300, 2.5), 16000)
    assert picture.shape == (WAVE_HEIGHT + N_MELS + TICK_HEIGHT, round(2.5 * PIXELS_PER_SECOND), 3)
    ticks = np.flatnonzero((picture[-TICK_HEIGHT] != picture[-TICK_HEIGHT, 0]).any(1))
    assert ticks.tolist() == [60, 120, 180, 240, 299]
    long = np.flatnonzero((picture[-1] != picture[-1, 0]).any(1))
    assert long.tolist() == [120, 240]


def test_sound_is_drawn_where_it_is():
    waveform = torch.cat([torch.zeros(1, 16000), tone(500, 1.0)], 1)
    picture = sound_picture(waveform, 16000).astype(int)
    half = picture.shape[1] // 2
    assert picture[MEL, : half - 6, 0].max() == 0 < picture[MEL, half + 6 :, 0].max()
    drawn = (picture[:WAVE_HEIGHT] == picture[WAVE_HEIGHT // 2, half + 20]).all(2).sum(0)
    assert drawn[: half - 2].max() <= 2 < 20 < drawn[half + 2 :].min()


def test_a_louder_sound_is_brighter_and_taller():
    quiet, loud = (sound_picture(tone(500, level=level), 16000).astype(int) for level in (0.01, 0.8))
    assert loud[MEL].sum() > 1.2 * quiet[MEL].sum()


@pytest.mark.parametrize("seconds", [1 / 16000, 0.01, 0.2])
def test_short_sounds_are_drawn(seconds):
    assert sound_picture(tone(500, seconds), 16000).shape[1] >= 1


def test_stereo_silence_and_broken_samples_are_drawn():
    flat = sound_picture(torch.zeros(2, 16000), 44100)
    assert np.ptp(flat[MEL].reshape(-1, 3), axis=0).max() == 0
    broken = tone(500)
    broken[0, ::7] = torch.nan
    assert sound_picture(broken, 16000).shape == sound_picture(resample(tone(500), 16000, 16000), 16000).shape
