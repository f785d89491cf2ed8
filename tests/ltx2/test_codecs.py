"""Codecs: what they compute from frames and sound, loading and saving, and what they refuse."""

import json

import numpy as np
import pytest
import torch
from diffusers.pipelines.ltx2.vocoder import LTX2VocoderWithBWE
from safetensors.torch import load_file, save_file

from idlora_pl.ltx2.codecs import Codecs
from idlora_pl.ltx2.video_codec import Tiling


def spied(module, run):
    """Run `run()` and return the inputs and the output of `module` on the way."""
    seen = []
    with module.register_forward_hook(lambda _, inputs, output: seen.append((inputs[0], output))):
        result = run()
    return seen[0], result


@pytest.mark.parametrize("n_frames", [1, 9, 25])
def test_latents_have_one_frame_per_eight_and_one_cell_per_32_pixels(smoke_codecs, n_frames):
    latents = smoke_codecs.encode_video(torch.zeros(2, n_frames, 3, 64, 96, dtype=torch.uint8))
    assert latents.shape[1:] == smoke_codecs.video_latent_shape(n_frames, 64, 96) == (128, (n_frames + 7) // 8, 2, 3)
    assert smoke_codecs.decode_video(latents).shape == (2, n_frames, 3, 64, 96)


def test_pixels_0_and_255_become_minus_one_and_one(smoke_codecs):
    for value, expected in ((0, -1.0), (255, 1.0)):
        frames = torch.full((1, 1, 3, 64, 64), value, dtype=torch.uint8)
        (pixels, _), _ = spied(smoke_codecs.video.vae.encoder, lambda frames=frames: smoke_codecs.encode_video(frames))
        assert pixels.min() == pixels.max() == expected


def test_video_latents_are_the_normalised_posterior_mean(smoke_codecs, noise_frames):
    vae = smoke_codecs.video.vae
    (_, moments), latents = spied(vae.encoder, lambda: smoke_codecs.encode_video(noise_frames))
    for channel in (0, 77, 127):
        expected = (moments[:, channel] - vae.latents_mean[channel]) / vae.latents_std[channel]
        torch.testing.assert_close(latents[:, channel], expected)
    assert torch.equal(latents, smoke_codecs.encode_video(noise_frames)), "encoding draws no random number"


def test_audio_latents_are_normalised_by_channel_and_frequency(smoke_codecs, noise_sound):
    vae = smoke_codecs.audio.vae
    (mel, moments), latents = spied(vae.encoder, lambda: smoke_codecs.encode_audio(noise_sound, 16000))
    assert mel.shape == (1, 2, 101, 64)
    for channel, bin_ in ((0, 0), (3, 5), (7, 15)):
        mean, std = vae.latents_mean[channel * 16 + bin_], vae.latents_std[channel * 16 + bin_]
        torch.testing.assert_close(latents[:, channel, :, bin_], (moments[:, channel, :, bin_] - mean) / std)


def test_decoding_rounds_to_the_nearest_pixel(smoke_codecs, noise_frames):
    latents = smoke_codecs.encode_video(noise_frames)
    (_, pixels), frames = spied(smoke_codecs.video.vae.decoder, lambda: smoke_codecs.decode_video(latents))
    exact = np.clip((pixels.numpy() + 1) * np.float32(127.5), 0, 255).swapaxes(1, 2)
    assert frames.dtype == torch.uint8
    assert np.abs(frames.numpy() - exact).max() <= 0.5, "truncation would be off by up to one"


def test_decoding_undoes_the_normalisation(smoke_codecs, noise_frames, noise_sound):
    video, audio = smoke_codecs.encode_video(noise_frames), smoke_codecs.encode_audio(noise_sound, 16000)
    vae, audio_vae = smoke_codecs.video.vae, smoke_codecs.audio.vae
    mean = vae.encode(noise_frames.transpose(1, 2) / 127.5 - 1).latent_dist.mean
    (seen, _), _ = spied(vae.decoder, lambda: smoke_codecs.decode_video(video))
    torch.testing.assert_close(seen, mean, atol=1e-5, rtol=1e-5)
    mean = audio_vae.encode(smoke_codecs.audio.mel(noise_sound, 16000)).latent_dist.mean
    (seen, _), _ = spied(audio_vae.decoder, lambda: smoke_codecs.decode_audio(audio))
    torch.testing.assert_close(seen, mean, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("n_samples", "n_steps"), [(77440, 122), (80000, 126), (62080, 98), (640, 2), (600, 1)])
def test_sound_of_s_samples_has_a_quarter_of_its_mel_frames_rounded_up(smoke_codecs, n_samples, n_steps):
    # 4.84, 5.00 and 3.88 s: the lengths that the reference implementation stores
    assert smoke_codecs.encode_audio(torch.zeros(1, 1, n_samples), 16000).shape == (1, 8, n_steps, 16)


@pytest.mark.parametrize(("n_frames", "n_tokens"), [(121, 121), (73, 73), (97, 97), (1, 1)])
def test_n_frames_at_25_fps_go_with_n_audio_tokens(smoke_codecs, n_frames, n_tokens):
    assert smoke_codecs.n_audio_tokens(n_frames) == n_tokens


@pytest.mark.parametrize("rate", [16000, 24000, 44100])
def test_target_audio_is_cut_to_the_tokens_of_its_video_without_changing_them(smoke_codecs, rate):
    sound = 0.1 * torch.randn(1, 2, rate * 73 // 25, generator=torch.Generator().manual_seed(1))
    whole, cut = smoke_codecs.encode_audio(sound, rate), smoke_codecs.encode_audio(sound, rate, n_tokens=73)
    assert (whole.shape[2], cut.shape[2]) == (74, 73)
    torch.testing.assert_close(cut, whole[:, :, :73], atol=1e-4, rtol=0)


def test_sound_behind_the_target_does_not_leak_into_it(smoke_codecs, noise_sound):
    longer = torch.cat([noise_sound, torch.ones(1, 2, 8000)], dim=-1)
    short = smoke_codecs.encode_audio(noise_sound, 16000, n_tokens=25)
    assert torch.equal(smoke_codecs.encode_audio(longer, 16000, n_tokens=25), short)


def test_a_track_up_to_one_token_short_ends_in_silence(smoke_codecs, noise_sound):
    late = smoke_codecs.encode_audio(noise_sound[..., :15500], 16000, n_tokens=25)
    silent = torch.cat([noise_sound[..., :15500], torch.zeros(1, 2, 500)], dim=-1)
    assert torch.equal(late, smoke_codecs.encode_audio(silent, 16000, n_tokens=25))
    with pytest.raises(ValueError, match=r"lasts 0\.94 s; 25 audio tokens need 1\.00 s"):
        smoke_codecs.encode_audio(noise_sound[..., :15000], 16000, n_tokens=25)


def test_mono_sound_is_given_to_both_channels(smoke_codecs, noise_sound):
    mono = noise_sound[:, :1]
    stereo = mono.expand(-1, 2, -1)
    assert torch.equal(smoke_codecs.encode_audio(mono, 16000), smoke_codecs.encode_audio(stereo, 16000))


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_silence_and_clipped_sound_give_finite_latents_and_sound(smoke_codecs, noise_sound, level):
    latents = smoke_codecs.encode_audio(level * noise_sound.sign(), 16000)
    sound = smoke_codecs.decode_audio(latents)
    assert latents.isfinite().all()
    assert sound.isfinite().all()
    assert sound.abs().max() <= 1


def test_decoded_sound_has_the_vocoders_rate_and_four_mel_frames_a_token(smoke_codecs):
    sound = smoke_codecs.decode_audio(torch.zeros(2, 8, 25, 16))
    assert smoke_codecs.sample_rate_hz == 24000
    assert sound.shape == (2, 2, (4 * 25 - 3) * 240)


def test_seeds_fix_the_weights_and_leave_the_global_generator_alone(smoke_codecs):
    state = torch.get_rng_state()
    again, other = Codecs.from_preset("smoke", seed=0), Codecs.from_preset("smoke", seed=1)
    assert torch.equal(state, torch.get_rng_state())
    ours, same, different = (codecs.state_dict() for codecs in (smoke_codecs, again, other))
    assert all(torch.equal(ours[key], same[key]) for key in ours)
    assert not torch.equal(ours["video.vae.latents_mean"], different["video.vae.latents_mean"])


def test_smoke_latents_of_noise_have_about_unit_scale(smoke_codecs, noise_frames, noise_sound):
    for latents in (smoke_codecs.encode_video(noise_frames), smoke_codecs.encode_audio(noise_sound, 16000)):
        assert 0.5 < latents.std() < 2


def test_batch_of_two_equals_two_of_one(smoke_codecs, noise_frames):
    pair = torch.cat([noise_frames, noise_frames.flip(1)])
    single = torch.cat([smoke_codecs.encode_video(frames[None]) for frames in pair])
    torch.testing.assert_close(smoke_codecs.encode_video(pair), single, atol=1e-5, rtol=1e-5)


@pytest.mark.slow
def test_codecs_in_bfloat16_still_take_the_mel_and_give_latents_in_float32(noise_frames, noise_sound):
    codecs = Codecs.from_preset("smoke").to(torch.bfloat16)
    full = Codecs.from_preset("smoke")
    for name, given in (("encode_video", (noise_frames,)), ("encode_audio", (noise_sound, 16000))):
        rounded, exact = getattr(codecs, name)(*given), getattr(full, name)(*given)
        assert rounded.dtype == torch.float32
        assert (rounded - exact).abs().mean() < 0.1, "bf16 networks: a few per cent"
    assert codecs.decode_audio(torch.zeros(1, 8, 3, 16)).dtype == torch.float32


def test_codecs_are_frozen_and_take_no_gradient(smoke_codecs):
    assert not any(weight.requires_grad for weight in smoke_codecs.parameters())
    assert not smoke_codecs.training
    latents = torch.zeros(1, 128, 1, 2, 2, requires_grad=True)
    assert not smoke_codecs.decode_video(latents).requires_grad


def test_on_moves_there_and_back_even_after_an_error():
    codecs = Codecs.from_preset("smoke")
    moves = []
    codecs._apply = lambda fn, recurse=True: moves.append(fn(torch.zeros(1)).device.type)
    with pytest.raises(RuntimeError, match="inside"), codecs.on("meta"):
        raise RuntimeError("inside")
    assert moves == ["meta", "cpu"]


def test_tiles_that_cover_the_frame_change_nothing(smoke_codecs, noise_frames):
    plain = smoke_codecs.encode_video(noise_frames)
    decoded = smoke_codecs.decode_video(plain)
    smoke_codecs.enable_tiling()
    try:
        assert torch.equal(smoke_codecs.encode_video(noise_frames), plain)
        assert torch.equal(smoke_codecs.decode_video(plain), decoded)
    finally:
        smoke_codecs.disable_tiling()


def test_tiling_changes_only_what_lies_near_a_seam(smoke_codecs):
    frames = torch.randint(0, 256, (1, 1, 3, 64, 480), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    plain = smoke_codecs.encode_video(frames)
    whole = smoke_codecs.decode_video(plain).float()
    smoke_codecs.enable_tiling(Tiling(tile_px=256, overlap_px=64))
    try:
        tiled, decoded = smoke_codecs.encode_video(frames), smoke_codecs.decode_video(plain).float()
    finally:
        smoke_codecs.disable_tiling()
    assert tiled.shape == plain.shape
    # the receptive field fades with the distance from the first seam, 192 pixels or 6 latents in
    torch.testing.assert_close(tiled[..., :1], plain[..., :1], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(tiled[..., :3], plain[..., :3], atol=1e-2, rtol=0)
    assert (decoded - whole)[..., :32].abs().max() == 0
    assert (decoded - whole)[..., :96].abs().max() <= 2
    assert 0 < (tiled - plain).abs().mean() < 0.25 * plain.std()
    assert 0 < (decoded - whole).abs().mean() < 0.25 * whole.std()


def test_every_frame_size_can_be_decoded_in_tiles(smoke_codecs):
    for tiling in (Tiling(), Tiling(256, 32), Tiling(256, 128)):
        for side in range(64, 2049, 32):
            tile, stride = tiling.tile_and_stride(side)
            last = side - (side - 1) // stride * stride
            assert last >= 64, f"{tiling} leaves {last} of {side} pixels, less than reflect padding needs"
            assert stride <= tile
    smoke_codecs.enable_tiling(Tiling(256, 32))
    try:
        assert smoke_codecs.decode_video(torch.zeros(1, 128, 1, 2, 15)).shape[-1] == 480
    finally:
        smoke_codecs.disable_tiling()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"tile_px": 250}, "tile_px must be a multiple of 32 and at least 256; got 250"),
        ({"tile_px": 256, "overlap_px": 160}, r"overlap_px must be a multiple of 32 in 0\.\.128; got 160"),
    ],
)
def test_tiles_off_the_latent_grid_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        Tiling(**wrong)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (
            (120, 256, 256),
            "got 120 frames of 256x256: cut and resize the clip to 113 or 121 frames of 256x256",
        ),
        ((121, 250, 300), "got 121 frames of 250x300: cut and resize the clip to 121 frames of 256x288"),
        ((9, 32, 64), "at least 64; got 9 frames of 32x64: cut and resize the clip to 9 frames of 64x64"),
        ((0, 64, 64), "cut and resize the clip to 1 or 9 frames of 64x64"),
    ],
)
def test_clips_off_the_grid_are_refused_with_the_nearest_size(smoke_codecs, shape, message):
    n_frames, height, width = shape
    with pytest.raises(ValueError, match=message):
        smoke_codecs.encode_video(torch.zeros(1, n_frames, 3, height, width, dtype=torch.uint8))
    with pytest.raises(ValueError, match=message):
        smoke_codecs.check_clip_shape(*shape)


