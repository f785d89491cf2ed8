"""Cases without a transformer by another path: formulas of the specification in numpy and torch; see `stock`."""

from pathlib import Path

import numpy as np
import torch
from diffusers.pipelines.ltx2.connectors import LTX2TextConnectors
from torchaudio.functional import melscale_fbanks, resample

from tests.parity.stock import TARGETS, write_case


def make_numbers(folder: Path) -> None:
    """Write one case of each kind."""
    make_positions(folder)
    make_sigmas(folder)
    make_levels(folder)
    make_mel(folder)
    make_keymap(folder)
    for new in (False, True):
        make_connectors(folder, new)


def audio_grid(n_tokens: int) -> torch.Tensor:
    """Return intervals in seconds (spec section 2.2), in the stated order of operations."""
    edges = torch.stack([torch.arange(n_tokens), torch.arange(n_tokens) + 1], dim=-1).float() * 4 + 1 - 4
    return (edges.clip(min=0) * 160 / 16000)[None, None]


def make_positions(folder: Path) -> None:
    """Write positions of other lengths."""
    tensors = {}
    for n_tokens in (3, 17):
        own = audio_grid(n_tokens)
        for name, grid in (("fp32", own), ("bf16", own.bfloat16())):
            tensors[f"target.{n_tokens}.{name}"] = grid.clone()
            tensors[f"ref.{n_tokens}.{name}"] = grid - float(grid[..., 1].max()) - 0.04
    rounded = audio_grid(17).bfloat16()
    shifted = (rounded - float(rounded[..., 1].max()) - 0.04).float()
    tensors["inference_cat.ref17.target6"] = torch.cat([shifted, audio_grid(6)], dim=2)
    frames = [[max(0, 8 * k - 7), 8 * k + 1] for k in range(2)]
    rows = [[f, h, w] for f in range(2) for h in range(3) for w in range(1)]
    video = torch.tensor(
        [[frames[f] for f, _, _ in rows], *([[32 * r[i], 32 * r[i] + 32] for r in rows] for i in (1, 2))]
    ).float()
    video[0] /= 30.0
    tensors["video.2x3x1@30.0.fp32"] = video[None]
    tensors["video.2x3x1@30.0.bf16"] = video[None].bfloat16()
    info = {"3.fp32": {"ref_last": tensors["ref.3.fp32"][0, 0, -1].tolist(), "distinct_ref_phases": 3}}
    write_case(folder, "n_positions", {"kind": "positions", "tolerance": 0.0, "info": info}, tensors)


def make_sigmas(folder: Path) -> None:
    """Write schedules of other lengths and sizes."""

    def levels(steps: int, tokens: int, stretch: bool) -> torch.Tensor:
        even, mu = np.linspace(1, 0, steps + 1)[:-1], 0.95 + (tokens - 1024) * 1.1 / 3072
        moved = np.exp(mu) / (np.exp(mu) + 1 / even - 1)
        if stretch:
            moved = 1 - (1 - moved) * 0.9 / (1 - moved[-1])
        return torch.tensor([*moved, 0.0], dtype=torch.float32)

    tensors = {f"sigmas.{s}.tokens{n}": levels(s, n, True) for s in (2, 5, 23) for n in (96, 4096, 7000)}
    tensors["sigmas.6.nostretch.tokens500"] = levels(6, 500, False)
    write_case(folder, "n_sigmas", {"kind": "sigmas", "tolerance": {"default": 1e-6}}, tensors)


def make_levels(folder: Path) -> None:
    """Write noise levels of both trainers (spec section 3.1) with another spread."""
    random, lengths = torch.Generator().manual_seed(5), (12, 1536, 5000)
    normals = torch.randn(40, generator=random, dtype=torch.float64)
    uniform, prob = (torch.rand(40, generator=random, dtype=torch.float64) for _ in "up")
    shift = {str(n): 0.95 + (n - 1024) * 1.1 / 3072 for n in lengths}
    plain = {f"v1.sigma.{n}": torch.sigmoid(normals * 0.8 + s).float() for n, s in shift.items()}
    fields = {"kind": "timestep_sampler", "tolerance": 2e-6, "shift": shift, "std": 0.8}
    write_case(folder, "n_levels_1", fields, plain | {"normals": normals.float()})
    tensors = {}
    for n, s in shift.items():
        low, high = (torch.sigmoid(torch.tensor(s + z * 0.8).double()) for z in (-2.5758, 3.0902))
        z = (torch.sigmoid(normals * 0.8 + s) - low) / (high - low)
        z = torch.where(z < 1e-3, 2e-3 - z, z).clamp(0, 1)
        tensors[f"v2.sigma.{n}"] = torch.where(prob > 0.1, z, (1 - 1e-3) * uniform + 1e-3).float()
    tensors |= {"normals": normals.float(), "uniform": uniform.float(), "prob": prob.float()}
    fields |= {"eps": 1e-3, "uniform_prob": 0.1, "p999": 3.0902, "p005": -2.5758}
    write_case(folder, "n_levels_2", fields, tensors)


