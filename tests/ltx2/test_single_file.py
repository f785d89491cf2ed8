"""The authors' one file of a release: every network of both layouts loads exactly, and no other preset's."""

import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from diffusers.models.transformers.transformer_ltx2 import LTX2VideoTransformer3DModel
from diffusers.pipelines.ltx2.connectors import LTX2TextConnectors
from diffusers.pipelines.ltx2.vocoder import LTX2VocoderWithBWE
from torch import nn

from idlora_pl.ltx2.codec_presets import CODEC_PRESETS, CodecPreset
from idlora_pl.ltx2.codecs import Codecs
from idlora_pl.ltx2.key_map import PARTS, diffusers_names
from idlora_pl.ltx2.presets import CONNECTOR_PRESETS, PRESETS, Preset
from idlora_pl.ltx2.text import TextEncoder
from idlora_pl.ltx2.transformer import LTX2
from idlora_pl.method.in_context import InContext
from idlora_pl.method.tokens import TextContext
from tests.ltx2.authors import authors_name, header_of_19b, header_of_23, write_release

SIGMA = torch.tensor([0.6])
SEEN = InContext(video_sees_reference=True, reference_sees_text=True)
TINY_GENERATOR = {"hidden_channels": 64, "resnet_kernel_sizes": [3], "resnet_dilations": [[1, 3]]}
TINY_23_CODECS = CodecPreset(
    # the block types and strides of LTX-2.3, hardly any channels
    video={
        **CODEC_PRESETS["ltx2.3-22b"].video,
        "block_out_channels": (16, 16, 32, 32),
        "layers_per_block": (1, 2, 1, 1, 1),
        "decoder_block_out_channels": (8, 16, 16, 32),
        "decoder_layers_per_block": (1, 2, 1, 1, 1),
    },
    audio=CODEC_PRESETS["smoke"].audio,
    vocoder=TINY_GENERATOR | {f"bwe_{key}": value for key, value in TINY_GENERATOR.items()},
    vocoder_class=LTX2VocoderWithBWE,
    device="cpu",
)
TINY_23_CONNECTORS = {
    **CONNECTOR_PRESETS["ltx2.3-22b"],
    "caption_channels": 24,
    "text_proj_in_factor": 3,
    "video_hidden_dim": 32,
    "audio_hidden_dim": 16,
    **{f"{stream}_connector_num_attention_heads": heads for stream, heads in (("video", 4), ("audio", 2))},
    **{f"{stream}_connector_attention_head_dim": 8 for stream in ("video", "audio")},
    **{f"{stream}_connector_num_learnable_registers": 4 for stream in ("video", "audio")},
}


@dataclass(frozen=True)
class Release:
    """A file of the authors, what was written into it, and the presets that it belongs to."""

    path: Path
    header: dict
    networks: dict[str, nn.Module]
    preset: Preset
    codecs: CodecPreset
    connectors: dict


def scrambled(network):
    """Give every tensor of a state dict other numbers, so that a mix-up of two of one shape is seen."""
    with torch.no_grad():
        for number, weight in enumerate(network.state_dict().values()):
            noise = torch.randn(weight.shape, generator=torch.Generator().manual_seed(number))
            weight.copy_(weight.float() + 0.02 * noise)
    return network.eval()


@pytest.fixture(scope="module", params=["ltx2-19b", "ltx2.3-22b"])
def release(request, smoke_ltx23, tmp_path_factory):
    """A tiny release in both layouts."""
    is_19b = request.param == "ltx2-19b"
    preset = PRESETS["smoke"] if is_19b else smoke_ltx23.preset
    codecs = CODEC_PRESETS["smoke"] if is_19b else TINY_23_CODECS
    connectors = dict(CONNECTOR_PRESETS["smoke"] if is_19b else TINY_23_CONNECTORS)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        vae, audio_vae, vocoder = codecs.build("cpu")
        networks = {
            "transformer": LTX2VideoTransformer3DModel(**preset.config),
            "connectors": LTX2TextConnectors(**connectors),
            "vae": vae,
            "audio_vae": audio_vae,
            "vocoder": vocoder,
        }
    networks = {part: scrambled(network) for part, network in networks.items()}
    header = header_of_19b(networks) if is_19b else header_of_23(networks)
    path = tmp_path_factory.mktemp("release") / f"{request.param}.safetensors"
    return Release(write_release(path, networks, header), header, networks, preset, codecs, connectors)


