"""Networks of transformers from snapshots of the Hugging Face hub, with every tensor from the file."""

from pathlib import Path
from typing import Any, TypeVar

import torch
from transformers import PreTrainedModel

Model = TypeVar("Model", bound=PreTrainedModel)


def load_snapshot(kind: type[Model], folder: Path) -> Model:
    """Load a network in float32, ready to be used and not to be trained.

    transformers fills tensors that a file lacks with random numbers and says so in passing; here that is an error.

    Args:
        kind: The class of the network.
        folder: The snapshot.

    Raises:
        ValueError: The file lacks tensors of the network, or has them in another shape.
    """
    loaded: Any = kind.from_pretrained(folder, dtype=torch.float32, local_files_only=True, output_loading_info=True)
    model: Model = loaded[0]
    found: dict[str, set[str]] = loaded[1]
    wrong = sorted(map(str, [*found["missing_keys"], *found["mismatched_keys"]]))
    if wrong:
        raise ValueError(
            f"{folder} does not fit {kind.__name__}: {len(wrong)} tensors are missing or of another shape, "
            f"{', '.join(wrong[:3])}; get the snapshot again"
        )
    return model.eval().requires_grad_(False)
