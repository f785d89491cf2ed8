"""Words: Whisper's class and file layout with random weights, its normalisers, and real speech where it is."""

import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torchaudio.functional import resample
from transformers import (
    AutomaticSpeechRecognitionPipeline,
    GenerationConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperTokenizer,
)

from idlora_pl.media.clip import Clip
from idlora_pl.media.reading import read_audio
from idlora_pl.metrics.clip_mean import Expected
from idlora_pl.metrics.scorable import Unscorable
from idlora_pl.scorers.registry import CARDS
from idlora_pl.scorers.words.cards import grid_errors
from idlora_pl.scorers.words.grammar import SLOTS, GridRecogniser, grammar
from idlora_pl.scorers.words.whisper import StandardWords, Whisper

SPECIAL = ("<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|fr|>", "<|zh|>", "<|transcribe|>", "<|translate|>")
SPECIAL += ("<|notimestamps|>",)
VOCABULARY = [" aa", " bin", " blue", " at", " forward", " ten", " meters", " go", " please", " again"]


def byte_letters() -> list[str]:
    """The 256 letters that byte-level vocabularies write bytes as."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    rest = [byte for byte in range(256) if byte not in plain]
    return [chr(byte) for byte in plain] + [chr(256 + index) for index in range(len(rest))]


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory) -> Path:
    """A Whisper of two narrow layers, saved as the hub's snapshots are."""
    folder = tmp_path_factory.mktemp("whisper") / "words" / "whisper-large-v3"
    vocabulary = byte_letters() + [word.replace(" ", "Ġ") for word in VOCABULARY]
    tokens = {token: index for index, token in enumerate(vocabulary)}
    tokenizer = WhisperTokenizer(vocab=tokens, merges=[])
    tokenizer.add_special_tokens({"additional_special_tokens": list(SPECIAL[1:])})
    ids = dict(zip(SPECIAL, tokenizer.convert_tokens_to_ids(list(SPECIAL)), strict=True))
    torch.manual_seed(3)
    config = WhisperConfig(
        vocab_size=len(tokenizer),
        num_mel_bins=16,
        d_model=16,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        decoder_start_token_id=ids["<|startoftranscript|>"],
        **{f"{name}_token_id": ids["<|endoftext|>"] for name in ("bos", "eos", "pad")},
    )
    model = WhisperForConditionalGeneration(config).eval()
    with torch.no_grad():  # so that what is heard decides what is written
        for name, weight in model.named_parameters():
            if "embed_positions" not in name:
                weight.mul_(12 if "encoder_attn" in name else 4)
        words = model.model.decoder.embed_tokens.weight
        words[ids["<|endoftext|>"]] = 1.2 * words[tokens["Ġblue"]]
    model.generation_config = GenerationConfig(
        is_multilingual=True,
        lang_to_id={token: ids[token] for token in SPECIAL[2:5]},
        task_to_id={"transcribe": ids["<|transcribe|>"], "translate": ids["<|translate|>"]},
        no_timestamps_token_id=ids["<|notimestamps|>"],
        decoder_start_token_id=ids["<|startoftranscript|>"],
        max_length=40,
        begin_suppress_tokens=[ids["<|endoftext|>"]],
        suppress_tokens=[*range(256), *(ids[token] for token in SPECIAL[1:])],
        **{f"{name}_token_id": ids["<|endoftext|>"] for name in ("bos", "eos", "pad")},
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "normalizer.json").write_text(json.dumps({"colour": "color", "grey": "gray"}))
    WhisperFeatureExtractor(feature_size=16).save_pretrained(folder)
    return folder


def voices(n: int, seconds: float = 1.5, rate: int = 16000) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    times = torch.arange(round(seconds * rate)) / rate
    pitch = 150 + 400 * torch.rand(n, 1, generator=generator)
    noise = torch.randn(n, len(times), generator=generator)
    return 0.3 * torch.sin(6.2832 * pitch * times) + 0.1 * torch.rand(n, 1, generator=generator) * noise


