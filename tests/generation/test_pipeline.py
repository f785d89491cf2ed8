"""The pipeline: batches change nothing, requests may be mixed, wrong input is refused in one sentence."""

from dataclasses import replace

import pytest
import torch

from idlora_pl.generation.pipeline import IDLoRAPipeline
from idlora_pl.generation.request import Request, alike
from idlora_pl.generation.sampling import Sampling, default_sampling
from idlora_pl.media.clip import MediaError
from idlora_pl.media.writing import write_audio, write_image
from idlora_pl.method.tokens import TextContext

PROMPT = "[VISUAL]: A person talks. [SPEECH]: aa ee oo er [SOUNDS]: steady rain in the background"


@pytest.fixture(scope="module")
def nano() -> IDLoRAPipeline:
    return IDLoRAPipeline.from_pretrained("nano", sampling=replace(default_sampling("nano"), steps=2))


@pytest.fixture(scope="module")
def smoke() -> IDLoRAPipeline:
    return IDLoRAPipeline.from_pretrained("smoke", sampling=replace(default_sampling("smoke"), steps=2))


def a_request(seed: int, *, face: bool = True, voice: bool = True, size: int = 64) -> Request:
    random = torch.Generator().manual_seed(seed)
    picture = torch.randint(0, 256, (3, size, size), dtype=torch.uint8, generator=random)
    sound = 0.1 * torch.randn(1, 8000, generator=random)
    return Request(PROMPT, picture if face else None, sound if voice else None, 16000, seed)


@pytest.mark.parametrize("base", ["nano", "smoke"])
def test_a_batch_has_the_latents_that_single_requests_have(base, request):
    pipeline = request.getfixturevalue(base)
    requests = [a_request(1), a_request(2), a_request(3)]
    together = pipeline.sample(requests)
    for index, one in enumerate(requests):
        alone = pipeline.sample([one])
        # float32 matrix products differ by rounding with the batch size
        assert torch.allclose(together.video.latents[index], alone.video.latents[0], atol=1e-4)
        assert torch.allclose(together.audio.latents[index], alone.audio.latents[0], atol=1e-4)


def test_mixed_requests_give_their_clips_in_order(nano):
    mixed = [a_request(1), a_request(2, face=False), a_request(3), a_request(4, voice=False)]
    together, alone = nano.generate(mixed), [nano.generate([one])[0] for one in mixed]
    for one, other in zip(together, alone, strict=True):
        # rounding of the latents moves a pixel by one level at most
        assert (one.frames.int() - other.frames.int()).abs().max() <= 1
    assert not torch.equal(alone[0].frames, alone[2].frames)


def test_the_first_frame_of_a_clip_is_the_face(nano, nano_data):
    face = nano_data / "test/item-0000/face.png"
    clip = nano(PROMPT, face=face, voice=nano_data / "test/item-0000/voice.wav")
    wanted = nano.request(PROMPT, face=face).face.float()
    # the nano latents keep most of a picture, not all of it
    assert (clip.frames[0].float() - wanted).abs().mean() < 6


def test_all_guidance_on_gives_a_clip_with_sound(smoke):
    made = smoke.sampling
    assert (made.text_scale, made.identity_scale, made.perturbed_scale, made.modality_scale) == ((3, 7), 3, 1, 3)
    steps = []
    clip = smoke.generate([a_request(1)], on_step=lambda step, total: steps.append((step, total)))[0]
    assert clip.frames.shape == (17, 3, 64, 64)
    assert clip.waveform.shape[0] == 2
    assert torch.isfinite(clip.waveform).all()
    assert clip.waveform.abs().max() > 0
    assert steps == [(0, 2), (1, 2)]


def test_a_seed_fixes_a_clip_and_another_one_changes_it(nano):
    same = [nano.generate([a_request(1, face=False)])[0] for _ in range(2)]
    other = nano.generate([replace(a_request(1, face=False), seed=2)])[0]
    assert torch.equal(same[0].waveform, same[1].waveform)
    assert not torch.equal(same[0].waveform, other.waveform)


def test_without_reference_the_voice_is_not_given(nano):
    deaf = replace(nano, sampling=replace(nano.sampling, with_reference=False))
    assert nano.sequence([a_request(1)]).audio.n_reference == 13
    assert deaf.sequence([a_request(1)]).audio.n_reference == 0


