"""A network in an ONNX file."""

from pathlib import Path

import onnxruntime
import torch
from torch import Tensor


class OnnxNetwork:
    """Runs on the CPU; can be pickled, as the path of its file.

    Args:
        path: The file.
        n_outputs: How many tensors it must give.

    Raises:
        ValueError: The file holds another network.
    """

    def __init__(self, path: Path, n_outputs: int) -> None:
        self.path, self.n_outputs = path, n_outputs
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        # the errors of onnxruntime have no base of their own below Exception
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise ValueError(f"{path} is no network that onnxruntime reads ({error}); get the file again") from error
        found = len(self._session.get_inputs()), len(self._session.get_outputs())
        if found != (1, n_outputs):
            raise ValueError(f"{path} must have 1 input and {n_outputs} outputs; it has {found[0]} and {found[1]}")
        self._input = self._session.get_inputs()[0].name

    def __call__(self, images: Tensor) -> list[Tensor]:
        """Return the outputs for float32 images (1, 3, H, W).

        Raises:
            RuntimeError: onnxruntime cannot compute them.
        """
        pixels = images.float().cpu().contiguous().numpy()
        try:
            found = self._session.run(None, {self._input: pixels})
        except Exception as error:
            raise RuntimeError(f"{self.path.name} failed on images {tuple(images.shape)}: {error}") from error
        return [torch.from_numpy(one) for one in found]

    def __reduce__(self) -> tuple[type["OnnxNetwork"], tuple[Path, int]]:
        """Leave the session behind; it is opened again from the file."""
        return OnnxNetwork, (self.path, self.n_outputs)
