"""Models on this machine: tiny ones of the classes of transformers, whose weights are random or set by hand."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    CLIPVisionConfig,
    GenerationConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperTokenizer,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from data_tools.caption_clips import caption_clips
from data_tools.captions.models import LocalModel, Look
from data_tools.captions.words import SpeechModel
from data_tools.verb.lists import RejectedError, read_clips, read_rows
from idlora_pl.nano import videos

TEXTS = {"visual": "A man talks.", "sounds": "A calm voice.", "speaking_style": "calm", "environment_sounds": "none"}
PIECES = [f'{"{" if k == 0 else ", "}"{name}": "{text}"' for k, (name, text) in enumerate(TEXTS.items())] + ["}"]
VOCABULARY = ["<pad>", "<unk>", "<image>", "<eos>", *PIECES, *(f" w{k}" for k in range(12))]
TEMPLATE = (
    "{% for message in messages %}{% for part in message['content'] %}{% if part['type'] == 'image' %}<image> "
    "{% else %}{{ part['text'] }} {% endif %}{% endfor %}{% endfor %}{% if add_generation_prompt %}answer{% endif %}"
)


def save_llava(folder: Path, answer: list[str] | None) -> Path:
    """Save a Llava of one narrow layer that says the pieces of `answer`, or, being random, what a picture makes it."""
    ids = {token: index for index, token in enumerate(VOCABULARY)}
    spelling = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    spelling.pre_tokenizer, spelling.decoder = pre_tokenizers.WhitespaceSplit(), decoders.Fuse()
    names = {"pad_token": "<pad>", "unk_token": "<unk>", "eos_token": "<eos>"}
    spelling.add_special_tokens(VOCABULARY[:4])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=spelling, **names)
    size = {"height": 16, "width": 16}
    pictures = CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size=size)
    LlavaProcessor(
        pictures, tokenizer, patch_size=8, vision_feature_select_strategy="default", chat_template=TEMPLATE,
        num_additional_image_tokens=1,
    ).save_pretrained(folder)  # fmt: skip
    narrow = {"hidden_size": 32, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision = CLIPVisionConfig(image_size=16, patch_size=8, **narrow)
    text = LlamaConfig(vocab_size=len(ids), max_position_embeddings=2048, num_key_value_heads=2, **narrow)
    torch.manual_seed(0)
    config = LlavaConfig(
        vision_config=vision, text_config=text, image_token_index=ids["<image>"], tie_word_embeddings=False
    )
    model = LlavaForConditionalGeneration(config).eval()
    model.generation_config = GenerationConfig(eos_token_id=ids["<eos>"], pad_token_id=ids["<pad>"])
    with torch.no_grad():
        if answer is None:
            for weight in model.parameters():
                weight.mul_(6)
            model.lm_head.weight[: len(VOCABULARY) - 12] = 0.0  # so that it never ends, and says words
        else:  # each token decides the next one: layers add nothing, the last weights move on by one
            for layer in model.model.language_model.layers:
                layer.self_attn.o_proj.weight.zero_()
                layer.mlp.down_proj.weight.zero_()
            model.model.language_model.embed_tokens.weight.copy_(torch.eye(len(ids), 32))
            model.lm_head.weight.zero_()
            for one, following in zip(["<unk>", *answer], [*answer, "<eos>"], strict=True):
                model.lm_head.weight[ids[following], ids[one]] = 1.0
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nano")
    videos.main([str(folder), "--speakers", "1", "--clips", "2"])
    return folder


def captioned(clips, output, **options):
    caption_clips(str(clips), str(output), **options)
    return read_rows(output / "clips.jsonl", ("key", "prompt"))


def reasons(output):
    return [row["reason"] for row in read_rows(output / "rejected.jsonl", ("reason",))]


def test_a_model_that_answers_well_captions_clips(clips, tmp_path):
    folder = save_llava(tmp_path / "llava", PIECES)
    rows = captioned(clips, tmp_path / "out", model=str(folder), words="nano_phonemes", pictures=2)
    assert [{name: row[name] for name in TEXTS} for row in rows] == [TEXTS] * 2
    assert rows[0]["caption_from"]["visual"] == str(folder)


def test_a_model_that_leaves_out_a_section_is_rejected(clips, tmp_path):
    folder = save_llava(tmp_path / "llava", [PIECES[0], PIECES[-1]])
    with pytest.raises(ValueError, match="no clip has a caption"):
        captioned(clips, tmp_path / "out", model=str(folder), words="nano_phonemes")
    assert reasons(tmp_path / "out") == ["no_section"] * 2


@pytest.mark.slow
def test_a_random_model_says_what_the_picture_makes_it_and_is_rejected(clips, tmp_path):
    folder = save_llava(tmp_path / "llava", None)
    shown = [tuple(Image.effect_noise((24, 24), 90 + 60 * k).convert("RGB") for _ in range(2)) for k in range(3)]
    said = set()
    for pictures in shown:
        with pytest.raises(RejectedError, match="longer than 2 tokens") as refused:
            LocalModel(folder, max_tokens=2).describe(Look("what is it", pictures))
        said.add(refused.value.detail)
    assert len(said) > 1
    with pytest.raises(ValueError, match="no clip has a caption"):
        captioned(clips, tmp_path / "out", model=str(folder), words="nano_phonemes")
    assert set(reasons(tmp_path / "out")) <= {"bad_answer", "cut_off"}


def test_an_answer_without_end_is_cut_off(tmp_path):
    folder = save_llava(tmp_path / "llava", PIECES)
    with pytest.raises(RejectedError, match="longer than 3 tokens"):
        LocalModel(folder, max_tokens=3).describe(Look("what is it", (Image.new("RGB", (16, 16)),)))


def test_a_model_without_chat_template_is_refused(clips, tmp_path):
    folder = save_llava(tmp_path / "llava", PIECES)
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(ValueError, match="has no chat template; give a model that answers questions"):
        captioned(clips, tmp_path / "out", model=str(folder), words="nano_phonemes")


@pytest.fixture(scope="module")
def whisper(tmp_path_factory) -> Path:
    """A random Whisper of one language."""
    folder = tmp_path_factory.mktemp("whisper")
    special = ["<|endoftext|>", "<|startoftranscript|>", "<|notimestamps|>"]
    words = ["Ġblue", "Ġred", "Ġnow", "Ġplease", "Ġagain", "Ġbin"]
    ids = {token: index for index, token in enumerate([*words, *special])}
    tokenizer = WhisperTokenizer(vocab=ids, merges=[])
    tokenizer.add_special_tokens({"additional_special_tokens": special[1:]})
    narrow = {f"{part}_{name}": 2 for part in ("encoder", "decoder") for name in ("layers", "attention_heads")}
    wide = {f"{part}_ffn_dim": 32 for part in ("encoder", "decoder")}
    tokens = {f"{name}_token_id": ids[special[0]] for name in ("bos", "eos", "pad")}
    torch.manual_seed(1)
    config = WhisperConfig(
        vocab_size=len(tokenizer),
        num_mel_bins=16,
        d_model=16,
        max_source_positions=100,
        decoder_start_token_id=ids[special[1]],
        **narrow,
        **wide,
        **tokens,
    )
    model = WhisperForConditionalGeneration(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "embed_positions" not in name:
                weight.mul_(12 if "encoder_attn" in name else 4)
        spoken = model.model.decoder.embed_tokens.weight
        spoken[ids[special[0]]] = 1.2 * spoken[ids["Ġblue"]]
    model.generation_config = GenerationConfig(
        decoder_start_token_id=ids[special[1]], max_length=12, is_multilingual=False,
        no_timestamps_token_id=ids[special[2]],
        suppress_tokens=[ids[name] for name in special[1:]], begin_suppress_tokens=[ids[special[0]]], **tokens,
    )  # fmt: skip
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=16, chunk_length=2).save_pretrained(folder)
    return folder


def test_any_speech_model_of_transformers_writes_what_is_said(clips, tmp_path, whisper):
    (tmp_path / "texts.json").write_text(json.dumps({f"{k}": TEXTS for k in _keys(clips)}))
    rows = captioned(clips, tmp_path / "out", texts=str(tmp_path / "texts.json"), words=str(whisper))
    assert all(set(row["speech"].split()) <= {"blue", "red", "now", "please", "again", "bin"} for row in rows)
    assert rows[0]["caption_from"]["speech"] == whisper.name


def _keys(clips):
    return [row["key"] for row in read_clips(clips)[0]]


def test_what_a_speech_model_hears_decides_what_it_writes(whisper):
    model = SpeechModel(whisper)
    rng = torch.Generator().manual_seed(0)
    times = torch.arange(16000) / 16000
    sounds = [0.3 * torch.sin(6.2832 * pitch * times) for pitch in (110.0, 400.0, 1500.0)]
    sounds += [0.1 * torch.randn(16000, generator=rng) for _ in range(3)]
    assert len({model.transcribe(sound[None], 16000)[0] for sound in sounds}) > 1
