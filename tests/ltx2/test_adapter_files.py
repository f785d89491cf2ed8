"""Adapter files of every style: read as they are, written so that other programs compute the same."""

import json
import subprocess
from copy import deepcopy
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, LTX2Pipeline
from diffusers.models.transformers.transformer_ltx2 import LTX2VideoTransformer3DModel
from peft import LoraConfig, get_peft_model
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from idlora_pl.ltx2.adapter_file import DIFFUSERS_NAME, git_commit, read_adapter, write_adapter
from idlora_pl.ltx2.adapter_format import PAPER_TARGETS, Adapter, LoRA, misfit
from idlora_pl.ltx2.lora import adapter_of, attach_lora, attached_lora, load_adapter, lora_state_dict, save_adapter
from idlora_pl.ltx2.transformer import LTX2
from idlora_pl.method.in_context import InContext

GOLDEN = Path(__file__).parents[1] / "parity" / "golden"
SIGMA = torch.tensor([0.6])
SEEN = InContext(video_sees_reference=True, reference_sees_text=True)


def copy_of(base):
    """A model with the weights of the base."""
    model = LTX2(base.preset)
    model.transformer.load_state_dict(base.transformer.state_dict())
    return model


@cache
def kept_trained(base, rank, alpha):
    """A copy of the base model with an adapter that does something, always the same; tests must leave it as it is."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = copy_of(base)
        attach_lora(model, rank=rank, alpha=alpha)
        for name, weight in model.named_parameters():
            if ".lora_B." in name:
                torch.nn.init.normal_(weight)
    return model


def trained(base, rank=4, alpha=None):
    """A copy of `kept_trained`, which takes a third of the time."""
    return deepcopy(kept_trained(base, rank, alpha))


def header_of(path):
    """The header entries of a safetensors file."""
    with safe_open(path, "pt") as file:
        return file.metadata()


def assert_same_tensors(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name, weight in ours.items():
        assert weight.dtype == theirs[name].dtype, name
        assert torch.equal(weight, theirs[name]), name


# -- the authors' files ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["m19b", "m23"])
def test_the_authors_files_come_back_as_they_were(layout, tmp_path):
    path = GOLDEN / f"{layout}_lora_comfy.safetensors"
    adapter = read_adapter(path)
    assert (adapter.lora.rank, adapter.lora.alpha, adapter.metadata) == (4, 4.0, {})
    assert set(adapter.lora.targets) == set(PAPER_TARGETS)
    assert_same_tensors(load_file(write_adapter(tmp_path / "again.safetensors", adapter)), load_file(path))
    diffusers = write_adapter(tmp_path / "folder", adapter, style="diffusers")
    assert_same_tensors(read_adapter(diffusers).state, adapter.state)


def published_state(rank=128):
    """Names and shapes of the authors' adapters, from the specification (section 3.5 and its key table)."""
    video, audio = 4096, 2048
    widths = {
        f"{attention}.{projection}": (audio, audio)
        for attention in ("audio_attn1", "audio_attn2", "audio_to_video_attn", "video_to_audio_attn")
        for projection in ("to_q", "to_k", "to_v", "to_out.0")
    }
    widths |= {"audio_to_video_attn.to_q": (video, audio), "audio_to_video_attn.to_out.0": (audio, video)}
    widths |= {"video_to_audio_attn.to_k": (video, audio), "video_to_audio_attn.to_v": (video, audio)}
    widths |= {"audio_ff.net.0.proj": (audio, 4 * audio), "audio_ff.net.2": (4 * audio, audio)}
    state = {}
    for block in range(48):
        for linear, (n_in, n_out) in widths.items():
            name = f"transformer_blocks.{block}.{linear}"
            state[f"{name}.lora_A.weight"] = torch.empty(rank, n_in, device="meta")
            state[f"{name}.lora_B.weight"] = torch.empty(n_out, rank, device="meta")
    return state


