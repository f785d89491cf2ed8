"""The nano codecs: latents decode and encode to themselves, groups are causal, sound comes back."""

import pytest
import torch

from idlora_pl.nano.codecs import (
    NanoCodecs,
    audio_groups,
    frames_from_groups,
    group_frames,
    ungroup_frames,
    video_groups,
)
from idlora_pl.nano.render import render
from idlora_pl.nano.world import N_SAMPLES, SAMPLE_RATE_HZ, script, speaker


@pytest.fixture(scope="module")
def codecs() -> NanoCodecs:
    return NanoCodecs()


@pytest.fixture(scope="module")
def clips():
    return render([speaker(1), speaker(2)], [script(1), script(2)])


@pytest.mark.parametrize("name", ["video", "audio"])
def test_a_latent_decodes_and_encodes_to_itself(codecs, name):
    latents = torch.randn(2, 5, {"video": 32, "audio": 64}[name])
    assert torch.allclose(codecs._encode(codecs._decode(latents, name), name), latents, atol=1e-4)


def test_grouping_and_ungrouping_are_inverse():
    frames = torch.randint(0, 256, (2, 9, 3, 64, 64), dtype=torch.uint8)
    assert torch.equal(frames_from_groups(video_groups(frames)), frames)
    steps = torch.randn(2, 9, 5)
    assert torch.equal(ungroup_frames(group_frames(steps)), steps)


def test_latents_are_causal_in_time(codecs, clips):
    # the first latent frame is the first frame alone, as first-frame conditioning needs it
    whole, first = codecs.encode_video(clips.frames), codecs.encode_video(clips.frames[:, :1])
    assert torch.allclose(whole[:, :, :1], first, atol=1e-4)
    longer, shorter = codecs.encode_video(clips.frames), codecs.encode_video(clips.frames[:, :17])
    assert torch.allclose(longer[:, :, :5], shorter, atol=1e-4)


def test_a_picture_comes_back_close(codecs, clips):
    decoded = codecs.decode_video(codecs.encode_video(clips.frames))
    assert decoded.shape == clips.frames.shape
    assert (decoded.float() - clips.frames.float()).abs().mean() < 6


def test_sound_comes_back_with_its_spectrum(codecs, clips):
    latents = codecs.encode_audio(clips.waveform[:, None], SAMPLE_RATE_HZ, n_tokens=33)
    sound = codecs.decode_audio(latents)
    assert sound.shape == (2, 1, N_SAMPLES)
    again = codecs.encode_audio(sound, SAMPLE_RATE_HZ, n_tokens=33)
    # latents have unit variance; Griffin-Lim keeps the spectrum, not the phase
    assert (again - latents).square().mean() < 0.25


def test_latents_have_about_unit_variance(codecs, clips):
    for latents in (codecs.encode_video(clips.frames), codecs.encode_audio(clips.waveform[:, None], SAMPLE_RATE_HZ)):
        assert 0.3 < latents.std() < 3


def test_shapes_agree_with_what_is_encoded(codecs, clips):
    assert codecs.encode_video(clips.frames).shape[1:] == codecs.video_latent_shape(33, 64, 64)
    assert codecs.n_audio_tokens(33) == 33
    stereo = clips.waveform[:, None].expand(-1, 2, -1)
    assert codecs.encode_audio(stereo, SAMPLE_RATE_HZ).shape == (2, 1, 34, 64)


def test_clips_that_do_not_fit_are_refused(codecs):
    with pytest.raises(ValueError, match="got 30 frames of 64x64: cut to 29 frames"):
        codecs.video_latent_shape(30, 64, 64)
    with pytest.raises(ValueError, match="got 33 frames of 48x64"):
        codecs.encode_video(torch.zeros(1, 33, 3, 48, 64, dtype=torch.uint8))
    with pytest.raises(ValueError, match="gives 7 audio tokens, 33 are needed: use at least 1.32 s"):
        codecs.encode_audio(torch.zeros(1, 1, 4000), 16000, n_tokens=33)
    with pytest.raises(ValueError, match="waveform has 10 samples; nano needs at least 1024"):
        audio_groups(torch.zeros(1, 1, 10), 16000)
