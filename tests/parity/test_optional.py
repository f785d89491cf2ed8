"""`idlora parity` on cases that leave out what they do not need: the authors' numbers, cut down to other cases."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from idlora_pl.method.flow import sigma_shift
from idlora_pl.parity.run import run_case, run_folder
from tests.parity.broken import read, write

GOLDEN = Path(__file__).parent / "golden"
Cut = Callable[[dict, dict], object]


def no_voice(fields: dict, tensors: dict) -> None:
    """Make the variant without a reference a case of its own, with neither variants nor fields about a reference."""
    for name in ("ref_tokens", "variants"):
        del fields[name]
    fields["seed"] = None
    as_result(tensors, "no_reference")
    del tensors["in.reference_audio_latent"]
    tensors["in.noise_audio"] = tensors.pop("in.noise_audio_noref")


def no_picture(fields: dict, tensors: dict) -> None:
    """Make the variant without a first frame a case of its own, for two clips."""
    fields["variants"] = {}
    as_result(tensors, "no_image")
    for name in ("in.first_frame_latent", "in.noise_audio_noref"):
        del tensors[name]
    twice(fields, tensors, "in.sigmas")


def as_result(tensors: dict, variant: str) -> None:
    for modality in ("video", "audio"):
        tensors[f"out.{modality}_latent"] = tensors[f"variant.{variant}.{modality}_latent"]
    for name in [x for x in tensors if x.startswith(("variant.", "step", "in.initial"))]:
        del tensors[name]


def twice(_fields: dict, tensors: dict, *but: str) -> None:
    for name in tensors.keys() - set(but):
        tensors[name] = torch.cat([tensors[name]] * 2)


def one_sample(fields: dict, tensors: dict) -> None:
    del fields["dims"]["ref_audio_tokens"]
    fields["dims"]["B"] = 1
    fields["tolerance"] = {"out.video": 1e-5, "out.audio": 1e-5}
    for name in tensors:
        tensors[name] = tensors[name][:1]


def stored_without_voice(_fields: dict, tensors: dict) -> None:
    n_reference = tensors.pop("batch.ref_audio_latents").shape[2]
    for name in ("a2v_mask", "audio_text_mask"):
        del tensors[f"prep.{name}"]
    for name in ("audio_combined", "audio_timesteps"):
        tensors[f"prep.{name}"] = tensors[f"prep.{name}"][:, n_reference:]
    tensors["prep.audio_coords"] = tensors["prep.audio_coords"][:, :, n_reference:]


def small_keymap(fields: dict, _tensors: dict) -> None:
    for name in ("params", "bytes_bf16_payload", "tensors"):
        fields[name] = fields[name] * 2 // fields["layers"]
    fields |= {"layers": 2, "pattern": "transformer_blocks.{0..1}.<suffix>"}
    del fields["prefixes"]["diffusers pipeline LoRA file"]


def one_frame_rate(fields: dict, tensors: dict) -> None:
    """Keep video positions of one long shape, at 60 frames a second, and say how many phases they have (spec 2.2)."""
    edges = [[max(0, 8 * frame - 7), 8 * frame + 1] for frame in range(200)]
    seconds = (torch.tensor(edges).float() / 60.0).bfloat16()
    pixels = torch.tensor([0, 32]).bfloat16().expand_as(seconds)
    tensors.clear()
    tensors["video.200x1x1@60.0.bf16"] = torch.stack([seconds, pixels, pixels])[None]
    phases = (seconds[:, 0] + seconds[:, 1]) / 2 / 20 * 2 - 1
    fields["info"] = {"video200x1x1.bf16": [phases.unique().numel(), 1, 1]}


def other_levels(fields: dict, tensors: dict) -> None:
    """Give the stretched distribution other settings, and make its levels again, in float64."""
    fields |= {"std": 1.5, "eps": 0.01, "uniform_prob": 0.4, "p999": 3.0902 * 1.5, "p005": -2.5758 * 1.5}
    normals, uniform, prob = (tensors[name].double() for name in ("normals", "uniform", "prob"))
    for name in [x for x in tensors if x.startswith("v2.")]:
        shift = sigma_shift(int(name.rpartition(".")[2]))
        low, high = torch.tensor([fields["p005"] + shift, fields["p999"] + shift], dtype=torch.float64).sigmoid()
        level = ((normals * 1.5 + shift).sigmoid() - low) / (high - low)
        level = torch.where(level < 0.01, 0.02 - level, level).clamp(0, 1)
        tensors[name] = torch.where(prob > 0.4, level, 0.99 * uniform + 0.01).float()


def contexts_alone(_fields: dict, tensors: dict) -> None:
    for name in ("feat.normed", "feat.video", "feat.audio", "out.mask"):
        tensors.pop(name, None)


CUTS: dict[str, tuple[str, Cut]] = {
    "no_voice": ("m19b_sampler_4step", no_voice),
    "no_picture": ("m23_sampler_4step", no_picture),
    "one_sample": ("m19b_case1_t2av", one_sample),
    "stored_without_voice": ("train_prep_stored_dtypes", stored_without_voice),
    "small_keymap": ("lora_keymap_19b", small_keymap),
    "two_rows_of_positions": ("positions", twice),
    "one_frame_rate": ("positions", one_frame_rate),
    "other_levels": ("timestep_sampler_v23", other_levels),
    "contexts_alone": ("m23_connectors", contexts_alone),
}


def cut_case(folder: Path, name: str) -> Path:
    source, cut = CUTS[name]
    fields, tensors = read(GOLDEN, source)
    cut(fields, tensors)
    if tensors:
        tensors = {key: tensor.contiguous().clone() for key, tensor in tensors.items()}
        fields["tensors"] = {key: {"shape": list(x.shape), "dtype": str(x.dtype)} for key, x in tensors.items()}
    for prefix in ("m19b", "m23"):
        shutil.copy(GOLDEN / f"{prefix}_weights.safetensors", folder)
    write(folder, name, fields, tensors)
    return folder / f"{name}.json"


@pytest.mark.parametrize("name", CUTS)
def test_what_a_case_does_not_need_may_be_left_out(tmp_path, name):
    row = run_case(cut_case(tmp_path, name))
    over = [one for one in row.differences if not one.passes]
    assert (row.status, row.reason, over) == ("pass", "", [])
    assert not row.not_compared
    assert row.differences


@pytest.mark.parametrize(("field", "value"), [("eps", 0.02), ("uniform_prob", 0.1), ("std", 1.0), ("p999", 3.1)])
def test_a_changed_setting_of_the_levels_fails(tmp_path, field, value):
    path = cut_case(tmp_path, "other_levels")
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
    assert run_case(path).status == "fail"


def test_a_folder_or_a_damaged_file_in_place_of_a_case_is_named(tmp_path):
    (tmp_path / "folder.json").mkdir()
    fields, _ = read(GOLDEN, "timestep_sampler_v1")
    whole = (GOLDEN / "timestep_sampler_v1.safetensors").read_bytes()
    for name, content in {"empty": b"", "half": whole[: len(whole) // 2]}.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(fields))
        (tmp_path / f"{name}.safetensors").write_bytes(content)
    files = [(row.status, row.file, row.field) for row in run_folder(tmp_path)]
    assert files == [
        ("not understood", "empty.safetensors", "file"),
        ("not understood", "folder.json", "JSON"),
        ("not understood", "half.safetensors", "file"),
    ]


def test_a_damaged_json_beside_the_weights_is_named(tmp_path):
    fields, _ = read(GOLDEN, "m19b_train_step")
    fields.pop("diffusers_config", None)
    write(tmp_path, "train", fields, load_file(GOLDEN / "m19b_train_step.safetensors"))
    shutil.copy(GOLDEN / "m19b_weights.safetensors", tmp_path)
    (tmp_path / "m19b_weights.json").write_text("{")
    row = run_case(tmp_path / "train.json")
    assert (row.status, row.file, row.field) == ("not understood", "m19b_weights.json", "JSON")
