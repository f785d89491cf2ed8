"""Cepstra against values that python_speech_features 0.6 gave (with NumPy 1.26 and SciPy 1.17)."""

import pytest
import torch

from idlora_pl.scorers.lips.mfcc import as_16_bit, mfcc

# python_speech_features.mfcc(x, 16000) of `samples`; rows 0, 7 and 29 of 30.
GOLDEN = {
    0: "23.2102808 -33.2883972 -7.9053635 -7.3471926 -2.4006977 -4.2143313 0.2675711 -0.7194848 -3.1680926 -1.5038532"
    " -2.8399587 -1.5397554 -1.2588144",
    7: "23.4060265 -34.0443892 -5.3929852 -10.8617447 -8.5329969 -11.6868191 -4.4665089 5.9145622 10.9444639 2.9265175"
    " -9.9819154 -7.1297272 -2.7486253",
    29: "23.2394037 -33.5904233 -6.0288151 -7.8501861 0.3750817 -1.6728031 1.3788167 -5.0080614 -5.3334047 -6.5930723"
    " 2.0625150 8.4240151 5.5993238",
}


def samples() -> torch.Tensor:
    """Whole numbers that are the same on every machine."""
    i = torch.arange(5000)
    return ((i * i * 31) % 20011 - 10005 + (i * 17) % 4001).double()


@pytest.mark.parametrize("row", GOLDEN)
def test_cepstra_equal_those_of_python_speech_features(row: int) -> None:
    found = mfcc(samples())
    assert found.shape == (30, 13)
    expected = torch.tensor([float(x) for x in GOLDEN[row].split()], dtype=torch.float64)
    torch.testing.assert_close(found[row], expected, atol=1e-6, rtol=0)


def test_silence_has_the_cepstra_of_the_smallest_energy() -> None:
    found = mfcc(torch.zeros(401))
    assert found.shape == (2, 13)
    torch.testing.assert_close(found[:, 0], torch.full((2,), -36.04365338911715).double())
    assert found[:, 1:].abs().max() < 1e-10


@pytest.mark.parametrize(("n_samples", "n_steps"), [(1, 1), (400, 1), (401, 2), (560, 2), (561, 3), (16_000, 99)])
def test_every_sample_is_heard(n_samples: int, n_steps: int) -> None:
    assert len(mfcc(torch.ones(n_samples))) == n_steps


def test_sound_that_is_shifted_by_whole_steps_has_shifted_cepstra() -> None:
    sound = samples()
    torch.testing.assert_close(mfcc(sound[3 * 160 :])[1:20], mfcc(sound)[4:23], atol=1e-9, rtol=0)


def test_samples_are_those_of_a_16_bit_file() -> None:
    found = as_16_bit(torch.tensor([0.0, 0.5, 1.0, -1.0, 1.5, 1e-6]), 16_000)
    assert found.tolist() == [0.0, 16384.0, 32767.0, -32768.0, 32767.0, 0.0]


@pytest.mark.parametrize("sample_rate_hz", [8_000, 44_100, 48_000])
def test_another_rate_keeps_the_duration(sample_rate_hz: int) -> None:
    assert len(as_16_bit(torch.zeros(sample_rate_hz), sample_rate_hz)) == 16_000