@pytest.fixture(scope="module")
def whisper(snapshot) -> Whisper:
    return Whisper.from_pretrained(snapshot)


def test_it_writes_what_the_pipeline_writes(snapshot, whisper):
    pipeline = AutomaticSpeechRecognitionPipeline(
        model=WhisperForConditionalGeneration.from_pretrained(snapshot),
        tokenizer=WhisperTokenizer.from_pretrained(snapshot),
        feature_extractor=WhisperFeatureExtractor.from_pretrained(snapshot),
    )
    asked = {"language": "en", "task": "transcribe", "num_beams": 5, "max_new_tokens": 256}
    waves = voices(6)[::2]
    theirs = [pipeline(wave.numpy(), generate_kwargs=asked)["text"].strip() for wave in waves]
    assert whisper.transcribe(waves, 16000) == theirs
    assert len(set(theirs)) > 1
    assert set(" ".join(theirs).split()) <= {word.strip() for word in VOCABULARY}


def test_a_transcript_that_does_not_end_is_cut_after_256_words(snapshot):
    endless = Whisper.from_pretrained(snapshot)
    endless.model.generation_config.suppress_tokens += [endless.tokenizer.eos_token_id]
    assert len(endless.transcribe(voices(1), 16000)[0].split()) == 256


def test_the_language_is_forced(whisper):
    assert whisper.transcribe(voices(1), 16000) != whisper.transcribe(voices(1), 16000, language="fr")
    with pytest.raises(Unscorable, match="language_unknown"):
        whisper.transcribe(voices(1), 16000, language="xx")


def test_clips_of_a_batch_do_not_change_each_other_and_repeat_exactly(whisper):
    waves = voices(6)[[0, 3, 5]]
    whole = whisper.transcribe(waves, 16000)
    assert [whisper.transcribe(one[None], 16000)[0] for one in waves] == whole
    assert whisper.transcribe(waves.flip(0), 16000)[::-1] == whole


def test_more_than_30_seconds_have_no_transcript(whisper):
    with pytest.raises(Unscorable, match="longer_than_30_s"):
        whisper.transcribe(torch.zeros(1, 8000 * 31), 8000)