def test_frames_that_are_not_uint8_rgb_are_refused(smoke_codecs):
    for frames in (torch.zeros(1, 9, 3, 64, 64), torch.zeros(1, 9, 1, 64, 64, dtype=torch.uint8)):
        with pytest.raises(ValueError, match="frames must be uint8"):
            smoke_codecs.encode_video(frames)


@pytest.mark.parametrize(
    ("waveform", "message"),
    [
        (torch.zeros(1, 2, 0), "waveform has 0 samples at 16000 Hz"),
        (
            torch.zeros(1, 1, 300),
            "waveform has 300 samples at 16000 Hz; the mel window needs at least 0.032 s",
        ),
        (torch.zeros(1, 6, 16000), "waveform has 6 channels"),
        (torch.zeros(1, 2, 16000, dtype=torch.int16), "waveform must be float"),
        (torch.zeros(2, 16000), "waveform must be float"),
    ],
)
def test_unusable_waveforms_are_refused(smoke_codecs, waveform, message):
    with pytest.raises(ValueError, match=message):
        smoke_codecs.encode_audio(waveform, 16000)


def test_an_empty_track_at_another_rate_is_refused(smoke_codecs):
    with pytest.raises(ValueError, match="waveform has 0 samples at 44100 Hz"):
        smoke_codecs.encode_audio(torch.zeros(1, 1, 0), 44100)