def test_an_adapter_of_the_authors_size_fits_both_full_size_models_and_no_other():
    adapter = Adapter(published_state(), LoRA(128, 128.0, tuple(sorted(PAPER_TARGETS))), {})
    assert len(adapter.state) == 1728
    assert sum(weight.numel() for weight in adapter.state.values()) == 578_813_952
    assert misfit(adapter, LTX2.from_preset("ltx2-19b")) == ""
    assert misfit(adapter, LTX2.from_preset("ltx2.3-22b")) == ""
    assert "1656 unexpected: transformer_blocks.10." in misfit(adapter, LTX2.from_preset("smoke"))


# -- round trips ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [4.0, 2.0, 16.0])
def test_files_of_both_styles_turn_into_each_other_exactly(smoke_ltx2, tmp_path, alpha):
    model = trained(smoke_ltx2, rank=4, alpha=alpha)
    first = save_adapter(model, tmp_path / "a.safetensors", SEEN.to_metadata())
    second = write_adapter(tmp_path / "folder", read_adapter(first), style="diffusers")
    third = write_adapter(tmp_path / "b.safetensors", read_adapter(second))
    assert second.name == DIFFUSERS_NAME
    assert header_of(first) == header_of(third)
    assert_same_tensors(load_file(first), load_file(third))
    assert first.stat().st_mode & 0o777 == second.stat().st_mode & 0o777 == 0o644
    for path in (first, second, third):
        fresh = copy_of(smoke_ltx2)
        assert InContext.from_metadata(load_adapter(fresh, path)) == SEEN
        assert attached_lora(fresh) == LoRA(4, alpha, tuple(sorted(PAPER_TARGETS)))
        assert_same_tensors(lora_state_dict(fresh), lora_state_dict(model))


def test_a_folder_is_as_good_as_its_file(smoke_ltx2, tmp_path):
    model = trained(smoke_ltx2)
    save_adapter(model, tmp_path, {}, style="diffusers")
    fresh = copy_of(smoke_ltx2)
    load_adapter(fresh, tmp_path)
    assert_same_tensors(lora_state_dict(fresh), lora_state_dict(model))
    save_adapter(model, tmp_path / "adapter.safetensors", {})
    with pytest.raises(FileNotFoundError, match=f"folder holds {DIFFUSERS_NAME}, adapter.safetensors; pass the"):
        load_adapter(copy_of(smoke_ltx2), tmp_path)


def test_an_alpha_that_would_be_rounded_is_refused_before_anything_is_written(smoke_ltx2, tmp_path):
    model = trained(smoke_ltx2, rank=4, alpha=6.0)
    with pytest.raises(ValueError, match="alpha 6 of rank 4 cannot be multiplied .* use style diffusers, or an alpha"):
        save_adapter(model, tmp_path / "a.safetensors", {})
    assert list(tmp_path.iterdir()) == []


# -- other programs -------------------------------------------------------------------------------------------------


@pytest.fixture(params=["smoke_ltx2", "smoke_ltx23"])
def base(request):
    """A tiny base model in both layouts."""
    return request.getfixturevalue(request.param)


def pipeline_of(base, smoke_codecs, smoke_text):
    """A diffusers pipeline around stock classes with the weights of the base."""
    transformer = LTX2VideoTransformer3DModel(**base.preset.config)
    transformer.load_state_dict(base.transformer.state_dict())
    return LTX2Pipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=smoke_codecs.video.vae,
        audio_vae=smoke_codecs.audio.vae,
        text_encoder=smoke_text.language_model.gemma,
        tokenizer=smoke_text.language_model.tokenizer,
        connectors=smoke_text.connectors,
        transformer=transformer,
        vocoder=smoke_codecs.audio.vocoder,
    )