@pytest.mark.parametrize(
    ("name", "said"),
    [("normalizer.json", "no normalizer.json"), ("generation_config.json", "no lang_to_id")],
)
def test_a_snapshot_that_lacks_a_part_is_refused(snapshot, tmp_path, name, said):
    for path in snapshot.iterdir():
        if path.name != name:
            (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(ValueError, match=said):
        Whisper.from_pretrained(tmp_path)


def test_a_snapshot_that_lacks_a_tensor_is_refused_and_not_filled_with_noise(snapshot, tmp_path):
    for path in snapshot.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    held = load_file(snapshot / "model.safetensors")
    del held["model.encoder.conv1.weight"]
    save_file(held, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"1 tensors are missing or of another shape, model.encoder.conv1.weight"):
        Whisper.from_pretrained(tmp_path)


def test_the_card_gives_all_four_scores_from_the_snapshot(snapshot, whisper):
    metric = CARDS["wer"].build(snapshot.parents[1])
    assert metric.names == tuple(score.name for score in CARDS["wer"].scores)
    wave = voices(1)
    (transcript,) = whisper.transcribe(wave, 16000)
    clip = Clip(torch.zeros(1, 3, 4, 4, dtype=torch.uint8), wave, 25.0, 16000)
    score = metric.score_clip(clip, Expected(words=transcript.upper() + "!"))
    assert score.values == dict.fromkeys(metric.names, 0.0)
    assert score.notes == {"transcript": transcript}
    wrong = metric.score_clip(clip, Expected(words=f"{transcript} colour", language="en"))
    assert wrong.values["wer"] == pytest.approx(1 / (len(transcript.split()) + 1))


def test_the_scorer_is_refused_without_its_weights_and_with_others(snapshot, tmp_path):
    with pytest.raises(ValueError, match=r"whisper-large-v3 is missing; get it with: hf download openai/whisper-large"):
        CARDS["wer"].load(tmp_path)
    with pytest.raises(ValueError, match="the published file a8e94b85976e5864"):
        CARDS["wer"].load(snapshot.parents[1])


@pytest.mark.parametrize(
    ("text", "language", "normal"),
    [
        ("We're twenty-one; Mr. Smith can't!", "en", "we are 21 mister smith can not"),
        ("Twenty-five colours at 3.5%", "en", "25 colors at 3.5%"),
        ("Um, I won't [laughs] go (hm)", "en", "i will not go"),
        ("C'est l'été - déjà?", "fr", "c est l été déjà"),
        ("你好，世界", "zh", "你 好 世 界"),
        ("uh", "en", ""),
    ],
)
def test_the_standard_normaliser_on_hand_made_texts(text, language, normal):
    assert StandardWords({"colours": "colors"})(text, language) == normal


def test_the_grammar_holds_the_sentences_of_grid_and_no_others(checkpoints):
    recogniser = GridRecogniser(checkpoints / "asr_pocketsphinx/en-us")
    decoder = recogniser._decoder()
    assert sum(map(len, SLOTS.values())) == 51
    for words in (
        "bin blue at f two now",
        "set white with z zero soon",
        "bin blue at w two now",
        "bin bin",
        "hello",
        "",
    ):
        assert recogniser.accepts(words) == bool(decoder.get_fsg("grid").accept(words)), words
    assert grammar().count(";") == len(SLOTS) + 3


def test_grid_is_heard_whatever_came_before_and_at_other_rates(checkpoints, media):
    recogniser = GridRecogniser(checkpoints / "asr_pocketsphinx/en-us")
    sounds = [read_audio(media / "grid" / name) for name in ("s1/bbaf2n.mpg", "s20/brbk7n.mpg")]
    waves = torch.stack([sound.mean(0)[: 44100 * 2 + 30000] for sound, _ in sounds])
    whole = recogniser.transcribe(waves, 44100)
    assert whole == ["bin blue at f two now", "bin red by k seven now"]
    again = pickle.loads(pickle.dumps(recogniser))
    assert [again.transcribe(one[None], 44100)[0] for one in waves.flip(0)][::-1] == whole
    assert recogniser.transcribe(resample(waves, 44100, 48000), 48000) == whole


def test_the_anchor_of_the_grammar_passes_on_real_speech(media, checkpoints):
    card = CARDS["wer_grammar"]
    measured = card.anchor.measure(card.load(checkpoints), media)
    for name, expected in card.anchor.expected.items():
        assert measured[name] == pytest.approx(expected, abs=card.anchor.tolerance[name]), name


@pytest.mark.slow
def test_all_grid_clips_reach_the_recorded_error_rate(media, checkpoints):
    found = grid_errors(CARDS["wer_grammar"].load(checkpoints), media / "grid", 1)
    assert 0.08 < found["right"] < 0.13
    assert found["wrong"] > 0.65


def test_words_outside_the_grammar_and_sound_without_words_have_reasons(media, checkpoints):
    metric = CARDS["wer_grammar"].load(checkpoints)
    wave, rate = read_audio(media / "grid/s1/bbaf2n.mpg")
    heard = metric.score(wave.mean(0), "Bin blue, at F two now.", sample_rate_hz=rate)
    assert heard.values == {"wer_grammar": 0.0}
    assert metric.score(wave.mean(0), "go forward ten meters", sample_rate_hz=rate).reason == "words_not_in_grammar"
    noise = 0.001 * torch.randn(16000, generator=torch.Generator().manual_seed(0))
    unheard = metric.score(noise, "bin blue at f two now", sample_rate_hz=16000)
    assert unheard.values == {"wer_grammar": 1.0}
    assert unheard.notes == {"transcript": ""}
