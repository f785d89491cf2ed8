"""Pack the golden numbers that the tests use into tests/parity/golden.

Run: python tests/parity/pack.py FOLDER, where FOLDER holds the golden cases (authors' code ID-LoRA 399bf3e on
tiny random weights). Tensors that a case shares with case 2, and results that no test reads, are left out.
"""

import json
import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

HERE = Path(__file__).parent / "golden"
FORWARD = {
    "case1": "case1_t2av",
    "case2": "case2_ref_negpos",
    "case3": "case3_ref_masks",
    "case4": "case4_text_padding",
    "case5": "case5_perturbations",
    "case6": "case6_bf16_positions",
}
SAMPLER = ("in.", "out.", "step", "variant.")
HQ = ("in.", "hq.", "s2.")
TRAIN = ("batch.", "noise.", "sigma.", "loss.", "loss_variant.", "grad.", "train3.")
UNUSED = ("in.context_mask_",)


def select(source: Path, prefixes: tuple[str, ...]) -> dict[str, torch.Tensor]:
    """Tensors of a file whose names start with one of the prefixes and are used."""
    tensors = load_file(source)
    return {k: v for k, v in tensors.items() if k.startswith(prefixes) and not k.startswith(UNUSED)}


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether two tensors are equal in dtype and values."""
    return a.dtype == b.dtype and torch.equal(a, b)


def pack_forward(source: Path, model: str) -> None:
    """Write all forward cases of a model into one file, `case3.in.video` and so on."""
    files = {name: source / f"{model}_{file}.safetensors" for name, file in FORWARD.items()}
    cases = {name: select(file, ("in.", "out.")) for name, file in files.items()}
    packed = {}
    for name, tensors in cases.items():
        for key, tensor in tensors.items():
            shared = cases["case2"].get(key)
            if name == "case2" or shared is None or not same(shared, tensor):
                packed[f"{name}.{key}"] = tensor
    save_file(packed, HERE / f"{model}_forward.safetensors")


def main(source: Path) -> None:
    """Pack everything."""
    HERE.mkdir(exist_ok=True)
    for model in ("m19b", "m23"):
        for name in ("weights.safetensors", "weights.json", "lora_comfy.safetensors"):
            shutil.copy(source / f"{model}_{name}", HERE)
        pack_forward(source, model)
        for name, prefixes in (("sampler_4step", SAMPLER), ("train_step", TRAIN)):
            file = f"{model}_{name}.safetensors"
            save_file(select(source / file, prefixes), HERE / file)
    file = "m23_hq_res2s_and_stage2.safetensors"
    save_file(select(source / file, HQ), HERE / file)
    for name in (
        "positions",
        "scheduler_sigmas",
        "timestep_sampler_v1",
        "timestep_sampler_v23",
        "train_prep_stored_dtypes",
    ):
        shutil.copy(source / f"{name}.safetensors", HERE)
    for path in HERE.iterdir():
        path.chmod(0o644)
    shifts = json.loads((source / "timestep_sampler_v1.json").read_text())["shift"]
    (HERE / "shift.json").write_text(json.dumps(shifts, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
