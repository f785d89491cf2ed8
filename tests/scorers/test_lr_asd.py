"""LR-ASD: the published layout, and values of another implementation."""

from pathlib import Path

import pytest
import torch

from idlora_pl.metrics.lips import MIN_FRAMES
from idlora_pl.metrics.scorable import Unscorable
from idlora_pl.scorers.lips.lr_asd import LrAsd, load_lr_asd

WEIGHTS = "lipsync/lr_asd_pretrain_AVA.model"
# Scores (silent, speaking) of another implementation of the authors' layers with the published weights, on `inputs`.
GOLDEN = [
    (3.83253, -3.37029),
    (3.98106, -3.64993),
    (4.10739, -3.88067),
    (4.05234, -3.90589),
    (3.90452, -3.80960),
    (3.61339, -3.57066),
    (2.95576, -3.04196),
]


def layout() -> dict[str, tuple[int, ...]]:
    """Keys and shapes of pretrain_AVA.model, without the counters of the norms."""
    found: dict[str, tuple[int, ...]] = {}

    def norm(name: str, width: int) -> None:
        found.update({f"{name}.{part}": (width,) for part in ("weight", "bias", "running_mean", "running_var")})

    for block, before, after in ((1, 1, 32), (2, 32, 64), (3, 64, 128)):
        face, sound = f"model.visualEncoder.block{block}", f"model.audioEncoder.block{block}"
        found[f"{face}.s_1.weight"] = (after // 2, before, 1, 5, 5)
        found[f"{face}.s_2.weight"] = (after, after // 2, 1, 3, 3)
        found[f"{face}.t_1.weight"] = (after, after, 5, 1, 1)
        found[f"{face}.t_2.weight"] = (after, after, 3, 1, 1)
        found[f"{sound}.m_1.weight"] = (after // 2, before, 5, 1)
        found[f"{sound}.m_2.weight"] = (after, after // 2, 3, 1)
        found[f"{sound}.t_1.weight"] = (after, after, 1, 5)
        found[f"{sound}.t_2.weight"] = (after, after, 1, 3)
        for name in (f"{face}.s", f"{sound}.m", f"{face}.t", f"{sound}.t"):
            norm(f"{name}_norm_1", after if name.endswith("t") else after // 2)
            norm(f"{name}_norm_2", after)
    for gate, width in (("model.fusion", 256), ("model.detector.attention", 128)):
        found[f"{gate}.attention.weight"] = (width, width, 1)
        norm(f"{gate}.bn", width)
    for gru in ("model.detector.gru_forward", "model.detector.gru_backward"):
        found |= {f"{gru}.weight_ih_l0": (192, 256), f"{gru}.weight_hh_l0": (192, 64)}
        found |= {f"{gru}.bias_ih_l0": (192,), f"{gru}.bias_hh_l0": (192,)}
    for head in ("lossAV", "lossV"):
        found |= {f"{head}.FC.weight": (2, 128), f"{head}.FC.bias": (2,)}
    return found


def inputs(n_frames: int = 7) -> tuple[torch.Tensor, torch.Tensor]:
    """Cepstra (1, 4 F, 13) and grey faces (1, F, 112, 112) from formulas."""
    t = torch.arange(4 * n_frames * 13, dtype=torch.float64)
    cepstra = (12 * torch.sin(0.37 * t) + 5 * torch.cos(0.011 * t * t)).float().reshape(1, 4 * n_frames, 13)
    y, x = torch.meshgrid(torch.arange(112.0), torch.arange(112.0), indexing="ij")
    faces = [(127 + 90 * torch.sin(x / 9 + 0.6 * k) * torch.cos(y / 7 - 0.3 * k)).round() for k in range(n_frames)]
    return cepstra, torch.stack(faces)[None]


def test_the_network_has_the_published_keys_and_shapes() -> None:
    found = {name: tuple(value.shape) for name, value in LrAsd().state_dict().items() if "num_batches" not in name}
    assert found == layout()


def test_the_public_file_has_the_layout_that_is_written_here(checkpoints: Path) -> None:
    stored = torch.load(checkpoints / WEIGHTS, map_location="cpu", weights_only=True)
    assert {name: tuple(value.shape) for name, value in stored.items() if "num_batches" not in name} == layout()


def test_a_file_of_another_network_is_refused(tmp_path: Path) -> None:
    torch.save({"conv.weight": torch.zeros(1)}, tmp_path / "wrong.model")
    with pytest.raises(ValueError, match=r"wrong.model does not fit LR-ASD: (?s:.*)Missing key"):
        load_lr_asd(tmp_path / "wrong.model")


def test_scores_equal_those_of_another_implementation(checkpoints: Path) -> None:
    with torch.no_grad():
        found = load_lr_asd(checkpoints / WEIGHTS)(*inputs())
    torch.testing.assert_close(found[0], torch.tensor(GOLDEN), atol=1e-4, rtol=0)


def test_there_is_a_value_for_every_frame_that_has_sound() -> None:
    network, crops = LrAsd().eval(), torch.zeros(10, 3, 224, 224, dtype=torch.uint8)
    sound = torch.randn(16_000, generator=torch.Generator().manual_seed(1)) / 10
    assert len(network.log_odds(sound, 16_000, crops)) == 10
    # 0.2 s of sound has 19 windows of 25 ms, 10 ms apart: four whole frames
    assert len(network.log_odds(sound[:3200], 16_000, crops)) == 4
    with pytest.raises(Unscorable, match="too_short"):
        network.log_odds(sound[:600], 16_000, crops)


def test_a_frame_sees_nine_frames_to_either_side() -> None:
    encoder = LrAsd().eval().model["visualEncoder"].double()
    faces = torch.rand(1, 23, 112, 112, generator=torch.Generator().manual_seed(3), dtype=torch.float64) * 255
    other = faces.clone()
    other[:, 11] = 255 - other[:, 11]
    with torch.no_grad():
        apart = (encoder(faces) - encoder(other)).abs().amax(2)[0]
    changed = apart.nonzero()[:, 0].tolist()
    assert (min(changed), max(changed)) == (11 - MIN_FRAMES // 2, 11 + MIN_FRAMES // 2)


def test_only_the_middle_of_the_crop_is_looked_at() -> None:
    network = LrAsd().eval()
    sound = torch.randn(8_000, generator=torch.Generator().manual_seed(1)) / 10
    crops = torch.randint(256, (6, 3, 224, 224), generator=torch.Generator().manual_seed(2)).to(torch.uint8)
    framed = torch.full_like(crops, 9)
    framed[:, :, 56:168, 56:168] = crops[:, :, 56:168, 56:168]
    assert torch.equal(network.log_odds(sound, 16_000, crops), network.log_odds(sound, 16_000, framed))
    framed[:, :, 100:120, 100:120] = 0
    assert not torch.equal(network.log_odds(sound, 16_000, crops), network.log_odds(sound, 16_000, framed))


def test_crops_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match=r"must be \(F, 3, 224, 224\) crops of a face; got \(9, 3, 112, 112\)"):
        LrAsd().log_odds(torch.zeros(16_000), 16_000, torch.zeros(9, 3, 112, 112, dtype=torch.uint8))
