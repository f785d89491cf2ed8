"""Weights: one file or a folder in, another preset's refused."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from idlora_pl.ltx2.transformer import LTX2

SIGMA = torch.tensor([0.6])


@pytest.fixture
def nano_file(tmp_path):
    """Random nano weights in bfloat16."""
    weights = LTX2.from_preset("nano").transformer.state_dict()
    save_file({name: weight.bfloat16() for name, weight in weights.items()}, tmp_path / "nano.safetensors")
    return tmp_path / "nano.safetensors", weights


def test_one_bfloat16_file_loads_as_float32(nano_file):
    path, weights = nano_file
    loaded = LTX2.from_pretrained(path, "nano").transformer.state_dict()
    assert {weight.dtype for weight in loaded.values()} == {torch.float32}
    for name, weight in weights.items():
        assert torch.equal(loaded[name], weight.bfloat16().float()), name


def test_another_dtype_can_be_asked_for(nano_file):
    model = LTX2.from_pretrained(nano_file[0], "nano", dtype=torch.bfloat16)
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}


def test_a_diffusers_folder_gives_the_same_velocities(smoke_ltx2, make_sequence, tmp_path):
    smoke_ltx2.transformer.save_pretrained(tmp_path)
    loaded = LTX2.from_pretrained(tmp_path, "smoke")
    for part, expected in zip(loaded(make_sequence(), SIGMA), smoke_ltx2(make_sequence(), SIGMA), strict=True):
        assert torch.equal(part, expected)


def test_a_folder_with_other_settings_is_refused(smoke_ltx2, tmp_path):
    smoke_ltx2.transformer.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "rope_type": "interleaved"}))
    with pytest.raises(
        ValueError, match=r"config.json is not that of preset 'smoke': rope_type = 'interleaved', not 'split'"
    ):
        LTX2.from_pretrained(tmp_path, "smoke")


def test_a_folder_of_several_files_loads(smoke_ltx2, make_sequence, tmp_path):
    smoke_ltx2.transformer.save_pretrained(tmp_path, max_shard_size="100KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    loaded = LTX2.from_pretrained(tmp_path, "smoke")
    for part, expected in zip(loaded(make_sequence(), SIGMA), smoke_ltx2(make_sequence(), SIGMA), strict=True):
        assert torch.equal(part, expected)
    first = sorted(tmp_path.glob("*.safetensors"))[0]
    first.unlink()
    with pytest.raises(ValueError, match=f"{first.name} is missing; copy the folder again"):
        LTX2.from_pretrained(tmp_path, "smoke")


def test_a_folder_that_lacks_a_tensor_is_refused(smoke_ltx2, tmp_path):
    smoke_ltx2.transformer.save_pretrained(tmp_path)
    path = tmp_path / "diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    del weights["proj_in.bias"]
    save_file(weights | {"extra": torch.zeros(1)}, path, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"not the weights of .* \(1 missing: proj_in.bias; 1 unexpected: extra\)"):
        LTX2.from_pretrained(tmp_path, "smoke")


def test_weights_of_another_preset_are_refused(nano_file):
    with pytest.raises(
        ValueError, match=r"weights of preset 'smoke' \(144 unexpected: .* and 141 more; 198 of another shape: "
    ):
        LTX2.from_pretrained(nano_file[0], "smoke")


def test_weights_of_another_width_are_refused(smoke_ltx2, tmp_path):
    weights = {**smoke_ltx2.transformer.state_dict(), "proj_in.bias": torch.zeros(3)}
    save_file(weights, tmp_path / "odd.safetensors")
    with pytest.raises(
        ValueError, match=r"odd.safetensors: .* \(1 of another shape: proj_in.bias is \(3,\), not \(32,\)\)"
    ):
        LTX2.from_pretrained(tmp_path / "odd.safetensors", "smoke")


def test_a_file_that_is_no_safetensors_is_refused(tmp_path):
    (tmp_path / "page.safetensors").write_text("<html>404</html>")
    with pytest.raises(ValueError, match=r"page.safetensors: no safetensors file \(.*\); pass weights of the preset"):
        LTX2.from_pretrained(tmp_path / "page.safetensors", "smoke")


def test_a_missing_path_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="gone: no such file or folder; pass the weights of preset 'nano'"):
        LTX2.from_pretrained(tmp_path / "gone", "nano")


def test_a_folder_without_a_transformer_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no config.json and no transformer/; give a diffusers checkpoint folder"):
        LTX2.from_pretrained(tmp_path, "smoke")
