"""Perturbations: what they reach, and values that are refused."""

import pytest

from idlora_pl.method.guidance import Perturbation


@pytest.mark.parametrize(
    ("modalities", "video", "audio"), [("both", True, True), ("video", True, False), ("audio", False, True)]
)
def test_a_perturbation_reaches_its_blocks_and_modalities(modalities, video, audio):
    perturbation = Perturbation(blocks=(1,), modalities=modalities)
    assert perturbation.reaches(1, "video") is video
    assert perturbation.reaches(1, "audio") is audio
    assert not perturbation.reaches(0, "video")


def test_values_that_are_no_choice_are_refused():
    with pytest.raises(ValueError, match="modalities must be one of both, video, audio; got 'sound'"):
        Perturbation(modalities="sound")
