"""What keeps decoding within the memory that a file is worth.

Letters: F frames, H W pixels.
"""

import numpy as np
import torch
from torch import Tensor

from idlora_pl.media.clip import MediaError

GAP_SHARE, GAP_S = 10.0, 60.0
"""How long a clock may be: so many times what was decoded, and so many seconds more. A pause is shorter."""


def check_clock(name: str, what: str, decoded_s: float, clock_s: float) -> None:
    """Refuse a file whose clock leaps, before its gap is filled: a few bytes can claim days.

    Raises:
        MediaError: `clock_s` is far longer than `decoded_s`.
    """
    if clock_s > GAP_SHARE * decoded_s + GAP_S:
        raise MediaError(
            f"{name}: its {what} lasts {decoded_s:.0f} s, but its clock leaps to at least {clock_s:.0f} s; "
            "encode the file again"
        )


class GrowingFrames:
    """Frames in one block of memory that grows in place; a list that is stacked in the end takes twice as much.

    Args:
        name: of the file, for the message.
    """

    def __init__(self, name: str) -> None:
        self.name, self.block, self.n_frames = name, np.empty((0, 3, 0, 0), np.uint8), 0

    def add(self, frame: Tensor) -> None:
        """Append uint8 (3, H, W).

        Raises:
            MediaError: The frame has another size than those before it.
        """
        if not self.n_frames:
            self.block = np.empty((16, *frame.shape), np.uint8)
        if self.block.shape[1:] != frame.shape:
            before, now = (f"{shape[-1]} x {shape[-2]}" for shape in (self.block.shape, frame.shape))
            raise MediaError(
                f"{self.name}: the picture changes from {before} to {now} pixels; encode the file again in one size"
            )
        if self.n_frames == len(self.block):
            # nothing else looks at the block until it is whole
            self.block.resize((self.n_frames + max(16, self.n_frames // 8), *frame.shape), refcheck=False)
        self.block[self.n_frames] = frame.numpy()
        self.n_frames += 1

    def whole(self) -> Tensor:
        """Return all frames, uint8 (F, 3, H, W)."""
        self.block.resize((self.n_frames, *self.block.shape[1:]), refcheck=False)
        return torch.from_numpy(self.block)
