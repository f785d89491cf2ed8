"""LTX-2 as a velocity field: an AVSequence and a noise level in, two velocities out.

Its weights come from a diffusers folder, the authors' file, or a file with diffusers' names.
Letters: B batch, N tokens, C channels.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Literal, get_args

import torch
from diffusers.models.transformers.transformer_ltx2 import LTX2VideoTransformer3DModel
from torch import Tensor, nn

from idlora_pl.ltx2.attention import (
    BlindQueries,
    HideKeys,
    NotedRotary,
    PerturbSelfAttention,
    text_bias,
)
from idlora_pl.ltx2.checkpoint import Stored, check_config, differences, folder_tensors, full_config, read_tensors
from idlora_pl.ltx2.presets import Preset, preset_named
from idlora_pl.ltx2.single_file import SingleFile
from idlora_pl.method.guidance import UNPERTURBED, Modality, Perturbation
from idlora_pl.method.tokens import AVSequence

# The model embeds noise levels in thousandths.
_TIMESTEP_SCALE = 1000


class LTX2(nn.Module):
    """The diffusers LTX-2 transformer behind the interface of a velocity field.

    Attributes:
        transformer: the stock diffusers model.
        preset: which base model this is.
        geometry: its position grids.

    Example:
        >>> model = LTX2.from_preset("smoke")
        >>> sum(weight.numel() for weight in model.parameters())
        121024
    """

    def __init__(
        self,
        preset: Preset,
        *,
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        """Build the model with random weights (shapes only on the device "meta")."""
        super().__init__()
        self.preset = preset
        self.geometry = preset.geometry
        with torch.device(device or preset.device):
            self.transformer = LTX2VideoTransformer3DModel(**preset.config)
        self.to(dtype or preset.dtype)
        self._wrap_processors()

    @classmethod
    def from_preset(
        cls, name: str, device: str | torch.device | None = None, dtype: torch.dtype | None = None
    ) -> "LTX2":
        """Build a base model by name: nano, smoke, ltx2-19b or ltx2.3-22b.

        Args:
            name: the preset.
            device: where the random weights lie; None means "meta" (no memory) for the two full sizes,
                else "cpu".
            dtype: dtype of the weights; None means bfloat16 for the two full sizes, else float32.
        """
        return cls(preset_named(name), device=device, dtype=dtype)

    @classmethod
    def from_pretrained(cls, path: str | Path, preset: str | Preset, *, dtype: torch.dtype | None = None) -> "LTX2":
        """Load weights from a diffusers folder, the authors' file of a release, or a file with diffusers' names.

        Args:
            path: folder or file.
            preset: the base model that the weights belong to, or its name.
            dtype: dtype of the weights; None means the preset's, whatever the file stores.

        Raises:
            FileNotFoundError: when there is nothing at the path.
            ValueError: when settings, names or shapes are not those of the preset.
        """
        model = cls(preset_named(preset) if isinstance(preset, str) else preset, device="meta", dtype=dtype)
        weights = read_weights(Path(path), model.preset, model.transformer.state_dict())
        model.transformer.load_state_dict(weights, assign=True)
        return model

    def forward(
        self,
        av: AVSequence,
        sigma: Tensor,
        *,
        perturbation: Perturbation = UNPERTURBED,
    ) -> tuple[Tensor, Tensor]:
        """Predict the velocities of the target tokens.

        Args:
            av: the sequence.
            sigma: (B,) noise level in [0, 1].
            perturbation: perturbed self-attention (spatio-temporal guidance) and isolated modalities.

        Returns:
            (B, N, C) of video and of audio, reference rows cut, in the dtype of the latents.
        """
        self._check_blocks(perturbation.blocks)
        hidden_keys = 0 if av.video_sees_reference else av.audio.n_reference
        with self._notes(hidden_keys, perturbation):
            video, audio = self.transformer(
                **self._inputs(av, sigma),
                isolate_modalities=perturbation.isolate,
                use_cross_timestep=self.preset.use_cross_timestep,
                return_dict=False,
            )
        video, audio = video[:, av.video.n_reference :], audio[:, av.audio.n_reference :]
        return video.to(av.video.latents.dtype), audio.to(av.audio.latents.dtype)

    def _inputs(self, av: AVSequence, sigma: Tensor) -> dict[str, Tensor | None]:
        dtype = self.transformer.proj_in.weight.dtype  # diffusers asks every weight for its own
        video_bias, audio_bias = text_bias(av, dtype)
        return {
            "hidden_states": av.video.latents.to(dtype),
            "audio_hidden_states": av.audio.latents.to(dtype),
            "encoder_hidden_states": av.text.video.to(dtype),
            "audio_encoder_hidden_states": av.text.audio.to(dtype),
            "encoder_attention_mask": video_bias,
            "audio_encoder_attention_mask": audio_bias,
            "timestep": av.video.timesteps(sigma) * _TIMESTEP_SCALE,
            "audio_timestep": av.audio.timesteps(sigma) * _TIMESTEP_SCALE,
            "sigma": sigma * _TIMESTEP_SCALE,
            "audio_sigma": sigma * _TIMESTEP_SCALE,
            "video_coords": av.video.positions,
            "audio_coords": av.audio.positions,
        }

    def _wrap_processors(self) -> None:
        remains: Literal["nothing", "values"] = "nothing" if self.preset.skip == "drop" else "values"
        for index, block in enumerate(self.transformer.transformer_blocks):
            for cross, wrap in ((block.audio_to_video_attn, HideKeys), (block.audio_attn2, BlindQueries)):
                cross.set_processor(wrap(cross.get_processor()))
            own = {"video": block.attn1, "audio": block.audio_attn1}
            for modality in get_args(Modality):
                wrapped = PerturbSelfAttention(own[modality].get_processor(), index, modality, remains)
                own[modality].set_processor(wrapped)

    @contextmanager
    def _notes(self, hidden_keys: int, perturbation: Perturbation) -> Iterator[None]:
        """Put notes on the rotary embeddings that the transformer makes while the context is open."""

        def note(_module: nn.Module, _arguments: object, rotary: tuple[Tensor, Tensor]) -> NotedRotary:
            return NotedRotary(rotary, hidden_keys, perturbation)

        with ExitStack() as hooks:
            for name in ("rope", "audio_rope", "cross_attn_audio_rope"):
                hooks.callback(getattr(self.transformer, name).register_forward_hook(note).remove)
            yield

    def _check_blocks(self, blocks: tuple[int, ...]) -> None:
        n_blocks = len(self.transformer.transformer_blocks)
        if any(not 0 <= block < n_blocks for block in blocks):
            raise ValueError(
                f"perturbation.blocks must lie in 0..{n_blocks - 1} for {self.preset.name}; got {blocks}; "
                f"the preset's own block is {self.preset.stg_block}"
            )


def read_weights(path: Path, preset: Preset, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Read the weights of a base model.

    Args:
        path: a folder in diffusers' layout, or one safetensors file with the authors' names or with diffusers'.
        preset: the base model that they should belong to.
        expected: a state dict with the needed names, shapes and dtypes; its tensors may lie on "meta".

    Returns:
        The tensors by name, in the expected dtypes.

    Raises:
        FileNotFoundError: when there is nothing at the path.
        ValueError: when settings, names or shapes are not those of the preset.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder; pass the weights of preset {preset.name!r}")
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ValueError(
                f"{path}: no config.json and no transformer/; give a diffusers checkpoint folder, its transformer "
                "folder, or the authors' safetensors file"
            )
        config = LTX2VideoTransformer3DModel.load_config(path)
        check_config(path, config, LTX2VideoTransformer3DModel, preset.config, preset.name)
        tensors: Mapping[str, Stored] = folder_tensors(path)
    else:
        file = SingleFile.opened(path)
        if file.is_the_authors:
            own = full_config(LTX2VideoTransformer3DModel, preset.config)
            return file.state("transformer", expected, own, preset.name)
        tensors = file.tensors
    if wrong := differences(tensors, expected):
        raise ValueError(f"{path}: not the weights of preset {preset.name!r} ({wrong}); pass the preset that made them")
    return read_tensors(tensors, {name: weight.dtype for name, weight in expected.items()})