def velocities(pipeline, base, av):
    """What the pipeline's own transformer computes for a sequence that hides nothing."""
    inputs = base._inputs(av, SIGMA)
    with torch.no_grad():
        return pipeline.transformer(**inputs, use_cross_timestep=base.preset.use_cross_timestep, return_dict=False)


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [4.0, 2.0])
@pytest.mark.parametrize("style", ["comfyui", "diffusers"])
def test_a_diffusers_pipeline_loads_our_file_and_computes_the_same(
    base, smoke_codecs, smoke_text, make_sequence, tmp_path, style, alpha
):
    model = trained(base, rank=4, alpha=alpha)
    name = DIFFUSERS_NAME if style == "diffusers" else "a.safetensors"
    path = save_adapter(model, tmp_path / name, {}, style=style)
    pipeline = pipeline_of(base, smoke_codecs, smoke_text)
    av = make_sequence(recipe=SEEN, n_reference=0)
    if base.preset.name == "ltx2.3-22b":
        av = replace(av, text=replace(av.text, video=torch.randn(1, 5, 32), audio=torch.randn(1, 5, 16)))
    without = velocities(pipeline, base, av)
    pipeline.load_lora_weights(tmp_path if style == "diffusers" else path)
    with torch.no_grad():
        expected = model(av, SIGMA)
    for part, ours, before in zip(velocities(pipeline, base, av), expected, without, strict=True):
        assert torch.equal(part, ours)
        assert not torch.equal(part, before)


def test_a_file_that_diffusers_wrote_loads_with_its_alpha(smoke_ltx2, make_sequence, tmp_path):
    model = trained(smoke_ltx2, rank=4, alpha=6.0)
    state = {name.removeprefix("diffusion_model."): weight for name, weight in lora_state_dict(model).items()}
    config = model.transformer.peft_config["default"].to_dict()
    LTX2Pipeline.save_lora_weights(tmp_path, state, transformer_lora_adapter_metadata=config)
    fresh = copy_of(smoke_ltx2)
    load_adapter(fresh, tmp_path)
    assert attached_lora(fresh) == attached_lora(model)
    assert_same_tensors(lora_state_dict(fresh), lora_state_dict(model))


def test_what_peft_saves_loads_with_its_alpha(smoke_ltx2, make_sequence, tmp_path):
    transformer = LTX2VideoTransformer3DModel(**smoke_ltx2.preset.config)
    transformer.load_state_dict(smoke_ltx2.transformer.state_dict())
    config = LoraConfig(r=4, lora_alpha=6, target_modules=list(PAPER_TARGETS), init_lora_weights=False)
    wrapped = get_peft_model(transformer, config)
    wrapped.save_pretrained(tmp_path / "folder")
    live = {name: weight.data for name, weight in wrapped.named_parameters() if ".lora_" in name}
    assert all(name.startswith("base_model.model.") and ".default." in name for name in live)
    save_file(live, tmp_path / "live.safetensors")
    from_folder, from_live = copy_of(smoke_ltx2), copy_of(smoke_ltx2)
    load_adapter(from_folder, tmp_path / "folder")
    load_adapter(from_live, tmp_path / "live.safetensors")
    assert (attached_lora(from_folder).alpha, attached_lora(from_live).alpha) == (6.0, 4.0)
    assert_same_tensors(lora_state_dict(from_folder), lora_state_dict(from_live))
    av = make_sequence(recipe=SEEN, n_reference=0)
    inputs = smoke_ltx2._inputs(av, SIGMA)
    with torch.no_grad():
        expected = wrapped(**inputs, use_cross_timestep=False, return_dict=False)
        for part, other in zip(from_folder(av, SIGMA), expected, strict=True):
            assert torch.equal(part, other)


def comfy_trained(model, alphas, *, down="lora_A", up="lora_B"):
    """A state as trainers for ComfyUI write it, with an alpha for each linear."""
    state = dict(lora_state_dict(model))
    for name in [name for name in state if name.endswith(".lora_A.weight")]:
        state[name.replace(".lora_A.weight", ".alpha")] = torch.tensor(alphas(name))
    return {name.replace("lora_A", down).replace("lora_B", up): weight for name, weight in state.items()}


@pytest.mark.parametrize(("down", "up"), [("lora_A", "lora_B"), ("lora_down", "lora_up")])
def test_one_alpha_for_all_linears_becomes_the_adapters_alpha(smoke_ltx2, tmp_path, down, up):
    model = trained(smoke_ltx2, rank=4)
    save_file(comfy_trained(model, lambda _: 3.0, down=down, up=up), tmp_path / "a.safetensors")
    fresh = copy_of(smoke_ltx2)
    load_adapter(fresh, tmp_path / "a.safetensors")
    assert attached_lora(fresh).alpha == 3.0
    assert_same_tensors(lora_state_dict(fresh), lora_state_dict(model))


