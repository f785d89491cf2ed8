"""Does a score put methods in the published order? Kendall's tau-b, its exact p-value, and pairs within one clip.

M methods, N clips. Values are oriented before: larger is better in both lists.
"""

from itertools import permutations
from math import factorial

import numpy as np
from numpy.typing import NDArray

from idlora_pl.results.intervals import Floats

Signs = NDArray[np.int64]

MAX_METHODS = 8
"""Of more methods, not all orders are tried, and no p-value is given."""
_TIE = 1e-12


def pair_signs(values: Floats) -> Signs:
    """Return +1, 0 or -1 for each pair of methods: values (..., M) to (..., M * (M - 1) / 2).

    Example:
        >>> pair_signs(np.array([3.0, 1.0, 3.0]))
        array([ 1,  0, -1])
    """
    first, second = np.triu_indices(values.shape[-1], k=1)
    difference = values[..., first] - values[..., second]
    return np.where(np.abs(difference) <= _TIE, 0, np.sign(difference)).astype(np.int64)


def kendall_tau(ours: Floats, published: Floats) -> float | None:
    """Return tau-b of two lists (M,); None where there are fewer than two methods or all of a list are tied.

    Example:
        >>> kendall_tau(np.array([1.0, 2.0, 3.0]), np.array([10.0, 30.0, 20.0]))  # doctest: +ELLIPSIS
        0.333...
    """
    a, b = pair_signs(ours), pair_signs(published)
    untied = float(np.abs(a).sum()) * float(np.abs(b).sum())
    return float((a * b).sum() / np.sqrt(untied)) if untied else None


def order_p_value(ours: Floats, published: Floats) -> float | None:
    """Return the share of all M! orders of ours that agree with the published one at least as well (exact, one-sided).

    The smallest value for five methods is 1 / 120. None where tau is None, or for more than `MAX_METHODS` methods.

    Example:
        >>> order_p_value(np.array([1.0, 2.0, 3.0]), np.array([10.0, 20.0, 30.0]))  # doctest: +ELLIPSIS
        0.1666...
    """
    if kendall_tau(ours, published) is None or len(ours) > MAX_METHODS:
        return None
    goal = pair_signs(published)
    orders = ours[np.array(list(permutations(range(len(ours)))))]
    at_least = (pair_signs(orders) * goal).sum(axis=1) >= (pair_signs(ours) * goal).sum()
    return float(at_least.sum() / factorial(len(ours)))


def agreeing_pairs(values: Floats, published: Floats) -> Floats | None:
    """Return, for each clip, the share of pairs of methods that it orders as published: (M, N) and (M,) to (N,).

    Pairs that are tied in the published list are left out; a pair that is tied within a clip does not agree. None
    where no pair is left.
    """
    goal = pair_signs(published)
    if not goal.any():
        return None
    agree = pair_signs(values.T) == goal
    return agree[:, goal != 0].mean(axis=1)
