"""How the instruments are checked, against values worked out by hand and against loops."""

import pytest
import torch

from idlora_pl.nano.pretraining.checks import equal_error_rate, expected_words, lip_sync_check, speaker_check
from idlora_pl.nano.render import render
from idlora_pl.nano.world import script, speaker


def test_equal_error_rate_by_hand() -> None:
    assert equal_error_rate(torch.tensor([0.9, 0.8, 0.7]), torch.tensor([0.1, 0.2])) == 0.0
    # One of four same pairs below and one of four different pairs above any threshold between 0.4 and 0.6.
    same, different = torch.tensor([0.9, 0.8, 0.7, 0.3]), torch.tensor([0.1, 0.2, 0.25, 0.6])
    assert equal_error_rate(same, different) == 0.25


def test_equal_error_rate_equals_a_loop_over_thresholds() -> None:
    generator = torch.Generator().manual_seed(0)
    same, different = torch.randn(300, generator=generator) + 1.5, torch.randn(500, generator=generator)
    misses = [(same < t).float().mean().item() for t in torch.linspace(-3, 5, 4001)]
    alarms = [(different >= t).float().mean().item() for t in torch.linspace(-3, 5, 4001)]
    gap, rate = min((abs(m - a), (m + a) / 2) for m, a in zip(misses, alarms, strict=True))
    assert gap < 0.01
    assert equal_error_rate(same, different) == pytest.approx(rate, abs=0.005)


def test_speakers_on_axes_are_told_apart() -> None:
    found = speaker_check(torch.eye(3).repeat_interleave(2, 0), torch.tensor([0, 0, 1, 1, 2, 2]))
    assert (found["speaker_eer"], found["speaker_top1"]) == (0.0, 1.0)
    assert (found["speaker_cosine_same"], found["speaker_cosine_different"]) == (1.0, 0.0)
    assert (found["speaker_n_same_pairs"], found["speaker_n_different_pairs"]) == (3, 12)


def test_perfect_tracks_pass_every_lip_sync_check() -> None:
    track = torch.nn.functional.normalize(torch.randn(5, 29, 32, generator=torch.Generator().manual_seed(0)), dim=-1)
    found = lip_sync_check(track, track)
    assert (found["lip_offset_0"], found["lip_shift_2_found"]) == (1.0, 1.0)
    assert found["lip_sync_matching"] == pytest.approx(1.0)
    assert abs(found["lip_sync_mismatched"]) < 0.1


def test_phone_labels_spell_the_script() -> None:
    scripts = [script(i) for i in range(40)]
    phones = render([speaker(0)] * 40, scripts, video=False).phones
    assert [expected_words(row) for row in phones] == [" ".join(one.words) for one in scripts]
