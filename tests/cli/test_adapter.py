"""`idlora adapter` says what a file holds, and writes it in another style."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from idlora_pl.cli import main
from idlora_pl.cli.adapter import describe
from idlora_pl.ltx2.adapter_file import read_adapter
from idlora_pl.nano.codecs import ASSETS

GOLDEN = Path(__file__).parents[1] / "parity" / "golden"


def test_our_own_file_is_described(capsys):
    main(["adapter", str(ASSETS / "adapter.safetensors")])
    printed = capsys.readouterr().out
    for text in ("nano", "16, 16", "18 linears in each of 4 blocks", "144 tensors, 335872 parameters", "72 of 72"):
        assert text in printed
    assert "placement negative" in printed


def test_a_file_without_a_header_is_described_by_its_tensors():
    words = describe(read_adapter(GOLDEN / "m19b_lora_comfy.safetensors"))
    assert words["style"] == "ComfyUI and the authors"
    assert words["base model"] == "not told; fits smoke"
    assert words["recipe"] == "not told; pass in_context when it is loaded"
    assert (words["consent"], words["AI label"]) == ("not told", "not told")


def test_a_file_that_does_not_fit_the_base_model_it_names_is_told_apart(tmp_path):
    state = load_file(ASSETS / "adapter.safetensors")
    state.popitem()
    pair = [name for name in state if ".3.video_to_audio_attn.to_v." in name]
    save_file({n: w for n, w in state.items() if n not in pair}, tmp_path / "a.safetensors", {"base_model": "nano"})
    words = describe(read_adapter(tmp_path / "a.safetensors"))
    assert words["base model"].startswith("nano, but does not fit it: 2 missing: ")
    save_file(load_file(ASSETS / "adapter.safetensors"), tmp_path / "a.safetensors", {"base_model": "ltx-9"})
    assert describe(read_adapter(tmp_path / "a.safetensors"))["base model"] == "ltx-9, which is no preset here"


def test_a_file_is_written_in_the_other_style_and_back(tmp_path, capsys):
    source = GOLDEN / "m23_lora_comfy.safetensors"
    main(["adapter", str(source), "--output", str(tmp_path / "folder"), "--style", "diffusers"])
    assert "pytorch_lora_weights.safetensors" in capsys.readouterr().out
    main(["adapter", str(tmp_path / "folder"), "--output", str(tmp_path / "back.safetensors")])
    back, first = load_file(tmp_path / "back.safetensors"), load_file(source)
    assert back.keys() == first.keys()
    assert all(torch.equal(back[name], first[name]) for name in first)
    about = read_adapter(tmp_path / "back.safetensors").metadata
    assert (about["consent"], about["ai_label"][:12]) == ("unknown", "AI-generated")


def test_a_file_that_changes_nothing_is_reported_and_not_written_again(tmp_path, capsys):
    state = {name: weight * (".lora_A." in name) for name, weight in load_file(ASSETS / "adapter.safetensors").items()}
    save_file(state, tmp_path / "zero.safetensors")
    with pytest.raises(SystemExit, match="zero.safetensors changes nothing, so it is not written again"):
        main(["adapter", str(tmp_path / "zero.safetensors"), "--output", str(tmp_path / "b.safetensors")])
    assert "nothing: every update is zero" in capsys.readouterr().out
    assert not (tmp_path / "b.safetensors").exists()


def test_a_missing_file_ends_in_a_sentence(tmp_path):
    with pytest.raises(SystemExit, match="idlora: .*gone.safetensors: no such adapter file; pass one"):
        main(["adapter", str(tmp_path / "gone.safetensors")])