@pytest.fixture(autouse=True)
def no_warnings():
    """A complete header leaves nothing to warn about."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*its header does not tell")
        yield


def assert_same_state(network, expected):
    ours, theirs = network.state_dict(), expected.state_dict()
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


# -- loading ---------------------------------------------------------------------------------------------------------


def test_the_transformer_loads_and_gives_the_same_velocities(release, make_sequence):
    model = LTX2.from_pretrained(release.path, release.preset)
    assert_same_state(model.transformer, release.networks["transformer"])
    av = make_sequence(recipe=SEEN, n_reference=0)
    video, audio = release.preset.text_channels
    av = replace(av, text=TextContext(torch.randn(1, 5, video), torch.randn(1, 5, audio)))
    with torch.no_grad():
        stock = release.networks["transformer"](
            **model._inputs(av, SIGMA), use_cross_timestep=release.preset.use_cross_timestep, return_dict=False
        )
        for part, expected in zip(model(av, SIGMA), stock, strict=True):
            # the same weights elsewhere in memory may take another kernel, which adds in another order
            torch.testing.assert_close(part, expected, atol=1e-5, rtol=1e-5)


def test_the_codecs_load_and_give_the_same_latents_frames_and_sound(release, noise_frames, noise_sound):
    codecs = Codecs.from_pretrained(release.path, preset=release.codecs)
    networks = [release.networks[part] for part in ("vae", "audio_vae", "vocoder")]
    for network, expected in zip((codecs.video.vae, codecs.audio.vae, codecs.audio.vocoder), networks, strict=True):
        assert_same_state(network, expected)
        assert not any(tensor.is_meta for tensor in (*network.parameters(), *network.buffers()))
    same = Codecs(*networks)
    video, audio = codecs.encode_video(noise_frames), codecs.encode_audio(noise_sound, 16000)
    assert torch.equal(video, same.encode_video(noise_frames))
    assert torch.equal(audio, same.encode_audio(noise_sound, 16000))
    assert torch.equal(codecs.decode_video(video), same.decode_video(video))
    assert torch.equal(codecs.decode_audio(audio), same.decode_audio(audio))


def test_the_connectors_load_and_give_the_same_context(release, smoke_text):
    text = TextEncoder.from_pretrained(release.path, preset=release.connectors, with_language_model=False)
    assert_same_state(text.connectors, release.networks["connectors"])
    same = TextEncoder(smoke_text.language_model, release.networks["connectors"])
    features = same.encode(["[VISUAL]: a man [SPEECH]: hello [SOUNDS]: wind"])
    for part in ("video", "audio"):
        assert torch.equal(getattr(text.connect(features), part), getattr(same.connect(features), part))


@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16])
def test_weights_of_the_stored_dtype_stay_in_the_file_until_they_are_used(release, tmp_path, stored):
    part = {"transformer": release.networks["transformer"]}
    path = write_release(
        tmp_path / "stored.safetensors", part, {"transformer": release.header["transformer"]}, dtype=stored
    )
    model = LTX2.from_pretrained(path, release.preset, dtype=stored)
    ranges = [
        line.split()[0].split("-") for line in Path("/proc/self/maps").read_text().splitlines() if str(path) in line
    ]
    mapped = [(int(start, 16), int(end, 16)) for start, end in ranges]
    assert mapped
    outside = [
        name
        for name, weight in model.transformer.named_parameters()
        if not any(start <= weight.data_ptr() < end for start, end in mapped)
    ]
    assert outside == []


def test_another_dtype_than_the_stored_one_can_be_asked_for(release):
    codecs = Codecs.from_pretrained(release.path, preset=release.codecs, dtype=torch.bfloat16)
    assert {weight.dtype for weight in codecs.parameters()} == {torch.bfloat16}
    expected = release.networks["vae"].state_dict()["decoder.conv_in.conv.weight"].bfloat16()
    assert torch.equal(codecs.video.vae.state_dict()["decoder.conv_in.conv.weight"], expected)


# -- the map of the full sizes ---------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "sizes"), [("ltx2-19b", (3510, 59, 184, 102, 194)), ("ltx2.3-22b", (4186, 262, 170, 102, 1227))]
)
def test_every_name_of_the_full_sizes_is_mapped_and_none_twice(name, sizes):
    with torch.device("meta"):
        networks = {
            "transformer": LTX2VideoTransformer3DModel(**PRESETS[name].config),
            "connectors": LTX2TextConnectors(**CONNECTOR_PRESETS[name]),
        }
    networks |= dict(zip(("vae", "audio_vae", "vocoder"), CODEC_PRESETS[name].build("meta"), strict=True))
    own = {part: list(network.state_dict()) for part, network in networks.items()}
    whole = [authors_name(part, key) for part, keys in own.items() for key in keys]
    assert len(set(whole)) == len(whole)
    assert tuple(len(own[part]) for part in ("transformer", "connectors", "vae", "audio_vae", "vocoder")) == sizes
    for part in PARTS:
        assert sorted(diffusers_names(whole, part)) == sorted(own[part])


# -- refused ---------------------------------------------------------------------------------------------------------


def load(release, part, path):
    """Load one network of a file."""
    if part == "transformer":
        LTX2.from_pretrained(path, release.preset)
    elif part == "connectors":
        TextEncoder.from_pretrained(path, preset=release.connectors, with_language_model=False)
    else:
        Codecs.from_pretrained(path, preset=release.codecs)


MISSING = {
    "transformer": ("model.diffusion_model.patchify_proj.bias", "proj_in.bias"),
    "connectors": (
        "model.diffusion_model.video_embeddings_connector.learnable_registers",
        "video_connector.learnable_registers",
    ),
    "vae": ("vae.encoder.down_blocks.8.res_blocks.0.conv1.conv.bias", "encoder.mid_block.resnets.0.conv1.conv.bias"),
    "audio_vae": ("audio_vae.per_channel_statistics.std-of-means", "latents_std"),
}


@pytest.mark.parametrize("part", MISSING)
def test_missing_and_unexpected_names_are_listed(release, tmp_path, part):
    gone, new = MISSING[part]
    odd = {gone.rpartition(".")[0] + ".weight_scale": torch.ones(1)}
    path = write_release(tmp_path / "odd.safetensors", release.networks, release.header, without=[gone], extra=odd)
    message = (
        rf"odd.safetensors: {part}: not that of preset .* \(tensors: 1 missing: {new}; 1 unexpected: .*weight_scale\)"
    )
    with pytest.raises(ValueError, match=message):
        load(release, part, path)


@pytest.mark.parametrize(
    ("part", "section", "key", "value", "message"),
    [
        ("transformer", "transformer", "av_ca_timestep_scale_multiplier", 1, "multiplier = 1, not 1000"),
        ("transformer", "transformer", "frequencies_precision", "float32", "precision = 'float32', not 'float64'"),
        ("transformer", "transformer", "rope_type", "interleaved", "rope_type = 'interleaved', not 'split'"),
        ("transformer", "transformer", "positional_embedding_max_pos", [24, 2048, 2048], r"= \[24, 2048, 2048\], not"),
        ("connectors", "transformer", "connector_positional_embedding_max_pos", [1024], r"= \[1024\], not \[4096\]"),
        ("vae", "vae", "timestep_conditioning", True, "vae.timestep_conditioning = True, not False"),
        ("vae", "vae", "decoder_spatial_padding_mode", "circular", "padding_mode = 'circular', not"),
        ("audio_vae", "audio_vae", "preprocessing", {"stft": {"hop_length": 256}}, "stft.hop_length = 256, not 160"),
        ("audio_vae", "audio_vae", "model", [], r"audio_vae.model = \[\], not an object"),
    ],
)
def test_a_header_that_contradicts_the_preset_is_named(release, tmp_path, part, section, key, value, message):
    header = {**release.header, section: {**release.header[section], key: value}}
    path = write_release(tmp_path / "odd.safetensors", release.networks, header)
    with pytest.raises(ValueError, match=rf"odd.safetensors: {part}: not that of preset .* \(header: .*{message}"):
        load(release, part, path)


def test_strides_of_the_vocoder_that_no_shape_shows_are_compared(release, tmp_path):
    header = {**release.header, "vocoder": dict(release.header["vocoder"])}
    if "bwe" in header["vocoder"]:
        header["vocoder"]["bwe"] = {**header["vocoder"]["bwe"], "hop_length": 160}
        message = "vocoder.bwe.hop_length = 160, not 80"
    else:
        header["vocoder"]["upsample_rates"] = [5, 6, 2, 2, 2]
        message = r"vocoder.upsample_rates = \[5, 6, 2, 2, 2\], not \[6, 5, 2, 2, 2\]"
    path = write_release(tmp_path / "odd.safetensors", release.networks, header)
    with pytest.raises(ValueError, match=message):
        load(release, "vocoder", path)


def test_a_header_that_leaves_open_what_shapes_do_not_show_is_reported(release, tmp_path):
    silent = {
        key: value for key, value in release.header["transformer"].items() if key != "av_ca_timestep_scale_multiplier"
    }
    path = write_release(tmp_path / "a.safetensors", release.networks, {**release.header, "transformer": silent})
    with pytest.warns(
        UserWarning, match="av_ca_timestep_scale_multiplier .the authors' code takes 1 then, this preset 1000"
    ):
        load(release, "transformer", path)
    path = write_release(tmp_path / "b.safetensors", release.networks, None)
    for part in ("transformer", "connectors"):
        with pytest.warns(UserWarning, match=f"b.safetensors: its header does not tell any setting of {part}"):
            load(release, part, path)


def test_the_preset_of_the_other_layout_is_refused_with_the_first_names(release, smoke_ltx23):
    other = smoke_ltx23.preset if release.preset.name == "smoke" else PRESETS["smoke"]
    message = rf"transformer: not that of preset '{other.name}' \((header: .*)?tensors: \d+ (missing|unexpected): "
    with pytest.raises(ValueError, match=message):
        LTX2.from_pretrained(release.path, other)
    codecs = TINY_23_CODECS if release.preset.name == "smoke" else CODEC_PRESETS["smoke"]
    with pytest.raises(ValueError, match=f"{release.path.name}: vae: "):
        Codecs.from_pretrained(release.path, preset=codecs)


def test_a_file_without_a_network_says_which_it_has(release, tmp_path):
    path = write_release(tmp_path / "part.safetensors", {"transformer": release.networks["transformer"]}, None)
    with pytest.raises(
        ValueError, match="part.safetensors: holds no weights of vae, only of transformer; pass the whole"
    ):
        Codecs.from_pretrained(path, preset=release.codecs)


def test_a_file_needs_a_preset_and_a_language_model(release):
    with pytest.raises(ValueError, match="does not say how to build its codecs; pass preset, such as 'ltx2-19b'"):
        Codecs.from_pretrained(release.path)
    with pytest.raises(ValueError, match="does not say how to build its connectors; pass preset"):
        TextEncoder.from_pretrained(release.path, with_language_model=False)
    with pytest.raises(ValueError, match=r"the authors' file holds no language model; pass gemma, .* as model.gemma"):
        TextEncoder.from_pretrained(release.path, preset=release.connectors)


def test_tensors_of_no_known_network_are_counted(release, tmp_path):
    extra = {"duration_head.weight": torch.zeros(1)}
    path = write_release(tmp_path / "more.safetensors", release.networks, release.header, extra=extra)
    with pytest.warns(UserWarning, match="more.safetensors: 1 tensors are of no known network: duration_head.weight"):
        load(release, "transformer", path)


def test_two_names_of_one_tensor_are_refused(release, tmp_path):
    name = "model.diffusion_model.proj_in.bias"
    extra = {name: torch.zeros(32)}
    path = write_release(tmp_path / "odd.safetensors", release.networks, release.header, extra=extra)
    with pytest.raises(ValueError, match=f"odd.safetensors: .*{name}.* are both proj_in.bias of transformer"):
        load(release, "transformer", path)


def test_a_header_that_is_no_json_is_refused(tmp_path):
    from safetensors.torch import save_file

    save_file({"vae.a": torch.zeros(1)}, tmp_path / "a.safetensors", metadata={"config": "{"})
    with pytest.raises(ValueError, match="a.safetensors: config in its header is not valid JSON"):
        LTX2.from_pretrained(tmp_path / "a.safetensors", "smoke")
    save_file({"vae.a": torch.zeros(1)}, tmp_path / "a.safetensors", metadata={"config": "[]"})
    with pytest.raises(ValueError, match="a.safetensors: config in its header holds a list, not an object"):
        LTX2.from_pretrained(tmp_path / "a.safetensors", "smoke")
