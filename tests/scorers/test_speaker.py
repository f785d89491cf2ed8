"""Speaker networks: published key layouts, independent forward passes, and real recordings where they are."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torchaudio
from torch.nn import functional as F
from transformers import WavLMConfig, WavLMModel

from idlora_pl.media.writing import write_audio
from idlora_pl.metrics.speaker import VoiceSimilarity
from idlora_pl.scorers.speaker.cards import (
    CARDS,
    SPEECHBRAIN,
    UNISPEECH,
    equal_error_rate,
    librispeech_pairs,
    speechbrain_decisions,
    unispeech_pair,
)
from idlora_pl.scorers.speaker.dvector import DVector
from idlora_pl.scorers.speaker.wavlm import LARGE, EcapaHead, WavLMSpeaker, body_names

MEDIA = Path(__file__).parents[3] / "shared" / "media"
needs_media = pytest.mark.skipif(not MEDIA.is_dir(), reason="needs ../shared/media, real recordings and checkpoints")
CARD = {card.name: card for card in CARDS}
TINY = LARGE | {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "conv_dim": (16,) * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "num_buckets": 32,
    "max_bucket_distance": 80,
}

# Names and shapes of the published wavlm_large_finetune.pth (microsoft/UniSpeech, WavLM-large with ECAPA-TDNN).
HEAD_SHAPES = {
    "feature_weight": (25,),
    "layer1.conv.weight": (512, 1024, 5),
    "layer1.bn.running_var": (512,),
    "layer2.Conv1dReluBn1.conv.weight": (512, 512, 1),
    "layer2.Conv1dReluBn1.bn.weight": (512,),
    "layer2.Res2Conv1dReluBn.convs.0.weight": (64, 64, 3),
    "layer2.Res2Conv1dReluBn.convs.6.bias": (64,),
    "layer2.Res2Conv1dReluBn.bns.6.running_mean": (64,),
    "layer3.Conv1dReluBn2.conv.bias": (512,),
    "layer4.SE_Connect.linear1.weight": (128, 512),
    "layer4.SE_Connect.linear2.weight": (512, 128),
    "conv.weight": (1536, 1536, 1),
    "pooling.linear1.weight": (128, 1536, 1),
    "pooling.linear2.weight": (1536, 128, 1),
    "bn.running_mean": (3072,),
    "linear.weight": (256, 3072),
}
BODY_SHAPES = {
    "mask_emb": (1024,),
    "feature_extractor.conv_layers.0.0.weight": (512, 1, 10),
    "feature_extractor.conv_layers.6.0.weight": (512, 512, 2),
    "feature_extractor.conv_layers.6.2.1.bias": (512,),
    "layer_norm.weight": (512,),
    "post_extract_proj.weight": (1024, 512),
    "encoder.pos_conv.0.weight_g": (1, 1, 128),
    "encoder.pos_conv.0.weight_v": (1024, 64, 128),
    "encoder.pos_conv.0.bias": (1024,),
    "encoder.layers.0.self_attn.relative_attention_bias.weight": (320, 16),
    "encoder.layers.23.self_attn.grep_linear.weight": (8, 64),
    "encoder.layers.23.self_attn.grep_a": (1, 16, 1, 1),
    "encoder.layers.23.self_attn.k_proj.weight": (1024, 1024),
    "encoder.layers.23.self_attn_layer_norm.bias": (1024,),
    "encoder.layers.23.fc1.weight": (4096, 1024),
    "encoder.layers.23.fc2.weight": (1024, 4096),
    "encoder.layers.23.final_layer_norm.weight": (1024,),
    "encoder.layer_norm.weight": (1024,),
}


def randomised(module):
    """Give every tensor of a module, norms included, a random value."""
    generator = torch.Generator().manual_seed(3)
    for name, value in module.state_dict().items():
        if value.is_floating_point():
            noise = torch.randn(value.shape, generator=generator)
            value.copy_(noise.abs() + 0.5 if "running_var" in name else 0.2 * noise)
    return module.eval()


def published_body(layers=3, width=32, heads=4, inner=48, conv=16):
    """Random tensors under the names of the published body, written down by hand."""
    generator = torch.Generator().manual_seed(5)

    def normal(*shape):
        return 0.2 * torch.randn(*shape, generator=generator)

    state = {"mask_emb": normal(width), "layer_norm.weight": normal(conv) + 1, "layer_norm.bias": normal(conv)}
    state |= {"post_extract_proj.weight": normal(width, conv), "post_extract_proj.bias": normal(width)}
    for i, kernel in enumerate((10, 3, 3, 3, 3, 2, 2)):
        name = f"feature_extractor.conv_layers.{i}"
        state[f"{name}.0.weight"] = normal(conv, conv if i else 1, kernel)
        state |= {f"{name}.2.1.weight": normal(conv) + 1, f"{name}.2.1.bias": normal(conv)}
    state |= {"encoder.pos_conv.0.weight_g": normal(1, 1, 16), "encoder.pos_conv.0.bias": normal(width)}
    state["encoder.pos_conv.0.weight_v"] = normal(width, width // 4, 16)
    for i in range(layers):
        name = f"encoder.layers.{i}"
        for part in "kvq":
            state |= {f"{name}.self_attn.{part}_proj.weight": normal(width, width)}
            state |= {f"{name}.self_attn.{part}_proj.bias": normal(width)}
        state |= {f"{name}.self_attn.out_proj.weight": normal(width, width)}
        state |= {f"{name}.self_attn.out_proj.bias": normal(width)}
        state[f"{name}.self_attn.grep_linear.weight"] = normal(8, width // heads)
        state |= {f"{name}.self_attn.grep_linear.bias": normal(8), f"{name}.self_attn.grep_a": normal(1, heads, 1, 1)}
        state |= {f"{name}.fc1.weight": normal(inner, width), f"{name}.fc1.bias": normal(inner)}
        state |= {f"{name}.fc2.weight": normal(width, inner), f"{name}.fc2.bias": normal(width)}
        for norm in ("self_attn_layer_norm", "final_layer_norm"):
            state |= {f"{name}.{norm}.weight": normal(width) + 1, f"{name}.{norm}.bias": normal(width)}
    state["encoder.layers.0.self_attn.relative_attention_bias.weight"] = normal(32, heads)
    return state | {"encoder.layer_norm.weight": normal(width) + 1, "encoder.layer_norm.bias": normal(width)}


def published_checkpoint():
    """A tiny checkpoint in UniSpeech's layout, counters and training loss included."""
    head = randomised(EcapaHead(4, 32, channels=64, embedding=256))
    body = {f"feature_extract.model.{name}": value for name, value in published_body().items()}
    return {**head.state_dict(), **body, "loss_calculator.projection.weight": torch.zeros(3, 256)}