def test_unknown_presets_are_refused():
    with pytest.raises(ValueError, match="must be one of smoke, ltx2-19b, ltx2.3-22b; got 'ltx2'"):
        Codecs.from_preset("ltx2")


@pytest.mark.parametrize(
    ("name", "sizes", "rate"),
    [("ltx2-19b", (1222, 53, 56), 24000), ("ltx2.3-22b", (726, 53, 129), 48000)],
)
def test_full_size_presets_have_shapes_but_no_weights(name, sizes, rate):
    codecs = Codecs.from_preset(name)
    parts = (codecs.video.vae, codecs.audio.vae, codecs.audio.vocoder)
    assert tuple(round(sum(p.numel() for p in part.parameters()) / 1e6) for part in parts) == sizes
    assert codecs.device.type == "meta"
    assert codecs.sample_rate_hz == rate
    assert codecs.video_latent_shape(121, 512, 512) == (128, 16, 16, 16)
    assert (codecs.audio_channels, codecs.geometry.audio.token_seconds) == (8, 0.04)


def test_saved_codecs_load_exactly(smoke_codecs, noise_frames, tmp_path):
    smoke_codecs.save_pretrained(tmp_path)
    loaded = Codecs.from_pretrained(tmp_path)
    ours, theirs = smoke_codecs.state_dict(), loaded.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert torch.equal(loaded.encode_video(noise_frames), smoke_codecs.encode_video(noise_frames))
    assert Codecs.from_pretrained(tmp_path, dtype=torch.bfloat16).video.vae.dtype == torch.bfloat16


