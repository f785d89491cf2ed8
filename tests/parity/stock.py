"""Golden-format cases by another path: stock diffusers called as the specification says, and its formulas in torch.

Nothing of idlora_pl is imported here. Masks are masks (ours cuts keys), perturbations are hooks, guidance works on
clean estimates (ours on velocities), low-rank updates are added to the weights (ours are peft layers).
"""

import json
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch
from diffusers.models.transformers.transformer_ltx2 import LTX2VideoTransformer3DModel
from safetensors.torch import save_file
from torch import Tensor

SIZES = {
    "ltx2-19b": {"num_attention_heads": 3, "attention_head_dim": 16, "num_layers": 3, "caption_channels": 20},
    "ltx2.3-22b": {"num_attention_heads": 4, "attention_head_dim": 12, "num_layers": 4, "caption_channels": 20},
}
HIDDEN = torch.finfo(torch.float32).min
TARGETS = [
    *(
        f"{attention}.{linear}"
        for attention in ("audio_attn1", "audio_attn2", "audio_to_video_attn", "video_to_audio_attn")
        for linear in ("to_q", "to_k", "to_v", "to_out.0")
    ),
    "audio_ff.net.0.proj",
    "audio_ff.net.2",
]


def write_case(folder: Path, name: str, fields: dict, tensors: dict[str, Tensor] | None = None) -> None:
    """Write NAME.json and NAME.safetensors."""
    if tensors is not None:
        save_file(
            {key: tensor.detach().clone().contiguous() for key, tensor in tensors.items()},
            folder / f"{name}.safetensors",
        )
        if fields["kind"] not in ("weights", "adapter_file"):
            listed = {key: {"shape": list(x.shape), "dtype": str(x.dtype)} for key, x in tensors.items()}
            fields = fields | {"tensors": listed}
    (folder / f"{name}.json").write_text(json.dumps(fields | {"name": name}))


class Stock:
    """A stock transformer of a layout with random weights, and how the specification calls it."""

    def __init__(self, layout: str, seed: int) -> None:
        self.layout, self.new = layout, layout == "ltx2.3-22b"
        own = SIZES[layout]
        heads, width = own["num_attention_heads"], own["attention_head_dim"]
        self.config = {
            **own,
            "cross_attention_dim": heads * width,
            "audio_num_attention_heads": heads,
            "audio_attention_head_dim": 8,
            "audio_cross_attention_dim": heads * 8,
            "in_channels": 128,
            "audio_in_channels": 128,
            "rope_type": "split",
            "rope_double_precision": True,
            "cross_attn_timestep_scale_multiplier": 1000,
            "use_prompt_embeddings": not self.new,
            "vae_scale_factors": [8, 32, 32],
            **dict.fromkeys(("gated_attn", "cross_attn_mod", "audio_gated_attn", "audio_cross_attn_mod"), self.new),
            "perturbed_attn": self.new,
        }
        self.random = torch.Generator().manual_seed(seed)
        self.model = LTX2VideoTransformer3DModel(**self.config).requires_grad_(False)
        for name, weight in self.model.named_parameters():
            noise = torch.randn(weight.shape, generator=self.random)
            weight.copy_(
                1 + 0.1 * noise if "norm" in name and weight.ndim == 1 else noise * 0.6 / max(weight.shape) ** 0.5
            )

    def normal(self, *shape: int) -> Tensor:
        """Draw Gaussian numbers."""
        return torch.randn(*shape, generator=self.random)

    def context(self, batch: int, length: int) -> dict[str, Tensor]:
        """Draw the text context of both streams."""
        widths = (self.config["cross_attention_dim"], self.config["audio_cross_attention_dim"])
        widths = widths if self.new else (self.config["caption_channels"],) * 2
        return {name: self.normal(batch, length, width) for name, width in zip(("video", "audio"), widths, strict=True)}

    def positions(self, batch: int, grid: tuple, fps: float, n_target: int, n_reference: int, shared: bool = False):
        """Return video and audio coordinates, the reference before time 0 (spec section 2.2)."""
        video = self.model.rope.prepare_video_coords(batch, *grid, device="cpu", fps=fps)
        audio = self.model.audio_rope.prepare_audio_coords(batch, n_target, device="cpu")
        if n_reference:
            reference = self.model.audio_rope.prepare_audio_coords(batch, n_reference, device="cpu")
            if not shared:
                reference = reference - float(reference[..., 1].max()) - 0.04
            audio = torch.cat([reference, audio], dim=2)
        return video, audio

    def __call__(self, x: dict, perturbed: tuple[int, ...] = (), mode: str = "stg_av", isolated: bool = False):
        """Call the model as spec section 2.3 does; masks are masks, perturbations are hooks."""
        audio_bias = x.get("audio_text_mask")
        padding = x.get("context_mask")
        video_bias = None if padding is None else (padding[:, None].float() - 1) * -HIDDEN
        with ExitStack() as hooks:
            for index, block in enumerate(self.model.transformer_blocks):
                if x.get("a2v_mask") is not None:
                    hooks.enter_context(_masked(block.audio_to_video_attn, x["a2v_mask"]))
                if index in perturbed:
                    hooks.enter_context(_perturbed(block.attn1, self.new))
                    if mode == "stg_av":
                        hooks.enter_context(_perturbed(block.audio_attn1, self.new))
            return self.model(
                hidden_states=x["video"],
                audio_hidden_states=x["audio"],
                encoder_hidden_states=x["video_context"],
                audio_encoder_hidden_states=x["audio_context"],
                timestep=x["video_timesteps"] * 1000,
                audio_timestep=x["audio_timesteps"] * 1000,
                sigma=x["sigma"] * 1000,
                audio_sigma=x["sigma"] * 1000,
                video_coords=x["video_coords"],
                audio_coords=x["audio_coords"],
                encoder_attention_mask=video_bias,
                audio_encoder_attention_mask=video_bias if audio_bias is None else audio_bias,
                use_cross_timestep=self.new,
                isolate_modalities=isolated,
                return_dict=False,
            )


@contextmanager
def _masked(attention, mask: Tensor):
    """Add an additive mask to an attention (spec section 2.3, remedy a)."""

    def add(_module, arguments, keywords):
        return arguments, keywords | {"attention_mask": mask}

    handle = attention.register_forward_pre_hook(add, with_kwargs=True)
    yield
    handle.remove()


@contextmanager
def _perturbed(attention, new: bool):
    """Replace the result of a self-attention: by nothing (19B), by its gated value projection (2.3)."""

    def replace(module, arguments, keywords, output):
        if not new:
            return torch.zeros_like(output)
        hidden = arguments[0] if arguments else keywords["hidden_states"]
        values = module.to_v(hidden)
        gates = 2 * torch.sigmoid(module.to_gate_logits(hidden))
        values = (values.unflatten(2, (module.heads, -1)) * gates[..., None]).flatten(2)
        return module.to_out[0](values)

    handle = attention.register_forward_hook(replace, with_kwargs=True)
    yield
    handle.remove()