@pytest.fixture
def small_head(monkeypatch):
    """Make the head of a checkpoint as narrow as the tiny one."""
    monkeypatch.setattr("idlora_pl.scorers.speaker.wavlm.EcapaHead", partial(EcapaHead, channels=64))


def test_the_head_has_the_published_names_and_shapes():
    state = EcapaHead().state_dict()
    assert {name: tuple(state[name].shape) for name in HEAD_SHAPES} == HEAD_SHAPES
    # per convolution with norm 6: layer1, and in 3 blocks 2 outer and 7 inner ones; per gate 4
    others = {"feature_weight": 1, "conv": 2, "pooling": 4, "bn": 4, "linear": 2}
    counted = [name for name in state if not name.endswith("num_batches_tracked")]
    assert len(counted) == 6 + 3 * (9 * 6 + 4) + sum(others.values())


def test_every_published_name_of_the_body_finds_its_place_in_wavlm_large():
    with torch.device("meta"):
        expected = WavLMModel(WavLMConfig.from_dict(LARGE)).state_dict()
    renamed = body_names({name: torch.empty(shape, device="meta") for name, shape in BODY_SHAPES.items()})
    assert {name: tuple(value.shape) for name, value in renamed.items()} == {
        name: tuple(expected[name].shape) for name in renamed
    }
    assert set(body_names(published_body())) == set(WavLMModel(WavLMConfig.from_dict(TINY)).state_dict())


