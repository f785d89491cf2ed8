"""Wav and png files come back as they were written, and appear whole or not at all."""

import pytest
import torch

from idlora_pl.media.reading import read_audio, read_image
from idlora_pl.media.writing import write_audio, write_image


@pytest.mark.parametrize(("n_channels", "rate_hz"), [(1, 16000), (2, 48000)])
def test_sound_comes_back_to_half_a_step_of_16_bits(tmp_path, n_channels, rate_hz):
    sound = 0.99 * (torch.rand(n_channels, 1000) * 2 - 1)
    write_audio(sound, tmp_path / "new" / "a.wav", rate_hz)
    back, rate = read_audio(tmp_path / "new" / "a.wav")
    assert rate == rate_hz
    assert (back - sound).abs().max() <= 0.51 / 32768
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.wav"]


def test_sound_above_full_scale_is_clipped(tmp_path):
    write_audio(torch.full((1, 100), 3.0), tmp_path / "a.wav", 16000)
    assert read_audio(tmp_path / "a.wav")[0].max() <= 1


def test_a_picture_comes_back_exactly(tmp_path):
    picture = torch.randint(0, 256, (3, 37, 53), dtype=torch.uint8)
    write_image(picture, tmp_path / "a.png")
    write_image(255 - picture, tmp_path / "a.png")
    assert torch.equal(read_image(tmp_path / "a.png"), 255 - picture)


def test_what_is_no_sound_or_no_picture_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"waveform must be \(1 or 2, S\) with S > 0; got \(1, 0\)"):
        write_audio(torch.zeros(1, 0), tmp_path / "a.wav", 16000)
    with pytest.raises(ValueError, match=r"waveform must be .* got \(3, 9\); mix it down"):
        write_audio(torch.zeros(3, 9), tmp_path / "a.wav", 16000)
    with pytest.raises(ValueError, match=r"image must be uint8 \(3, H, W\); got \(4, 4\)"):
        write_image(torch.zeros(4, 4, dtype=torch.uint8), tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []
