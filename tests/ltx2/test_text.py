"""The text encoder: hidden states, features, context, loading and saving, and what it refuses."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Gemma3ForConditionalGeneration

from idlora_pl.ltx2.language_model import LanguageModel
from idlora_pl.ltx2.presets import preset_named
from idlora_pl.ltx2.text import TextEncoder, normalise_layers, smoke_connectors
from idlora_pl.method.tokens import TextContext, TextFeatures

PROMPTS = [
    "[VISUAL]: a man faces the camera. [SPEECH]: bin blue at f two now. [SOUNDS]: a quiet room.",
    "Grüße, 世界",
]


def test_context_has_the_width_that_the_smoke_transformer_takes(smoke_text):
    context = smoke_text.connect(smoke_text.encode(PROMPTS))
    assert (context.video.shape[-1], context.audio.shape[-1]) == preset_named("smoke").text_channels
    assert context.video.shape[:2] == context.audio.shape[:2] == (2, 256)


def test_both_layouts_give_features_and_a_context_without_a_mask(text_encoder):
    features = text_encoder.encode(PROMPTS)
    context = text_encoder.connect(features)
    widths = (32, 16) if text_encoder.connectors.config["per_modality_projections"] else (24, 24)
    assert isinstance(features, TextFeatures)
    assert isinstance(context, TextContext)
    assert (features.video.shape, features.audio.shape) == ((2, 256, widths[0]), (2, 256, widths[1]))
    assert (context.video.shape, context.audio.shape) == ((2, 256, widths[0]), (2, 256, widths[1]))
    assert features.mask.dtype == torch.bool
    assert context.mask is None
    assert context.video.isfinite().all()
    assert context.audio.isfinite().all()


def test_batch_of_prompts_of_different_length_equals_one_at_a_time(text_encoder):
    together = text_encoder.encode(PROMPTS)
    context = text_encoder.connect(together)
    for index, prompt in enumerate(PROMPTS):
        alone = text_encoder.encode([prompt])
        assert torch.equal(alone.mask[0], together.mask[index])
        torch.testing.assert_close(alone.video[0], together.video[index], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(alone.audio[0], together.audio[index], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(text_encoder.connect(alone).video[0], context.video[index], atol=1e-5, rtol=1e-5)


def test_padding_stands_on_the_left_and_carries_zeros_where_no_bias_is_added(smoke_text):
    features = smoke_text.encode(PROMPTS)
    for mask, video in zip(features.mask, features.video, strict=True):
        n_tokens = int(mask.sum())
        assert mask[-n_tokens:].all()
        assert not mask[:-n_tokens].any()
        assert (video[:-n_tokens] == 0).all()
        assert (video[-n_tokens:] != 0).any(-1).all()


def test_features_do_not_depend_on_the_amount_of_padding(smoke_text):
    model = smoke_text.language_model
    short = TextEncoder(LanguageModel(model.tokenizer, model.gemma, max_length=64), smoke_text.connectors)
    few, many = short.encode(PROMPTS), smoke_text.encode(PROMPTS)
    assert few.video.shape[1] == 64
    torch.testing.assert_close(few.video, many.video[:, -64:], atol=1e-4, rtol=1e-4)


def test_what_stands_in_the_padding_does_not_change_the_context(text_encoder):
    features = text_encoder.encode(PROMPTS)
    noise = torch.randn(features.video.shape)
    padding = ~features.mask[:, :, None]
    other = TextFeatures(features.video + noise * padding, features.audio, features.mask)
    assert torch.equal(text_encoder.connect(other).video, text_encoder.connect(features).video)


def test_hidden_states_are_the_embeddings_and_every_layer_of_gemma(smoke_text):
    model = smoke_text.language_model
    seen = []
    hooks = [
        layer.register_forward_hook(lambda _m, _i, out: seen.append(out))
        for layer in model.gemma.model.language_model.layers
    ]
    with torch.no_grad():
        states, mask = model(PROMPTS)
    for hook in hooks:
        hook.remove()
    ids = model.tokenizer(PROMPTS, padding="max_length", max_length=256, return_tensors="pt").input_ids
    with torch.no_grad():
        embeddings = model.gemma.get_input_embeddings()(ids)
        last = model.gemma.model.language_model.norm(seen[-1])
    assert states.shape == (2, 256, 24, 3)
    for state, expected in zip(states.unbind(-1), (embeddings, seen[0], last), strict=True):
        torch.testing.assert_close(state[mask], expected[mask])


def test_normalised_layers_span_at_most_eight_and_centre_on_zero(smoke_text):
    states, mask = smoke_text.language_model(PROMPTS)
    normed = normalise_layers(states, mask).unflatten(-1, (24, 3))
    for one, valid in zip(normed, mask, strict=True):
        span = one[valid].amax((0, 1)) - one[valid].amin((0, 1))
        torch.testing.assert_close(span, torch.full((3,), 8.0), atol=1e-3, rtol=0)
        assert one[valid].mean((0, 1)).abs().max() < 1e-4


def test_other_words_give_other_features_and_outer_white_space_does_not(smoke_text):
    said, padded, other = (smoke_text.encode([text]).video for text in ("set blue", "  set blue \n", "set red"))
    assert torch.equal(said, padded)
    assert not torch.equal(said, other)


def test_a_prompt_that_is_too_long_loses_its_end_with_a_warning(smoke_text):
    with pytest.warns(UserWarning, match=r"a prompt has \d+ tokens; those after 256 are dropped"):
        cut = smoke_text.encode(["bin blue " * 200])
    assert cut.mask.all()


def test_an_empty_prompt_is_one_token(smoke_text):
    features = smoke_text.encode([""])
    assert features.mask.sum() == 1
    assert smoke_text.connect(features).video.isfinite().all()


@pytest.mark.parametrize("prompts", ["a single string", []])
def test_prompts_that_are_no_list_are_refused(smoke_text, prompts):
    with pytest.raises(ValueError, match="prompts must be a list of at least one string"):
        smoke_text.encode(prompts)


def test_text_is_frozen_and_takes_no_gradient(smoke_text):
    assert not any(weight.requires_grad for weight in smoke_text.parameters())
    video = torch.zeros(1, 256, 24, requires_grad=True)
    context = smoke_text.connect(TextFeatures(video, video, torch.ones(1, 256, dtype=torch.bool)))
    assert not context.video.requires_grad


def test_seeds_fix_the_weights_and_leave_the_global_generator_alone(smoke_text):
    state = torch.get_rng_state()
    again, other = TextEncoder.from_preset("smoke", seed=0), TextEncoder.from_preset("smoke", seed=1)
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(again.encode(PROMPTS).video, smoke_text.encode(PROMPTS).video)
    assert not torch.equal(other.encode(PROMPTS).video, smoke_text.encode(PROMPTS).video)


def test_a_saved_text_encoder_loads_exactly(text_encoder, tmp_path):
    text_encoder.save_pretrained(tmp_path)
    loaded = TextEncoder.from_pretrained(tmp_path)
    assert isinstance(loaded.language_model.gemma, Gemma3ForConditionalGeneration)
    assert loaded.language_model.max_length == 256
    ours, theirs = text_encoder.encode(PROMPTS), loaded.encode(PROMPTS)
    assert torch.equal(ours.video, theirs.video)
    assert torch.equal(text_encoder.connect(ours).audio, loaded.connect(theirs).audio)


def test_training_on_stored_features_needs_the_connectors_alone(smoke_text, tmp_path):
    smoke_text.connectors.save_pretrained(tmp_path / "connectors")
    loaded = TextEncoder.from_pretrained(tmp_path, with_language_model=False)
    features = smoke_text.encode(PROMPTS)
    assert torch.equal(loaded.connect(features).video, smoke_text.connect(features).video)
    with pytest.raises(ValueError, match="connectors only"):
        loaded.encode(PROMPTS)


def test_missing_parts_are_named(smoke_text, tmp_path):
    with pytest.raises(ValueError, match="no such folder"):
        TextEncoder.from_pretrained(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="missing connectors/config.json, text_encoder/config.json"):
        TextEncoder.from_pretrained(tmp_path)
    smoke_text.save_pretrained(tmp_path)
    (tmp_path / "tokenizer" / "tokenizer_config.json").unlink()
    with pytest.raises(ValueError, match="missing tokenizer/tokenizer_config.json"):
        TextEncoder.from_pretrained(tmp_path)


def in_one_folder(model, folder):
    """Gemma as transformers and the Gemma release have it: weights and tokenizer side by side."""
    model.gemma.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)


def in_two_folders(model, folder):
    """The tokenizer in a folder of its own."""
    model.gemma.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder / "tokenizer")


def as_diffusers(model, folder):
    """text_encoder/ and tokenizer/."""
    model.save_pretrained(folder)


@pytest.mark.parametrize("save", [in_one_folder, in_two_folders, as_diffusers])
def test_the_language_model_may_lie_in_a_folder_of_its_own(text_encoder, tmp_path, save):
    save(text_encoder.language_model, tmp_path / "gemma")
    text_encoder.connectors.save_pretrained(tmp_path / "checkpoint" / "connectors")
    loaded = TextEncoder.from_pretrained(tmp_path / "checkpoint", gemma=tmp_path / "gemma")
    assert isinstance(loaded.language_model.gemma, Gemma3ForConditionalGeneration)
    assert torch.equal(loaded.encode(PROMPTS).video, text_encoder.encode(PROMPTS).video)


def test_a_folder_without_a_language_model_is_refused(smoke_text, tmp_path):
    smoke_text.connectors.save_pretrained(tmp_path / "connectors")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty: neither text_encoder/ nor config.json; pass the folder of a Gemma 3"):
        TextEncoder.from_pretrained(tmp_path, gemma=tmp_path / "empty")
    smoke_text.language_model.gemma.save_pretrained(tmp_path / "untold")
    with pytest.raises(ValueError, match="untold: no tokenizer_config.json with tokenizer.json"):
        TextEncoder.from_pretrained(tmp_path, gemma=tmp_path / "untold")


def test_weights_of_the_language_model_that_do_not_fit_are_named(smoke_text, tmp_path):
    smoke_text.save_pretrained(tmp_path)
    path = tmp_path / "text_encoder" / "model.safetensors"
    weights = load_file(path)
    gone = next(name for name in weights if name.endswith("layers.1.mlp.up_proj.weight") and "vision" not in name)
    del weights[gone]
    save_file(weights | {"model.extra.weight": torch.zeros(1)}, path, metadata={"format": "pt"})
    with pytest.raises(
        ValueError, match=r"text_encoder: .* \(1 missing: .*up_proj.weight; 1 unexpected: .*extra.weight"
    ):
        TextEncoder.from_pretrained(tmp_path)


def test_unreadable_weights_of_the_language_model_are_refused(smoke_text, tmp_path):
    smoke_text.save_pretrained(tmp_path)
    (tmp_path / "text_encoder" / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="text_encoder: not a Gemma 3 model with its tokenizer"):
        TextEncoder.from_pretrained(tmp_path)


def test_connectors_of_another_language_model_are_refused(smoke_text):
    with pytest.raises(
        ValueError, match="connectors take 5 hidden states of 32 channels, the text encoder gives 3 of 24"
    ):
        TextEncoder(smoke_text.language_model, smoke_connectors(32, 5))


def test_a_length_that_registers_do_not_divide_is_refused(smoke_text):
    model = smoke_text.language_model
    with pytest.raises(ValueError, match="max_length 30 must be a multiple"):
        TextEncoder(LanguageModel(model.tokenizer, model.gemma, max_length=30), smoke_text.connectors)


def test_presets_that_need_released_weights_are_refused():
    with pytest.raises(ValueError, match="text preset must be smoke; got 'ltx2-19b': load released weights"):
        TextEncoder.from_preset("ltx2-19b")


def test_connectors_run_outside_of_autocast(text_encoder):
    features = text_encoder.encode(["[VISUAL]: a man [SPEECH]: hello [SOUNDS]: wind"])
    alone = text_encoder.connect(features)
    with torch.autocast("cpu", torch.bfloat16):
        inside = text_encoder.connect(features)
    assert torch.equal(inside.video, alone.video)
    assert torch.equal(inside.audio, alone.audio)
