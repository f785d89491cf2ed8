"""The log-mel front end against the numbers of the reference implementation."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from idlora_pl.ltx2.audio_codec import LogMel

GOLDEN = Path(__file__).parent / "golden"
CASE = json.loads((GOLDEN / "mel.json").read_text())
TENSORS = load_file(GOLDEN / "mel.safetensors")
RESAMPLED = ("in.wave44k", 44100, "out.mel_from44k")
PLAIN = ("in.wave16k", 16000, "out.mel16k")


@pytest.mark.parametrize(("wave", "rate", "mel"), [PLAIN, RESAMPLED])
def test_log_mel_equals_the_references_to_the_rounding_of_its_fft(wave, rate, mel):
    # One channel of the case is a pure tone. Its empty bands hold the rounding noise of a float32 FFT, 1e-7
    # of the tone, whose logarithm is arbitrary: the AVX-512 and AVX paths of MKL differ there by 4e-3.
    ours, theirs = LogMel()(TENSORS[wave], rate), TENSORS[mel]
    rounding = 1e-7 * theirs.exp().amax(-1, keepdim=True) / theirs.exp()
    assert ((ours - theirs).abs() <= CASE["tolerance"] + 4 * rounding).all()


def test_a_louder_sound_is_louder_by_its_logarithm_in_every_band():
    # magnitude, not power: ten times the amplitude is ln 10 more
    quiet = LogMel()(TENSORS["in.wave16k"][:, :1], 16000)
    loud = LogMel()(10 * TENSORS["in.wave16k"][:, :1], 16000)
    heard = quiet > -10
    torch.testing.assert_close((loud - quiet)[heard], torch.full_like(quiet, 10).log()[heard], atol=1e-4, rtol=0)


def test_silence_lies_on_the_floor():
    assert (LogMel()(torch.zeros(1, 2, 16000), 16000) == torch.tensor(1e-5).log()).all()