def test_alphas_that_differ_are_multiplied_into_the_weights(smoke_ltx2, tmp_path):
    model = trained(smoke_ltx2, rank=4)
    state = comfy_trained(model, lambda name: 3.0 if "audio_ff" in name else 8.0)
    del state["diffusion_model.transformer_blocks.0.audio_attn1.to_q.alpha"]  # this one has alpha = rank
    save_file(state, tmp_path / "a.safetensors")
    adapter = read_adapter(tmp_path / "a.safetensors")
    assert adapter.lora.alpha == 4.0
    scales = {"0.audio_attn1.to_q": 1.0, "0.audio_attn1.to_k": 2.0, "1.audio_ff.net.2": 0.75}
    for linear, scale in scales.items():
        name = f"transformer_blocks.{linear}.lora_B.weight"
        assert torch.equal(adapter.state[name], scale * state[f"diffusion_model.{name}"])


def test_a_file_of_mixed_prefixes_loads(smoke_ltx2, tmp_path):
    model = trained(smoke_ltx2)
    state = {
        name.replace("diffusion_model.", "transformer.") if ".0." in name else name: weight
        for name, weight in lora_state_dict(model).items()
    }
    save_file(state, tmp_path / "a.safetensors")
    fresh = copy_of(smoke_ltx2)
    load_adapter(fresh, tmp_path / "a.safetensors")
    assert_same_tensors(lora_state_dict(fresh), lora_state_dict(model))


# -- refused and reported -------------------------------------------------------------------------------------------


def faulty(model, case):
    """A state and header entries with one contradiction."""
    state = {name.replace("diffusion_model.", "transformer."): w for name, w in lora_state_dict(model).items()}
    first = "transformer.transformer_blocks.0.audio_attn1.to_q"
    peft = {"transformer.r": 4, "transformer.lora_alpha": 8}
    if case == "twice":
        state[f"diffusion_model.{first.removeprefix('transformer.')}.lora_A.weight"] = torch.zeros(4, 16)
    elif case == "ranks":
        state[f"{first}.lora_A.weight"], state[f"{first}.lora_B.weight"] = torch.zeros(2, 16), torch.zeros(16, 2)
    elif case == "orphan":
        state["transformer.transformer_blocks.0.attn1.to_q.alpha"] = torch.tensor(4.0)
    entries = {"alpha": "4.0"} if case == "alphas" else {"alpha": "many"} if case == "words" else {}
    if case in ("alphas", "dora", "list"):
        peft |= {"transformer.use_dora": case == "dora"}
        entries["lora_adapter_metadata"] = json.dumps([] if case == "list" else peft)
    return state, entries


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("twice", "transformer.transformer_blocks.0.audio_attn1.to_q.lora_A.weight.* are the same tensor"),
        ("ranks", "ranks 2, 4 in one file; pass an adapter of one rank"),
        ("orphan", "2 tensors missing: transformer_blocks.0.attn1.to_q.lora_A.weight, .*lora_B.weight"),
        ("alphas", "alpha 4 in the header and alpha 8 in lora_adapter_metadata contradict each other"),
        ("words", "alpha is no number"),
        ("dora", "lora_adapter_metadata has use_dora = True; only plain LoRA"),
        ("list", "lora_adapter_metadata holds a list, not an object"),
    ],
)
def test_a_contradictory_file_is_refused(smoke_ltx2, tmp_path, case, message):
    state, entries = faulty(trained(smoke_ltx2), case)
    save_file(state, tmp_path / "odd.safetensors", metadata=entries)
    with pytest.raises(ValueError, match=f"odd.safetensors: .*{message}"):
        load_adapter(copy_of(smoke_ltx2), tmp_path / "odd.safetensors")


def test_an_adapter_of_which_a_part_does_nothing_is_loaded_with_a_warning(smoke_ltx2, tmp_path):
    model = trained(smoke_ltx2)
    for name, weight in model.named_parameters():
        if ".lora_B." in name and ".1." in name:
            torch.nn.init.zeros_(weight)
    path = save_adapter(model, tmp_path / "half.safetensors", {})
    with pytest.warns(UserWarning, match="half.safetensors: 18 of 36 updates are zero: .*1.audio_attn1.to_k"):
        load_adapter(copy_of(smoke_ltx2), path)


