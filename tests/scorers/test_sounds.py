"""CLAP: its class and file layout with random weights, against spectrograms and cosines computed by hand."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
import torchaudio
from transformers import (
    ClapAudioConfig,
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
    ClapTextConfig,
    RobertaTokenizer,
    pipeline,
)

from idlora_pl.media.clip import Clip
from idlora_pl.media.reading import read_audio
from idlora_pl.media.writing import write_audio
from idlora_pl.metrics.clip_mean import Expected
from idlora_pl.metrics.scorable import Unscorable
from idlora_pl.metrics.sounds import NO_ENVIRONMENT, SoundsSimilarity, released_sound
from idlora_pl.scorers.registry import CARDS
from idlora_pl.scorers.sounds.clap import Clap

LETTERS = "abcdefghijklmnopqrstuvwxyz,."


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory) -> Path:
    """A narrow unfused CLAP, saved as the hub's snapshot is: a torch file, and tokens of single letters."""
    folder = tmp_path_factory.mktemp("clap") / "sounds" / "clap-htsat-unfused"
    tokens = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *LETTERS, "Ġ"]
    tokenizer = RobertaTokenizer(vocab={token: index for index, token in enumerate(tokens)}, merges=[])
    torch.manual_seed(2)
    audio = ClapAudioConfig(
        patch_embeds_hidden_size=8,
        hidden_size=32,
        depths=[1, 1, 1],
        num_attention_heads=[2, 2, 2],
        num_hidden_layers=3,
        enable_fusion=False,
    )
    text = ClapTextConfig(
        vocab_size=len(tokens),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=514,
    )
    config = ClapConfig(text_config=text, audio_config=audio, projection_dim=12)
    model = ClapModel(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim > 1:
                weight.mul_(8)
            if "logit" not in name and name.endswith("bias"):
                weight.normal_(0, 0.1)
    folder.mkdir(parents=True)
    config.save_pretrained(folder)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    tokenizer.save_pretrained(folder)
    ClapFeatureExtractor(truncation="rand_trunc", padding="repeatpad", frequency_min=50).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def clap(snapshot) -> Clap:
    return Clap.from_pretrained(snapshot)


def sounds(n: int, seconds: float, rate: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(7)
    times = torch.arange(round(seconds * rate)) / rate
    pitch = 100 + 3000 * torch.rand(n, 1, generator=generator)
    noise = torch.randn(n, len(times), generator=generator)
    return 0.3 * torch.sin(6.2832 * pitch * times) + 0.1 * torch.rand(n, 1, generator=generator) * noise


def spectrogram_by_hand(sound: torch.Tensor) -> torch.Tensor:
    """Decibels (1, 1, frames, 64) of ten seconds at 48 kHz: repeated as often as it fits, then zeros."""
    ten = torch.zeros(480000, dtype=torch.float64)
    repeated = sound.double().repeat(480000 // len(sound))
    ten[: len(repeated)] = repeated
    window = torch.hann_window(1024, dtype=torch.float64)
    power = torch.stft(ten, 1024, 480, window=window, pad_mode="reflect", return_complex=True).abs().square()
    mel = torchaudio.functional.melscale_fbanks(513, 50.0, 14000.0, 64, 48000, norm="slaney", mel_scale="slaney")
    return 10 * (power.T @ mel.double()).clamp(min=1e-10).log10()[None, None]


def cosine_by_hand(model: ClapModel, sound: torch.Tensor, text: str) -> float:
    """The cosine from the towers and projections of the network, with tokens by hand."""
    tokens = [0, *(5 + LETTERS.index(letter) if letter != " " else 5 + len(LETTERS) for letter in text), 2]
    heard = model.audio_model(spectrogram_by_hand(sound).float()).pooler_output
    read = model.text_model(torch.tensor([tokens])).pooler_output
    a, b = model.audio_projection(heard)[0].numpy(), model.text_projection(read)[0].numpy()
    return float(np.dot(a, b) / np.linalg.norm(a) / np.linalg.norm(b))


@torch.no_grad()
def test_values_equal_cosines_computed_by_hand(clap):
    metric = SoundsSimilarity(clap)
    texts = {"environment": "rain on a roof", "style": "calm, low", "sounds": "a calm voice. rain"}
    for sound in sounds(2, 3.3, 48000):
        score = metric.score(sound, sample_rate_hz=48000, **texts)
        for what, text in texts.items():
            assert score.values[f"clap_{what}"] == pytest.approx(cosine_by_hand(clap.model, sound, text), abs=2e-5)


@torch.no_grad()
def test_the_released_path_is_the_same_cosine_of_another_sound(clap):
    metric = SoundsSimilarity(clap, described=("environment", "style"), path="released")
    sound = sounds(1, 2.0, 44100)[0]
    score = metric.score(sound, sample_rate_hz=44100, environment="None", style="calm")
    narrow, rate = released_sound(sound, 44100)
    assert rate == 16000
    assert torch.equal(narrow, (narrow * 32768).round() / 32768)
    heard = torchaudio.functional.resample(narrow, 16000, 48000)
    for name, text in {"clap_environment_16k": NO_ENVIRONMENT, "clap_style_16k": "calm"}.items():
        assert score.values[name] == pytest.approx(cosine_by_hand(clap.model, heard, text), abs=2e-5)
    whole = SoundsSimilarity(clap).score(sound, sample_rate_hz=44100, style="calm").values["clap_style"]
    assert abs(whole - score.values["clap_style_16k"]) > 1e-4


def test_of_a_long_sound_the_middle_is_heard_every_time(clap):
    long = sounds(1, 14.0, 48000)
    middle = long[:, 96000 : 96000 + 480000]
    np.random.seed(0)
    first = clap.embed_audio(long, 48000)
    np.random.seed(1)
    assert torch.equal(clap.embed_audio(long, 48000), first)
    assert torch.equal(clap.embed_audio(middle, 48000), first)
    assert (clap.embed_audio(long[:, :480000], 48000) - first).abs().max() > 1e-4


def test_the_released_path_hears_30_seconds_at_most(clap):
    long = sounds(1, 31.0, 16000)[0]
    assert torch.equal(released_sound(long, 16000)[0], released_sound(long[: 30 * 16000], 16000)[0])


def test_clips_and_texts_of_a_batch_do_not_change_each_other(clap):
    waves, texts = sounds(3, 1.0, 48000), ["rain", "a long sentence about a dog, and a cat.", "no"]
    heard, read = clap.embed_audio(waves, 48000), clap.embed_text(texts)
    assert torch.equal(torch.cat([clap.embed_audio(one[None], 48000) for one in waves.flip(0)]), heard.flip(0))
    assert torch.equal(torch.cat([clap.embed_text([text]) for text in texts]), read)
    torch.testing.assert_close(heard.norm(dim=1), torch.ones(3))


def test_a_text_beyond_512_tokens_is_a_reason_of_its_own_score(clap):
    with pytest.raises(Unscorable, match="text_too_long"):
        clap.embed_text(["a" * 600])
    score = SoundsSimilarity(clap).score(sounds(1, 1.0, 48000)[0], sample_rate_hz=48000, style="low", sounds="a" * 600)
    assert set(score.values) == {"clap_style"}
    assert score.reasons == {"clap_environment": "no_environment_text", "clap_sounds": "text_too_long"}


def test_both_cards_score_the_snapshot_and_share_its_network(snapshot):
    native, released = (CARDS[name].build(snapshot.parents[1]) for name in ("clap", "clap_16k"))
    assert native.embedder is released.embedder
    clip = Clip(torch.zeros(1, 3, 4, 4, dtype=torch.uint8), sounds(1, 1.0, 24000).repeat(2, 1), 25.0, 24000)
    expected = Expected(sounds="rain and a calm voice", environment_sounds="rain", speaking_style="calm")
    for metric, name in ((native, "clap"), (released, "clap_16k")):
        score = metric.score_clip(clip, expected)
        assert set(score.values) == {one.name for one in CARDS[name].scores}


def test_a_snapshot_that_lacks_a_tensor_or_is_fused_is_refused(snapshot, tmp_path):
    for path in snapshot.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    held = torch.load(snapshot / "pytorch_model.bin", weights_only=True)
    fewer = copy.copy(held)
    del fewer["audio_projection.linear1.weight"]
    torch.save(fewer, tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"1 tensors are missing or of another shape, audio_projection.linear1.weight"):
        Clap.from_pretrained(tmp_path)
    torch.save(held, tmp_path / "pytorch_model.bin")
    ClapFeatureExtractor(truncation="fusion").save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="is a fused CLAP"):
        Clap.from_pretrained(tmp_path)


def test_the_scorers_are_refused_without_their_weights_and_with_others(snapshot, tmp_path):
    for name in ("clap", "clap_16k"):
        with pytest.raises(ValueError, match="clap-htsat-unfused is missing; get it with: hf download laion/clap-"):
            CARDS[name].load(tmp_path)
        with pytest.raises(ValueError, match="the published file 1cd3c601bc4afe0f"):
            CARDS[name].load(snapshot.parents[1])


def test_the_anchor_is_the_log_odds_of_transformers_own_zero_shot_pipeline(clap, snapshot, tmp_path):
    from idlora_pl.scorers.sounds.cards import DOG, dog_or_vacuum_cleaner

    sound = sounds(1, 5.0, 44100)
    write_audio(sound, tmp_path / DOG, 44100)
    stored = read_audio(tmp_path / DOG)[0]
    pipe = pipeline("zero-shot-audio-classification", model=str(snapshot), feature_extractor=str(snapshot))
    found = pipe(stored[0].numpy(), candidate_labels=["Sound of a dog", "Sound of vaccum cleaner"])
    odds = {one["label"]: one["score"] for one in found}
    expected = np.log(odds["Sound of a dog"] / odds["Sound of vaccum cleaner"])
    measured = dog_or_vacuum_cleaner(SoundsSimilarity(clap), tmp_path)["log_odds"]
    assert measured == pytest.approx(expected, abs=1e-3)