def make_mel(folder: Path) -> None:
    """Write the log-mel of mono noise at 16 kHz, and of a batch at 22.05 kHz."""
    random = torch.Generator().manual_seed(6)
    waves = {"in.wave16k": (1, 1, 2000), "in.wave22k": (2, 1, 3000)}
    tensors = {name: 0.3 * torch.randn(*shape, generator=random) for name, shape in waves.items()}
    bank = melscale_fbanks(513, 0.0, 8000.0, 64, 16000, norm="slaney", mel_scale="slaney")
    window = 0.5 - 0.5 * torch.cos(2 * torch.pi * torch.arange(1024).double() / 1024)
    for name, wave in (("16k", tensors["in.wave16k"]), ("_from22k", resample(tensors["in.wave22k"], 22050, 16000))):
        padded = torch.nn.functional.pad(wave, (512, 512), mode="reflect").double()
        magnitudes = torch.fft.rfft(padded.unfold(-1, 1024, 160) * window).abs()
        tensors[f"out.mel{name}"] = (magnitudes @ bank.double()).clamp(min=1e-5).log().float()
    write_case(folder, "n_mel", {"kind": "log_mel", "tolerance": 1e-5}, tensors)


def make_keymap(folder: Path) -> None:
    """Write the key map of a small model without a layout."""
    video, audio, rank, layers, shapes = 64, 48, 6, 5, {}
    for target in TARGETS:
        wide = {"audio_ff.net.0.proj": (audio, 4 * audio), "audio_ff.net.2": (4 * audio, audio)}
        inputs, outputs = wide.get(target, (audio, audio))
        if target == "audio_to_video_attn.to_q" or target.startswith("video_to_audio_attn.to_k"):
            inputs = video
        inputs = video if target == "video_to_audio_attn.to_v" else inputs
        outputs = video if target == "audio_to_video_attn.to_out.0" else outputs
        shapes |= {f"{target}.lora_A.weight": [rank, inputs], f"{target}.lora_B.weight": [outputs, rank]}
    params = layers * sum(a * b for a, b in shapes.values())
    fields = {
        "kind": "adapter_keymap", "rank": rank, "alpha": 3, "layers": layers, "tensors": layers * len(shapes),
        "params": params, "bytes_bf16_payload": 2 * params, "suffix_shapes": shapes,
        "pattern": f"transformer_blocks.{{0..{layers - 1}}}.<suffix>",
        "prefixes": {"reference/ComfyUI file": "diffusion_model.", "diffusers pipeline LoRA file": "transformer."},
    }  # fmt: skip
    write_case(folder, "n_keymap", fields)


@torch.no_grad()
def make_connectors(folder: Path, new: bool) -> None:
    """Write the text path of a layout: what diffusers' own forward makes of hidden states, in one go."""
    random, width, n_states, length = torch.Generator().manual_seed(8), 12, 4, 10
    heads = {"video": (3, 8), "audio": (2, 6)} if new else {"video": (3, 4), "audio": (3, 4)}
    settings = {}
    for stream, (n, size) in heads.items():
        own = {"num_attention_heads": n, "attention_head_dim": size, "num_layers": 1, "num_learnable_registers": 5}
        settings |= {f"{stream}_connector_{key}": value for key, value in own.items()}
        settings |= {f"{stream}_gated_attn": new, f"{stream}_hidden_dim": n * size}
    model = LTX2TextConnectors(
        caption_channels=width, text_proj_in_factor=n_states, rope_type="split", connector_rope_base_seq_len=512,
        per_modality_projections=new, proj_bias=new, **settings,
    )  # fmt: skip
    for weight in model.parameters():
        weight.copy_(0.3 * torch.randn(weight.shape, generator=random))
    states = torch.randn(3, length, width, n_states, generator=random) * 2 + 0.5
    mask = (torch.arange(length) >= torch.tensor([[0], [4], [9]])).long()
    video, audio, seen = model(states, mask)
    tensors = {"in.mask": mask, "feat.hidden_states": states, "out.video_context": video, "out.audio_context": audio}
    tensors |= {"out.mask": torch.ones_like(mask)}
    valid, x = mask[:, :, None, None].bool(), states
    if new:
        normed = x * (x.square().mean(2, keepdim=True) + 1e-6).rsqrt()
    else:
        count = mask.sum(1)[:, None, None, None] * width
        mean = (x * valid).sum((1, 2), keepdim=True) / (count + 1e-6)
        high, low = (
            x.masked_fill(~valid, sign * -1e30).mul(sign).amax((1, 2), keepdim=True) * sign for sign in (1, -1)
        )
        normed = 8 * (x - mean) / (high - low + 1e-6)
    normed = tensors["feat.normed"] = (normed * valid).flatten(2)
    embeds = {}
    for stream, (n, size) in heads.items():
        layer = model.video_text_proj_in if new and stream == "video" else None
        layer = layer or (model.audio_text_proj_in if new else model.text_proj_in)
        embeds[stream] = layer(normed * ((n * size / width) ** 0.5 if new else 1.0))
        if new:
            tensors |= {f"feat.{stream}": embeds[stream]} | {f"in.{stream}_prompt_embeds": embeds[stream].clone()}
            tensors |= {f"feat.w.{stream}_aggregate_embed.{part}": w for part, w in layer.named_parameters()}
    if not new:
        tensors["in.prompt_embeds"] = embeds["video"]
    tensors |= {f"w.{name}": w for name, w in model.state_dict().items() if "text_proj_in" not in name}
    sizes = (
        {stream: {"heads": n, "head_dim": size} for stream, (n, size) in heads.items()}
        if new
        else {"heads": 3, "head_dim": 4}
    )
    connector = sizes | {"layers": 1, "registers": 5, "rope_base_seq_len": 512, "gated": new}
    layout = "ltx2.3-22b" if new else "ltx2-19b"
    fields = {"kind": "connectors", "layout": layout, "tolerance": 5e-6, "connector": connector}
    write_case(folder, f"n_connectors_{'b' if new else 'a'}", fields, tensors)