# -- the header -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("style", ["comfyui", "diffusers"])
def test_the_header_says_what_the_file_is(smoke_ltx2, tmp_path, style):
    given = InContext().to_metadata() | {"consent": "signed by all 12 speakers", "run": "nano"}
    about = header_of(save_adapter(trained(smoke_ltx2), tmp_path / "a.safetensors", given, style=style))
    assert about.items() >= given.items()
    assert (about["base_model"], about["rank"], about["alpha"]) == ("smoke", "4", "4.0")
    assert set(about["targets"].split(",")) == set(PAPER_TARGETS)
    assert about["ai_label"].startswith("AI-generated: clips made with this adapter")
    assert {f"version.{name}" for name in ("idlora_pl", "torch", "diffusers", "peft", "python")} <= about.keys()
    if style == "diffusers":
        packed = json.loads(about["lora_adapter_metadata"])
        LoraConfig(**{name.removeprefix("transformer."): value for name, value in packed.items()})
    else:
        assert "lora_adapter_metadata" not in about


def test_consent_is_unknown_unless_somebody_says(smoke_ltx2):
    assert adapter_of(trained(smoke_ltx2), {}).metadata["consent"] == "unknown"


def test_the_commit_is_that_of_the_checkout():
    asked = subprocess.run(["git", "rev-parse", "HEAD"], cwd=GOLDEN, capture_output=True, text=True, check=False)
    if asked.returncode:
        pytest.skip("not a git checkout")
    git_commit.cache_clear()
    assert git_commit() == asked.stdout.strip()


# -- other dtypes -----------------------------------------------------------------------------------------------------

FLOATS = (torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("style", ["comfyui", pytest.param("diffusers", marks=pytest.mark.slow)])
def test_an_adapter_of_any_float_is_read_exactly(base, tmp_path, dtype, style):
    model = trained(base, alpha=8.0)
    written = save_adapter(model, tmp_path / "a.safetensors", {}, style=style)
    stored = {name: weight.to(dtype) for name, weight in load_file(written).items()}
    save_file(stored, tmp_path / "b.safetensors", metadata=header_of(written))
    adapter = read_adapter(tmp_path / "b.safetensors")
    assert adapter.dtypes == (str(dtype).removeprefix("torch."),)
    factor = {"A": 1.0, "B": 0.5 if style == "comfyui" else 1.0}  # alpha / rank = 2 is folded into lora_B
    prefix = {"comfyui": "diffusion_model.", "diffusers": "transformer."}[style]
    for name, weight in adapter.state.items():
        side = name.rsplit(".lora_", 1)[1][0]
        assert torch.equal(weight.double(), stored[prefix + name].double() * factor[side]), name
    loaded = copy_of(base)
    load_adapter(loaded, tmp_path / "b.safetensors")
    for name, weight in lora_state_dict(loaded).items():
        assert torch.equal(weight, adapter.state[name.removeprefix("diffusion_model.")].float()), name


def test_nan_in_fp8_is_refused(base, tmp_path):
    written = save_adapter(trained(base), tmp_path / "a.safetensors", {})
    stored = {name: weight.to(torch.float8_e4m3fn) for name, weight in load_file(written).items()}
    first = next(iter(stored))
    stored[first].view(torch.uint8)[0, 0] = 0x7F
    save_file(stored, tmp_path / "b.safetensors", metadata=header_of(written))
    with pytest.raises(ValueError, match=r"b.safetensors: 1 tensors hold nan or infinity"):
        load_adapter(copy_of(base), tmp_path / "b.safetensors")


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.bool])
def test_an_adapter_of_whole_numbers_is_refused(base, tmp_path, dtype):
    written = save_adapter(trained(base), tmp_path / "a.safetensors", {})
    save_file({name: weight.to(dtype) for name, weight in load_file(written).items()}, tmp_path / "b.safetensors")
    stored = str(dtype).removeprefix("torch.")
    with pytest.raises(ValueError, match=rf"b.safetensors: diffusion_model.* is stored as {stored}; pass a LoRA in"):
        read_adapter(tmp_path / "b.safetensors")
