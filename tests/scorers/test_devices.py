"""Networks on another device than the clips, as Lightning leaves them: every embedder takes its inputs to itself.

The device is "meta", which computes shapes and, as a GPU does, refuses tensors of two devices in one operation.
"""

import copy
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from transformers import WavLMConfig, WavLMModel

from idlora_pl.nano.codecs import audio_groups
from idlora_pl.nano.embedders import NanoEnvironment, NanoLipSync, NanoSpeakerEmbedder, NanoTranscriber
from idlora_pl.scorers.lips.lr_asd import LrAsd
from idlora_pl.scorers.lips.syncnet import SyncNet
from idlora_pl.scorers.speaker.dvector import DVector
from idlora_pl.scorers.speaker.wavlm import LARGE, EcapaHead, WavLMSpeaker

SMALL = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
    "conv_dim": (16,) * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4,
    "num_buckets": 32, "max_bucket_distance": 80, "apply_spec_augment": False, "layerdrop": 0.0,
}  # fmt: skip


def wavlm(scale: str) -> WavLMSpeaker:
    body = WavLMModel(WavLMConfig.from_dict(LARGE | SMALL))
    return WavLMSpeaker(body, EcapaHead(3, 32, channels=64, embedding=256), scale)


def ecapa() -> nn.Module:
    pytest.importorskip("speechbrain")
    from idlora_pl.scorers.speaker.speechbrain_ecapa import ECAPA_TDNN, SpeechBrainEcapa

    small = {"channels": [16] * 4 + [48], "attention_channels": 8, "se_channels": 8, "lin_neurons": 192}
    made = SpeechBrainEcapa(ECAPA_TDNN(80, **small))
    # SpeechBrain's own way to leave out autocast, which meta lacks
    made.features.forward = partial(made.features.forward, force_allow_autocast=True)
    return made


VOICES: dict[str, Callable[[], nn.Module]] = {
    "d-vector": lambda: DVector().eval(),
    "wavlm": lambda: wavlm("standard"),
    "wavlm_idlora": lambda: wavlm("idlora"),
    "ecapa": ecapa,
    "nano": lambda: NanoSpeakerEmbedder().eval(),
}


def sound(sample_rate_hz: int) -> Tensor:
    return 0.1 * torch.randn(1, sample_rate_hz, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("rate", [16_000, pytest.param(44_100, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", VOICES)
def test_a_voice_goes_to_where_the_network_is(name: str, rate: int) -> None:
    network = VOICES[name]()
    here = network.embed(sound(rate), rate)
    there = network.to("meta").embed(sound(rate), rate)
    assert (there.device.type, there.shape) == ("meta", here.shape)


@pytest.mark.parametrize("build", [NanoTranscriber, NanoEnvironment])
def test_words_and_places_are_read_where_the_network_is(build: Callable[[], nn.Module]) -> None:
    network = build().eval().to("meta")
    ask = network.transcribe if isinstance(network, NanoTranscriber) else network.classify
    # what remains is to bring the classes back, and meta has none
    with pytest.raises(NotImplementedError, match=r"Cannot copy out of meta tensor"):
        ask(sound(16_000), 16_000)


@pytest.mark.parametrize(("build", "size"), [(NanoLipSync, 64), (SyncNet, 224)])
def test_sound_and_mouth_go_to_where_the_network_is(build: Callable[[], nn.Module], size: int) -> None:
    frames = torch.zeros(25, 3, size, size, dtype=torch.uint8)
    for part in build().eval().to("meta").embed(sound(16_000)[0], 16_000, frames, 25.0):
        assert part.device.type == "meta"
        assert part.ndim == 2


def test_a_speaking_face_goes_to_where_the_network_is() -> None:
    crops = torch.zeros(25, 3, 224, 224, dtype=torch.uint8)
    odds = LrAsd().eval().to("meta").log_odds(sound(16_000)[0], 16_000, crops)
    assert (odds.device.type, odds.shape) == ("meta", (24,))  # a second has 98 windows, 24 whole frames


def test_moving_an_instrument_leaves_the_codec_where_it_is() -> None:
    before = audio_groups(sound(16_000)[None], 16_000)
    copy.deepcopy(NanoSpeakerEmbedder()).to("meta")
    NanoSpeakerEmbedder().to("meta")
    assert torch.equal(audio_groups(sound(16_000)[None], 16_000), before)
