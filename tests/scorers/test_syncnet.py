"""SyncNet against a second formulation, the published layout, and what shifts of the sound must do."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from idlora_pl.metrics.lips import LipDistances
from idlora_pl.metrics.scorable import Unscorable
from idlora_pl.scorers.lips.mfcc import as_16_bit, mfcc
from idlora_pl.scorers.lips.syncnet import SyncNet, load_syncnet

# Keys and shapes of syncnet_v2.model; each convolution has weight and bias, each norm weight, bias, running_mean and
# running_var.
CONVOLUTIONS = {
    "netcnnaud.0": (64, 1, 3, 3),
    "netcnnaud.4": (192, 64, 3, 3),
    "netcnnaud.8": (384, 192, 3, 3),
    "netcnnaud.11": (256, 384, 3, 3),
    "netcnnaud.14": (256, 256, 3, 3),
    "netcnnaud.18": (512, 256, 5, 4),
    "netcnnlip.0": (96, 3, 5, 7, 7),
    "netcnnlip.4": (256, 96, 1, 5, 5),
    "netcnnlip.8": (256, 256, 1, 3, 3),
    "netcnnlip.11": (256, 256, 1, 3, 3),
    "netcnnlip.14": (256, 256, 1, 3, 3),
    "netcnnlip.18": (512, 256, 1, 6, 6),
    "netfcaud.0": (512, 512),
    "netfcaud.3": (1024, 512),
    "netfclip.0": (512, 512),
    "netfclip.3": (1024, 512),
}
NORMS = {
    "netcnnaud.1": 64,
    "netcnnaud.5": 192,
    "netcnnaud.9": 384,
    "netcnnaud.12": 256,
    "netcnnaud.15": 256,
    "netcnnaud.19": 512,
    "netcnnlip.1": 96,
    "netcnnlip.5": 256,
    "netcnnlip.9": 256,
    "netcnnlip.12": 256,
    "netcnnlip.15": 256,
    "netcnnlip.19": 512,
    "netfcaud.1": 512,
    "netfclip.1": 512,
}


def published_tensors() -> dict[str, Tensor]:
    """Seeded random weights in the published layout; scaled so that no layer's output dies or explodes."""
    random = torch.Generator().manual_seed(4)
    tensors = {}
    for name, shape in CONVOLUTIONS.items():
        tensors[f"{name}.weight"] = torch.randn(shape, generator=random) * math.sqrt(2 / math.prod(shape[1:]))
        tensors[f"{name}.bias"] = torch.randn(shape[0], generator=random) / 10
    for name, width in NORMS.items():
        tensors[f"{name}.weight"] = 0.5 + torch.rand(width, generator=random)
        tensors[f"{name}.bias"] = torch.randn(width, generator=random) / 10
        tensors[f"{name}.running_mean"] = torch.randn(width, generator=random) / 10
        tensors[f"{name}.running_var"] = 0.5 + torch.rand(width, generator=random)
    # the picture comes in 0..255 and the cepstra are in the tens
    tensors["netcnnlip.1.running_var"] *= 150**2
    tensors["netcnnaud.1.running_var"] *= 20**2
    return tensors


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> SyncNet:
    path = tmp_path_factory.mktemp("syncnet") / "syncnet_v2.model"
    torch.save(published_tensors(), path)
    return load_syncnet(path)


@pytest.fixture(scope="module")
def clip() -> tuple[Tensor, Tensor]:
    """0.6 s of a moving pattern, 15 crops at 25 fps, with a chirp at 16 kHz."""
    random = torch.Generator().manual_seed(5)
    coarse = torch.randint(256, (15, 3, 7, 7), generator=random).float()
    crops = F.interpolate(coarse, size=(224, 224), mode="bilinear").round().to(torch.uint8)
    time = torch.arange(9_700) / 16_000
    sound = 0.3 * torch.sin(900 * time**2 + 500 * time) * (1 + torch.sin(40 * time)) / 2
    return sound + 0.01 * torch.randn(len(sound), generator=random), crops


