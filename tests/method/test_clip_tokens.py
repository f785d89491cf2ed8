"""The noisy tokens of a clip: at sigma 1 nothing of the data is left, except in a given first frame."""

import torch

from idlora_pl.method.positions import AudioGrid, VideoGrid
from idlora_pl.method.tokens import audio_tokens, video_tokens


def test_only_a_given_first_frame_survives_full_noise():
    x0, noise = torch.randn(2, 12, 4), torch.randn(2, 12, 4)
    given = torch.tensor([True, False])
    made = video_tokens(x0, noise, torch.ones(2), shape=(3, 2, 2), first_frame=given, grid=VideoGrid())
    assert made.clean.sum(1).tolist() == [4, 0]
    assert torch.equal(made.latents[0, :4], x0[0, :4])
    assert torch.equal(made.latents[0, 4:], noise[0, 4:])
    assert torch.equal(made.latents[1], noise[1])
    assert made.positions.shape == (2, 3, 12, 2)


def test_sound_is_noisy_everywhere_at_its_own_level():
    x0, noise = torch.randn(2, 5, 4), torch.randn(2, 5, 4)
    made = audio_tokens(x0, noise, torch.tensor([0.0, 0.5]), grid=AudioGrid())
    assert not made.clean.any()
    assert torch.equal(made.latents[0], x0[0])
    assert torch.allclose(made.latents[1], 0.5 * (x0[1] + noise[1]))
    assert torch.equal(made.positions[0], AudioGrid().positions(5)[0])