def test_a_text_mask_is_kept_for_a_batch_and_for_replaced_samples():
    plain = TextContext(torch.zeros(2, 3, 4), torch.zeros(2, 3, 5))
    masked = TextContext(torch.ones(1, 3, 4), torch.ones(1, 3, 5), torch.tensor([[True, False, False]]))
    assert masked.expand(2).mask.tolist() == [[True, False, False]] * 2
    mixed = plain.replaced(torch.tensor([False, True]), masked)
    assert mixed.mask.tolist() == [[True, True, True], [True, False, False]]
    assert mixed.video[:, 0, 0].tolist() == mixed.audio[:, 0, 0].tolist() == [0, 1]
    assert plain.replaced(torch.tensor([True, False]), plain).mask is None


def test_requests_are_grouped_by_what_they_bring():
    made = [a_request(1), a_request(2, face=False), a_request(3), a_request(4, voice=False)]
    assert alike(made) == [[0, 2], [1], [3]]


def test_a_face_of_another_size_is_refused(nano):
    with pytest.raises(ValueError, match=r"face has 32x32 pixels, sampling is set to 64x64: read it with read_image"):
        nano.generate([a_request(1, size=32)])


def test_a_file_of_another_size_is_cropped_to_fit(nano, tmp_path):
    write_image(torch.randint(0, 256, (3, 90, 120), dtype=torch.uint8), tmp_path / "face.png")
    assert nano.request(PROMPT, face=tmp_path / "face.png").face.shape == (3, 64, 64)


def test_input_that_cannot_be_used_is_refused(nano, tmp_path):
    write_audio(0.1 * torch.randn(1, 100), tmp_path / "short.wav", 16000)
    write_audio(torch.zeros(1, 16000), tmp_path / "silent.wav", 16000)
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(MediaError, match=r"text\.png"):
        nano.request(PROMPT, face=tmp_path / "text.png")
    with pytest.raises(MediaError, match=r"silent\.wav is silent \(below -80 dBFS\); give a recording of a voice"):
        nano(PROMPT, voice=tmp_path / "silent.wav")
    with pytest.raises(ValueError, match=r"voice has samples that are infinite .* \(1 of 2, the first at 0 s\)"):
        Request(PROMPT, voice=torch.tensor([[torch.nan, 0.1]]))
    with pytest.raises(ValueError, match=r"short\.wav lasts 0\.00625 s; a voice needs at least 0\.1 s"):
        nano(PROMPT, voice=tmp_path / "short.wav")
    with pytest.raises(ValueError, match=r"prompt section \[SOUNDS\] is missing"):
        nano("[VISUAL]: A person. [SPEECH]: aa")
    with pytest.raises(ValueError, match=r"voice must be \(channels, S\) with S > 0; got \(1, 0\)"):
        Request(PROMPT, voice=torch.zeros(1, 0))
    with pytest.raises(ValueError, match=r"face must be uint8 \(3, H, W\); got torch.float32"):
        Request(PROMPT, face=torch.zeros(3, 64, 64))


def test_a_full_size_base_needs_weights(tmp_path):
    with pytest.raises(ValueError, match="base 'ltx2-19b' needs weights: set model.weights"):
        IDLoRAPipeline.from_pretrained("ltx2-19b")
    with pytest.raises(FileNotFoundError, match="nowhere does not exist; correct model.weights"):
        IDLoRAPipeline.from_pretrained("ltx2-19b", weights=tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("name", "value", "least"),
    [("n_frames", 0, 1), ("height", 0, 1), ("width", -64, 1), ("steps", 1, 2), ("batch_size", 0, 1)],
)
def test_sampling_settings_that_are_too_small_are_refused(name, value, least):
    with pytest.raises(ValueError, match=rf"sampling.{name} must be at least {least}; got {value}"):
        Sampling(**{name: value})


def test_the_defaults_are_the_released_scripts_values():
    script = {"steps": 30, "shift_tokens": 4096, "text_scale": (3.0, 7.0), "identity_scale": 3.0}
    script |= {"perturbed_scale": 1.0, "modality_scale": 3.0, "n_frames": 121, "height": 512, "width": 512}
    assert Sampling() == Sampling(**script)
    assert default_sampling("ltx2-19b") == Sampling()


def test_autocast_of_a_trainer_changes_no_clip(smoke):
    request = a_request(1)
    alone = smoke.generate([request])[0]
    with torch.autocast("cpu", torch.bfloat16):
        inside, start = smoke.generate([request])[0], smoke.sequence([request])
    assert torch.equal(inside.frames, alone.frames)
    assert torch.equal(inside.waveform, alone.waveform)
    assert torch.equal(start.audio.latents, smoke.sequence([request]).audio.latents)