def test_the_bandwidth_extending_vocoder_of_2_3_is_recognised(smoke_codecs, tmp_path):
    tiny = {"hidden_channels": 64, "resnet_kernel_sizes": [3], "resnet_dilations": [[1]]}
    vocoder = LTX2VocoderWithBWE(**tiny, **{f"bwe_{key}": value for key, value in tiny.items()})
    Codecs(smoke_codecs.video.vae, smoke_codecs.audio.vae, vocoder).save_pretrained(tmp_path)
    loaded = Codecs.from_pretrained(tmp_path)
    assert isinstance(loaded.audio.vocoder, LTX2VocoderWithBWE)
    assert loaded.sample_rate_hz == 48000
    assert loaded.decode_audio(torch.zeros(1, 8, 4, 16)).shape == (1, 2, 13 * 480)


def test_missing_folders_and_parts_are_named(smoke_codecs, tmp_path):
    with pytest.raises(ValueError, match="nowhere: no such folder; give a diffusers checkpoint folder"):
        Codecs.from_pretrained(tmp_path / "nowhere")
    smoke_codecs.save_pretrained(tmp_path)
    (tmp_path / "vocoder" / "config.json").rename(tmp_path / "config.json")
    with pytest.raises(ValueError, match="missing vocoder/config.json"):
        Codecs.from_pretrained(tmp_path)