def norm(maps: Tensor, weights: dict[str, Tensor], name: str) -> Tensor:
    """Batch norm as a formula."""
    shape = (1, -1, *[1] * (maps.ndim - 2))
    mean, var, gain, bias = (
        weights[f"{name}.{part}"].reshape(shape) for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (maps - mean) / (var + 1e-5).sqrt() * gain + bias


def largest(maps: Tensor, size: tuple[int, int], stride: tuple[int, int], edge: int = 0) -> Tensor:
    """Max pooling as a maximum over unfolded windows (N, C, H, W)."""
    maps = F.pad(maps, (edge, edge, edge, edge), value=float("-inf"))
    return maps.unfold(2, size[0], stride[0]).unfold(3, size[1], stride[1]).amax((4, 5))


def conv(maps: Tensor, weight: Tensor, bias: Tensor, stride: int = 1, edge: int = 0) -> Tensor:
    """Convolution (N, C, H, W) as a product with unfolded windows."""
    columns = F.unfold(maps, weight.shape[2:], padding=edge, stride=stride)
    rows = (maps.shape[2] + 2 * edge - weight.shape[2]) // stride + 1
    return (weight.flatten(1) @ columns + bias[:, None]).unflatten(2, (rows, -1))


def reference_sound(weights: dict[str, Tensor], window: Tensor) -> Tensor:
    """The audio stream on one window (13, 20) of cepstra."""

    def layer(maps: Tensor, index: int, edge: int = 1) -> Tensor:
        name = f"netcnnaud.{index}"
        maps = conv(maps, weights[f"{name}.weight"], weights[f"{name}.bias"], edge=edge)
        return norm(maps, weights, f"netcnnaud.{index + 1}").clamp(min=0)

    maps = largest(layer(layer(window[None, None], 0), 4), (3, 3), (1, 2))
    maps = largest(layer(layer(layer(maps, 8), 11), 14), (3, 3), (2, 2))
    return reference_head(weights, "netfcaud", layer(maps, 18, edge=0).flatten(1))


def reference_mouth(weights: dict[str, Tensor], frames: Tensor) -> Tensor:
    """The video stream on five frames (5, 3, 224, 224), red first: a sum of five plain convolutions comes first."""
    first = weights["netcnnlip.0.weight"]
    maps = sum(
        (conv(frames[k : k + 1].flip(1), first[:, :, k], first.new_zeros(96), stride=2) for k in range(5)),
        weights["netcnnlip.0.bias"][None, :, None, None],
    )
    maps = largest(norm(maps, weights, "netcnnlip.1").clamp(min=0), (3, 3), (2, 2))

    def layer(maps: Tensor, index: int, stride: int = 1, edge: int = 1) -> Tensor:
        name = f"netcnnlip.{index}"
        maps = conv(maps, weights[f"{name}.weight"][:, :, 0], weights[f"{name}.bias"], stride, edge)
        return norm(maps, weights, f"netcnnlip.{index + 1}").clamp(min=0)

    maps = largest(layer(maps, 4, stride=2), (3, 3), (2, 2), edge=1)
    maps = largest(layer(layer(layer(maps, 8), 11), 14), (3, 3), (2, 2))
    return reference_head(weights, "netfclip", layer(maps, 18, edge=0).flatten(1))


def reference_head(weights: dict[str, Tensor], name: str, features: Tensor) -> Tensor:
    hidden = features @ weights[f"{name}.0.weight"].T + weights[f"{name}.0.bias"]
    hidden = norm(hidden, weights, f"{name}.1").clamp(min=0)
    return (hidden @ weights[f"{name}.3.weight"].T + weights[f"{name}.3.bias"])[0]


@pytest.fixture(scope="module")
def embedded(network: SyncNet, clip: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """What the network makes of the clip."""
    return network.embed(clip[0], 16_000, clip[1], 25.0)


def test_the_published_layout_is_loaded_key_by_key(network: SyncNet) -> None:
    stored = published_tensors()
    found = {name: value for name, value in network.state_dict().items() if "num_batches" not in name}
    assert found.keys() == stored.keys()
    assert all(torch.equal(found[name], stored[name]) for name in stored)


def test_a_file_of_an_old_torch_and_one_with_counters_are_loaded(tmp_path: Path) -> None:
    counted = published_tensors() | {f"{name}.num_batches_tracked": torch.tensor(7) for name in NORMS}
    torch.save(counted, tmp_path / "old.model", _use_new_zipfile_serialization=False)
    assert load_syncnet(tmp_path / "old.model").netcnnaud[1].num_batches_tracked == 7


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors.pop("netfclip.3.bias"), "Missing key.*netfclip.3.bias"),
        (lambda tensors: tensors.update({"netfclip.4.bias": torch.zeros(1)}), "Unexpected key.*netfclip.4.bias"),
        (lambda tensors: tensors.update({"netfcaud.3.bias": torch.zeros(256)}), "size mismatch for netfcaud.3.bias"),
    ],
)
def test_a_file_of_another_layout_is_refused(
    tmp_path: Path, change: Callable[[dict[str, Tensor]], object], message: str
) -> None:
    tensors = published_tensors()
    change(tensors)
    torch.save(tensors, tmp_path / "wrong.model")
    with pytest.raises(ValueError, match=f"(?s)wrong.model does not fit SyncNet.*{message}"):
        load_syncnet(tmp_path / "wrong.model")