def head_by_hand(state, states, offset):
    """The ECAPA-TDNN as plain functions of the published tensors."""

    def norm(x, name):
        parts = [state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
        return F.batch_norm(x, *parts)

    def dense(x, name):
        return norm(F.conv1d(x, state[f"{name}.conv.weight"], state[f"{name}.conv.bias"]).relu(), f"{name}.bn")

    weights = torch.exp(state["feature_weight"]) / torch.exp(state["feature_weight"]).sum()
    x = sum(w * one for w, one in zip(weights, states, strict=True)).transpose(1, 2) + offset
    x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True, unbiased=False) + 1e-5).sqrt()
    x = norm(F.conv1d(x, state["layer1.conv.weight"], state["layer1.conv.bias"], padding=2).relu(), "layer1.bn")
    outputs = []
    for dilation in (2, 3, 4):
        name = f"layer{dilation}"
        y = dense(x, f"{name}.Conv1dReluBn1")
        width, done = y.shape[1] // 8, []
        for i in range(7):
            group = y[:, i * width : (i + 1) * width]
            group = group + done[-1] if i else group
            kernel = [state[f"{name}.Res2Conv1dReluBn.convs.{i}.{part}"] for part in ("weight", "bias")]
            group = F.conv1d(group, *kernel, padding=dilation, dilation=dilation).relu()
            done.append(norm(group, f"{name}.Res2Conv1dReluBn.bns.{i}"))
        y = dense(torch.cat([*done, y[:, 7 * width :]], 1), f"{name}.Conv1dReluBn2")
        gate = y.mean(2)
        for linear in ("linear1", "linear2"):
            gate = F.linear(gate, *(state[f"{name}.SE_Connect.{linear}.{part}"] for part in ("weight", "bias")))
            gate = gate.relu() if linear == "linear1" else 1 / (1 + torch.exp(-gate))
        x = x + y * gate[..., None]
        outputs.append(x)
    y = F.conv1d(torch.cat(outputs, 1), state["conv.weight"], state["conv.bias"]).relu()
    attention = torch.tanh(F.conv1d(y, state["pooling.linear1.weight"], state["pooling.linear1.bias"]))
    attention = F.conv1d(attention, state["pooling.linear2.weight"], state["pooling.linear2.bias"]).softmax(2)
    mean = (attention * y).sum(2)
    spread = ((attention * y * y).sum(2) - mean * mean).clamp(min=1e-9).sqrt()
    return F.linear(norm(torch.cat([mean, spread], 1), "bn"), state["linear.weight"], state["linear.bias"])


