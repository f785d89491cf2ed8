"""Perturbations: what they reach, for which samples, and values that are refused."""

import pytest
import torch

from idlora_pl.method.guidance import UNPERTURBED, Perturbation


@pytest.mark.parametrize(
    ("modalities", "video", "audio"), [("both", True, True), ("video", True, False), ("audio", False, True)]
)
def test_a_perturbation_reaches_its_blocks_and_modalities(modalities, video, audio):
    perturbation = Perturbation(blocks=(1,), modalities=modalities)
    assert perturbation.reaches(1, "video") is video
    assert perturbation.reaches(1, "audio") is audio
    assert not perturbation.reaches(0, "video")


def test_samples_that_are_all_or_none_are_no_samples():
    every, none = torch.ones(3, dtype=torch.bool), torch.zeros(3, dtype=torch.bool)
    assert Perturbation((1,), isolate=True, samples=every).for_batch(3) == Perturbation((1,), isolate=True)
    assert Perturbation((1,), isolate=True, samples=none).for_batch(3) == UNPERTURBED
    some = Perturbation(isolate=True, samples=torch.tensor([True, False]))
    assert some.for_batch(2) is some


def test_samples_of_another_batch_are_refused():
    with pytest.raises(ValueError, match=r"perturbation.samples must hold 3 values like the batch; got 2"):
        Perturbation(isolate=True, samples=torch.tensor([True, False])).for_batch(3)


def test_values_that_are_no_choice_are_refused():
    with pytest.raises(ValueError, match="modalities must be one of both, video, audio; got 'sound'"):
        Perturbation(modalities="sound")
    with pytest.raises(ValueError, match=r"samples must be \(B,\) bool; got \(2,\) torch.float32"):
        Perturbation(samples=torch.ones(2))
