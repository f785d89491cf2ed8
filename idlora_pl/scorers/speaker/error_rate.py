"""Equal error rate of a verification score."""

import torch
from torch import Tensor


def equal_error_rate(same: Tensor, different: Tensor) -> float:
    """Return the error rate at the threshold where misses and false alarms are equally frequent.

    Args:
        same: (P,) scores of pairs that belong together.
        different: (N,) scores of pairs that do not.

    Example:
        >>> equal_error_rate(torch.tensor([0.9, 0.8]), torch.tensor([0.1, 0.2]))
        0.0
    """
    if not len(same) or not len(different):
        raise ValueError(f"both kinds of pairs are needed; got {len(same)} and {len(different)}")
    thresholds = torch.cat([same, different]).unique()
    misses = (same[None] < thresholds[:, None]).float().mean(dim=1)
    alarms = (different[None] >= thresholds[:, None]).float().mean(dim=1)
    best = int((misses - alarms).abs().argmin())
    return ((misses[best] + alarms[best]) / 2).item()