@pytest.mark.parametrize("offset", [1e-6, 0.0])
def test_the_head_equals_the_published_formulas_on_random_weights(offset):
    head = randomised(EcapaHead(4, 32, channels=64, embedding=16, offset=offset))
    states = torch.randn(4, 2, 50, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(head(states), head_by_hand(head.state_dict(), states, offset), atol=1e-5, rtol=1e-5)


def test_the_body_equals_torchaudios_own_wavlm_on_random_weights(small_head):
    state = published_checkpoint()
    ours = WavLMSpeaker.from_state(state, "standard", "checkpoint", TINY)
    theirs = torchaudio.models.wavlm_model(
        extractor_mode="layer_norm",
        extractor_conv_layer_config=[(16, k, s) for k, s in ((10, 5), *(((3, 2),) * 4), *(((2, 2),) * 2))],
        extractor_conv_bias=False,
        encoder_embed_dim=32,
        encoder_projection_dropout=0.0,
        encoder_pos_conv_kernel=16,
        encoder_pos_conv_groups=4,
        encoder_num_layers=3,
        encoder_num_heads=4,
        encoder_num_buckets=32,
        encoder_max_distance=80,
        encoder_attention_dropout=0.0,
        encoder_ff_interm_features=48,
        encoder_ff_interm_dropout=0.0,
        encoder_dropout=0.0,
        encoder_layer_norm_first=True,
        encoder_layer_drop=0.0,
        aux_num_out=None,
    ).eval()
    theirs.load_state_dict(torchaudio_names(published_body()))
    wave = torch.randn(2, 16000, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        hidden = ours.hidden_states(wave)
        expected, _ = theirs.extract_features(wave)
    assert len(hidden) == 4
    # torchaudio gives the outputs of the layers; the published states are the inputs and the normed last output
    for one, other in zip(hidden[1:-1], expected[:-1], strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
    last = theirs.encoder.transformer.layer_norm(expected[-1])
    torch.testing.assert_close(hidden[-1], last, atol=1e-4, rtol=1e-4)


def torchaudio_names(state):
    """Rename published tensors to torchaudio's names, written down by hand."""
    made = {}
    for name, value in state.items():
        if name == "mask_emb":
            continue
        new = (
            name.replace("layer_norm.", "encoder.feature_projection.layer_norm.")
            if name.startswith("layer_n")
            else name
        )
        new = new.replace("post_extract_proj", "encoder.feature_projection.projection")
        if name.startswith("feature_extractor"):
            new = new.replace(".2.1.", ".layer_norm.").replace(".0.weight", ".conv.weight")
            if name.endswith("conv_layers.0.0.weight"):
                new = "feature_extractor.conv_layers.0.conv.weight"
        if name.startswith("encoder."):
            new = "encoder.transformer." + name.removeprefix("encoder.")
            new = new.replace("pos_conv.0.", "pos_conv_embed.conv.")
            new = new.replace("weight_g", "parametrizations.weight.original0")
            new = new.replace("weight_v", "parametrizations.weight.original1")
            new = new.replace("self_attn_layer_norm", "layer_norm").replace("self_attn.", "attention.")
            new = new.replace("grep_linear", "gru_rel_pos_linear").replace("grep_a", "gru_rel_pos_const")
            new = new.replace("relative_attention_bias", "rel_attn_embed")
            new = new.replace("fc1", "feed_forward.intermediate_dense").replace("fc2", "feed_forward.output_dense")
        made[new] = value
    for layer in range(3):
        parts = {
            p: (
                made.pop(f"encoder.transformer.layers.{layer}.attention.{p}_proj.weight"),
                made.pop(f"encoder.transformer.layers.{layer}.attention.{p}_proj.bias"),
            )
            for p in "qkv"
        }
        prefix = f"encoder.transformer.layers.{layer}.attention.attention"
        made[f"{prefix}.in_proj_weight"] = torch.cat([parts[p][0] for p in "qkv"])
        made[f"{prefix}.in_proj_bias"] = torch.cat([parts[p][1] for p in "qkv"])
        for part in ("weight", "bias"):
            made[f"{prefix}.out_proj.{part}"] = made.pop(
                f"encoder.transformer.layers.{layer}.attention.out_proj.{part}"
            )
    return made


def test_the_two_scales_differ_and_the_standard_one_does_not_hear_loudness(small_head, tmp_path):
    state = published_checkpoint()
    body = WavLMModel(WavLMConfig.from_dict(TINY)).eval()
    body.save_pretrained(tmp_path / "stock")
    standard = WavLMSpeaker.from_state(state, "standard", "checkpoint", TINY)
    hybrid = WavLMSpeaker.from_state(state, "idlora", "checkpoint", TINY, tmp_path / "stock")
    wave = 0.1 * torch.randn(1, 16000, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(standard.embed(wave, 16000), standard.embed(3 * wave, 16000), atol=1e-4, rtol=1e-4)
    assert (hybrid.embed(wave, 16000) - standard.embed(wave, 16000)).abs().max() > 1e-2
    for name, value in body.state_dict().items():
        assert torch.equal(hybrid.body.state_dict()[name], value), name
    assert (standard.head.offset, hybrid.head.offset) == (1e-6, 0.0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s.pop("bn.weight"), r"1 names missing \['bn.weight'\]"),
        (lambda s: s.update(extra=torch.zeros(1)), r"1 names unexpected \['extra'\]"),
        (lambda s: s.update({"linear.bias": torch.zeros(7)}), r"1 names of another shape \['linear.bias'\]"),
        (lambda s: s.pop("feature_extract.model.encoder.layer_norm.bias"), r"missing \['encoder.layer_norm.bias'\]"),
        (lambda s: s.pop("feature_weight"), "lacks feature_weight"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused_with_its_names(small_head, change, said):
    state = published_checkpoint()
    change(state)
    with pytest.raises(ValueError, match=said):
        WavLMSpeaker.from_state(state, "standard", "checkpoint", TINY)


def test_a_scorer_without_its_weights_is_refused_with_the_command(tmp_path):
    for name in ("spk_sim", "spk_sim_idlora", "spk_sim_ecapa", "spk_sim_dvector"):
        with pytest.raises(ValueError, match=r"is missing; get it with: .+"):
            CARD[name].load(tmp_path)


def published_ecapa() -> dict[str, tuple[int, ...]]:
    """Names and shapes of the published embedding_model.ckpt, written down from the model's hyperparams.yaml.

    It says channels 1024, 1024, 1024, 1024, 3072, kernels 5, 3, 3, 3, 1, attention_channels 128, lin_neurons 192.
    """
    found: dict[str, tuple[int, ...]] = {}

    def norm(name, width):
        parts = ("weight", "bias", "running_mean", "running_var")
        found.update({f"{name}.norm.{part}": (width,) for part in parts} | {f"{name}.norm.num_batches_tracked": ()})

    def conv(name, outside, inside, size):
        found.update({f"{name}.conv.weight": (outside, inside, size), f"{name}.conv.bias": (outside,)})

    def layer(name, outside, inside, size):
        conv(f"{name}.conv", outside, inside, size)
        norm(f"{name}.norm", outside)

    layer("blocks.0", 1024, 80, 5)
    for block in ("blocks.1", "blocks.2", "blocks.3"):
        layer(f"{block}.tdnn1", 1024, 1024, 1)
        for part in range(7):
            layer(f"{block}.res2net_block.blocks.{part}", 128, 128, 3)
        layer(f"{block}.tdnn2", 1024, 1024, 1)
        conv(f"{block}.se_block.conv1", 128, 1024, 1)
        conv(f"{block}.se_block.conv2", 1024, 128, 1)
    layer("mfa", 3072, 3072, 1)
    layer("asp.tdnn", 128, 9216, 1)
    conv("asp.conv", 3072, 128, 1)
    norm("asp_bn", 6144)
    conv("fc", 192, 6144, 1)
    return found


def made_ecapa() -> dict[str, torch.Tensor]:
    """Random tensors in the published layout, small enough not to overflow."""
    generator = torch.Generator().manual_seed(4)
    state = {name: torch.randn(shape, generator=generator) for name, shape in published_ecapa().items()}
    scaled = {name: value / value[0].numel() ** 0.5 for name, value in state.items() if value.ndim == 3}
    variances = {name: value.abs() + 0.5 for name, value in state.items() if name.endswith("running_var")}
    counters = {name: torch.tensor(7) for name in state if name.endswith("num_batches_tracked")}
    return state | scaled | variances | counters


def test_speechbrains_network_loads_its_published_layout_and_refuses_another(tmp_path):
    pytest.importorskip("speechbrain")
    from idlora_pl.scorers.speaker.speechbrain_ecapa import SpeechBrainEcapa

    state = made_ecapa()
    torch.save(state, tmp_path / "embedding_model.ckpt")
    assert (tmp_path / "embedding_model.ckpt").stat().st_size == pytest.approx(83.3e6, rel=0.005)  # as published
    loaded = SpeechBrainEcapa.from_pretrained(tmp_path)
    held = loaded.model.state_dict()
    assert {name: tuple(value.shape) for name, value in held.items()} == published_ecapa()
    assert all(torch.equal(held[name], value) for name, value in state.items())
    dilations = [loaded.model.blocks[k].res2net_block.blocks[0].conv.conv.dilation for k in (1, 2, 3)]
    assert dilations == [(2,), (3,), (4,)]
    wave = 0.1 * torch.randn(2, 16000)
    assert loaded.embed(wave, 16000).shape == (2, 192)
    torch.testing.assert_close(loaded.embed(wave, 16000)[1:], loaded.embed(wave[1:], 16000), atol=1e-3, rtol=1e-3)
    torch.save(state | {"fc.conv.bias": torch.zeros(100)}, tmp_path / "embedding_model.ckpt")
    with pytest.raises(ValueError, match="holds another network"):
        SpeechBrainEcapa.from_pretrained(tmp_path)


def test_mfcc_of_the_d_vectors_are_those_of_a_plain_computation():
    wave = torch.randn(1, 8000, generator=torch.Generator().manual_seed(0))
    model = DVector()
    frames = F.pad(wave, (1024, 1024)).unfold(1, 2048, 512)[0]
    power = torch.fft.rfft(frames * torch.hann_window(2048)).abs().square()
    mel = torchaudio.functional.melscale_fbanks(1025, 0.0, 8000.0, 128, 16000, norm="slaney", mel_scale="slaney")
    decibel = 10 * (power @ mel).clamp(min=1e-10).log10()
    decibel = decibel.clamp(min=decibel.max() - 80)
    n, k = torch.arange(128).double(), torch.arange(40).double()[:, None]
    basis = torch.cos(torch.pi / 128 * (n + 0.5) * k) * (2 / 128) ** 0.5
    basis[0] /= 2**0.5
    expected = decibel.double() @ basis.T
    torch.testing.assert_close(model.mfcc(wave[0]).T.double(), expected, atol=2e-3, rtol=1e-4)


def test_equal_error_rate_of_known_scores():
    assert equal_error_rate(torch.tensor([3.0, 4.0]), torch.tensor([1.0, 2.0])) == 0
    assert equal_error_rate(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0])) == 1
    assert equal_error_rate(torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([0.0, 1.5, -1.0, -2.0])) == 0.25


@needs_media
def test_the_anchor_of_the_d_vectors_passes_on_real_speech():
    card = CARD["spk_sim_dvector"]
    metric = card.load(MEDIA / "checkpoints")
    measured = card.anchor.measure(metric, MEDIA)
    for name, expected in card.anchor.expected.items():
        assert measured[name] == pytest.approx(expected, abs=card.anchor.tolerance[name]), name


@needs_media
def test_d_vectors_do_not_depend_on_batch_or_rate():
    model = DVector.from_pretrained(MEDIA / "checkpoints/speaker/saved_model.bilstm.mean.all.gpu100000.pt")
    wave = 0.1 * torch.randn(3, 80000, generator=torch.Generator().manual_seed(0))
    whole = model.embed(wave, 16000)
    torch.testing.assert_close(torch.cat([model.embed(one[None], 16000) for one in wave]), whole, atol=1e-5, rtol=1e-4)
    wave = torch.sin(torch.arange(64000) * 0.05)[None]
    same = torchaudio.functional.resample(wave, 16000, 48000)
    assert F.cosine_similarity(model.embed(wave, 16000), model.embed(same, 48000)).item() > 0.98


@needs_media
def test_two_speakers_score_below_one(tmp_path):
    found = librispeech_pairs(
        DVector.from_pretrained(MEDIA / "checkpoints/speaker/saved_model.bilstm.mean.all.gpu100000.pt"),
        MEDIA / "librispeech_test-other",
        2,
    )
    assert found["same"] > found["different"] + 0.4


def test_the_metric_of_a_clip_with_itself_is_one(small_head):
    model = WavLMSpeaker.from_state(published_checkpoint(), "standard", "checkpoint", TINY)
    metric = VoiceSimilarity(model, name="spk_sim")
    wave = 0.1 * torch.randn(32000, generator=torch.Generator().manual_seed(2))
    score = metric.score(wave, sample_rate_hz=16000, reference=(wave, 16000), target=(wave, 16000))
    assert score.values["spk_sim"] == pytest.approx(1, abs=1e-5)
    assert score.values["spk_sim_target"] == pytest.approx(1, abs=1e-5)


class Loudness:
    """Tells voices apart by how loud they are."""

    def embed(self, waveform, sample_rate_hz):
        level = waveform.square().mean(1).sqrt()
        angle = torch.pi * level
        return torch.stack([angle.cos(), angle.sin()], 1)


def test_the_pairs_of_the_anchors_are_one_speaker_and_two(tmp_path):
    tone = torch.sin(torch.arange(16000) * 0.3)[None]
    levels = (0.1, 0.12, 0.9)
    for names in (UNISPEECH, SPEECHBRAIN):
        for name, level in zip(names, levels, strict=True):
            write_audio(level * tone, tmp_path / name, 16000)
    metric = VoiceSimilarity(Loudness(), name="spk_sim")
    found = unispeech_pair(metric, tmp_path)
    root = 0.5**0.5
    for name, apart in {"same": 0.02, "different": 0.8}.items():
        assert found[name] == pytest.approx(np.cos(np.pi * root * apart), abs=1e-3)
    assert speechbrain_decisions(metric, tmp_path) == {"same": 1.0, "different": 0.0}