def test_weights_that_do_not_fit_are_refused(smoke_codecs, tmp_path):
    smoke_codecs.save_pretrained(tmp_path)
    file = tmp_path / "vocoder" / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    save_file(
        {"extra": torch.zeros(1), **{key: value for key, value in weights.items() if key != "conv_in.bias"}},
        file,
    )
    with pytest.raises(ValueError, match="1 missing keys such as conv_in.bias; 1 unexpected keys such as extra"):
        Codecs.from_pretrained(tmp_path)
    file.write_bytes(b"not a file of weights")
    with pytest.raises(ValueError, match="vocoder: the weights cannot be read as LTX2Vocoder"):
        Codecs.from_pretrained(tmp_path)


def test_an_audio_vae_whose_statistics_do_not_fit_its_tokens_is_refused(smoke_codecs, tmp_path):
    smoke_codecs.save_pretrained(tmp_path)
    config = tmp_path / "audio_vae" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"mel_bins": 32}))
    with pytest.raises(ValueError, match="128 latent statistics .* for tokens of 64 numbers"):
        Codecs.from_pretrained(tmp_path)


def test_the_mel_is_float32_under_autocast(smoke_codecs, noise_sound):
    alone = smoke_codecs.audio.mel(noise_sound, 16000)
    with torch.autocast("cpu", torch.bfloat16):
        inside = smoke_codecs.audio.mel(noise_sound, 16000)
    assert torch.equal(inside, alone)