def test_both_streams_equal_a_second_formulation(clip: tuple[Tensor, Tensor], embedded: tuple[Tensor, Tensor]) -> None:
    (waveform, crops), (sound, mouth) = clip, embedded
    assert sound.shape == mouth.shape == (10, 1024)
    weights, cepstra = published_tensors(), mfcc(as_16_bit(waveform, 16_000)).float()
    # One step of either chunk of frames, and the last.
    for step in (0, 8, 9):
        expected = reference_sound(weights, cepstra[4 * step : 4 * step + 20].T)
        torch.testing.assert_close(sound[step], expected, atol=1e-4, rtol=1e-4)
        expected = reference_mouth(weights, crops[step : step + 5].float())
        torch.testing.assert_close(mouth[step], expected, atol=1e-4, rtol=1e-4)
    assert (sound[0] - sound[8]).norm() > 0.05 * sound[0].norm(), "the reference must tell steps apart"
    assert (mouth[0] - mouth[8]).norm() > 0.05 * mouth[0].norm()


@pytest.mark.parametrize("shift", [1, 3])
def test_sound_that_is_early_by_k_frames_is_the_same_vectors_k_steps_earlier(
    network: SyncNet, clip: tuple[Tensor, Tensor], embedded: tuple[Tensor, Tensor], shift: int
) -> None:
    (waveform, crops), (sound, mouth) = clip, embedded
    early, same = network.embed(F.pad(waveform[640 * shift :], (0, 640 * shift)), 16_000, crops, 25.0)
    assert torch.equal(mouth, same)
    # the first 10 ms have no sample before them, so the filter starts differently there
    torch.testing.assert_close(early[1 : 10 - shift], sound[1 + shift :], atol=1e-4, rtol=1e-4)


def test_the_same_clip_gives_the_same_numbers(network: SyncNet, clip: tuple[Tensor, Tensor]) -> None:
    waveform, crops = clip
    metric = LipDistances(network, None, max_offset=5, min_steps=6)
    first, second = (
        metric.score(waveform[:8000], crops[:12], sample_rate_hz=16_000, frame_rate_fps=25.0) for _ in range(2)
    )
    assert first == second
    assert first.values.keys() == {"lse_d", "lse_c", "lip_offset"}


@pytest.mark.slow
def test_frames_of_another_rate_are_seen_at_25_fps(
    network: SyncNet, clip: tuple[Tensor, Tensor], embedded: tuple[Tensor, Tensor]
) -> None:
    (waveform, crops), expected = clip, embedded
    doubled = network.embed(waveform, 16_000, crops.repeat_interleave(2, 0), 50.0)
    assert torch.equal(doubled[1], expected[1])
    assert torch.equal(doubled[0], expected[0])


def test_the_last_frame_of_the_shorter_is_left_out_as_the_tool_does(
    network: SyncNet, clip: tuple[Tensor, Tensor]
) -> None:
    waveform, crops = clip
    assert len(network.embed(waveform[:6400], 16_000, crops, 25.0)[0]) == 5
    assert len(network.embed(waveform, 16_000, crops[:6], 25.0)[0]) == 1
    for short in ((waveform, crops[:5]), (waveform[: 6 * 640 - 1], crops)):
        with pytest.raises(Unscorable, match="too_short"):
            network.embed(short[0], 16_000, short[1], 25.0)


def test_crops_of_another_size_are_refused(network: SyncNet) -> None:
    with pytest.raises(ValueError, match=r"must be \(F, 3, 224, 224\) crops of a face; got \(9, 3, 96, 96\)"):
        network.embed(torch.zeros(16_000), 16_000, torch.zeros(9, 3, 96, 96, dtype=torch.uint8), 25.0)
