"""The arithmetic of the metrics against values worked out by hand, and against independent computations."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from idlora_pl.metrics.functional import (
    cosine_similarity,
    lip_sync_scores,
    offset_distances,
    transcript_error_rate,
)


def unit_vectors(n_steps: int, size: int = 16, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(n_steps, size, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_cosine_of_a_3_4_5_triangle_is_24_25() -> None:
    result = cosine_similarity(torch.tensor([[3.0, 4.0], [1.0, 0.0]]), torch.tensor([[4.0, 3.0], [-2.0, 0.0]]))
    torch.testing.assert_close(result, torch.tensor([0.96, -1.0]))


def test_cosine_refuses_embeddings_of_two_sizes() -> None:
    with pytest.raises(ValueError, match=r"must both be \(B, D\); got \(1, 2\) and \(1, 3\)"):
        cosine_similarity(torch.zeros(1, 2), torch.zeros(1, 3))


def test_offset_distances_equal_a_loop_over_padded_pairs() -> None:
    audio, video = unit_vectors(40, seed=1).numpy(), unit_vectors(40, seed=2).numpy()
    padded = np.concatenate([np.zeros((15, 16)), audio, np.zeros((15, 16))])
    expected = [np.mean([np.sqrt(((video[i] - padded[i + j]) ** 2).sum()) for i in range(40)]) for j in range(31)]
    result = offset_distances(torch.from_numpy(audio), torch.from_numpy(video))
    np.testing.assert_allclose(result.numpy(), expected, atol=1e-6)


def test_offsets_stay_within_a_short_clip() -> None:
    assert len(offset_distances(unit_vectors(4), unit_vectors(4))) == 7


def test_lip_sync_of_two_steps_by_hand() -> None:
    audio, video = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    scores = lip_sync_scores(audio, video)
    # Mean distances at offsets -1, 0, +1 of the sound: (1 + 0)/2, (0 + sqrt 2)/2, (sqrt 2 + 1)/2.
    assert scores.lip_sync == pytest.approx(0.5)
    assert scores.lse_d == pytest.approx(0.5)
    assert scores.lse_c == pytest.approx(2**0.5 / 2 - 0.5)
    assert scores.lip_offset == 1.0


@settings(max_examples=30, deadline=None)
@given(shift=st.integers(-10, 10), seed=st.integers(0, 1000))
def test_sound_that_is_k_steps_late_has_offset_minus_k(shift: int, seed: int) -> None:
    track = unit_vectors(60, seed=seed)
    video, audio = track[12:48], track[12 - shift : 48 - shift]
    assert lip_sync_scores(audio, video).lip_offset == -shift


def test_a_clip_agrees_with_itself_perfectly() -> None:
    scores = lip_sync_scores(unit_vectors(30), unit_vectors(30))
    assert (scores.lip_sync, scores.lse_d, scores.lip_offset) == (pytest.approx(1.0), pytest.approx(0.0), 0.0)


def test_lip_sync_refuses_tracks_of_two_lengths() -> None:
    with pytest.raises(ValueError, match=r"must both be \(T, D\), T > 0; got \(3, 16\) and \(4, 16\)"):
        lip_sync_scores(unit_vectors(3), unit_vectors(4))


@pytest.mark.parametrize(
    ("transcript", "expected", "rate"),
    [("aa eh", "aa eh", 0.0), ("", "aa eh", 1.0), ("aa oo eh", "aa eh", 0.5), ("oo oo oo", "aa", 3.0)],
)
def test_error_rate_counts_edits_per_expected_word(transcript: str, expected: str, rate: float) -> None:
    assert transcript_error_rate(transcript, expected) == rate


def test_error_rate_needs_expected_words() -> None:
    with pytest.raises(ValueError, match="at least one word; got none"):
        transcript_error_rate("aa", " ")
