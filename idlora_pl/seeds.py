"""Seeds of noise and of orders: which there are."""

END = 2**63
"""torch's generators take 64 bits, with a sign."""


def checked_seed(seed: object, name: str, *, end: int = END) -> int:
    """Return a seed.

    Args:
        seed: What somebody wrote.
        name: Of the key or the place, for the message.
        end: The first number that is too large.

    Raises:
        ValueError: If it is not a whole number from 0 to below the end.

    Example:
        >>> checked_seed(7, "model.seed")
        7
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < end:
        raise ValueError(f"{name} must be a whole number from 0 to {end - 1}; got {seed!r}")
    return seed
