"""What Lightning and torch say that no user of `idlora` can act on, by its words; everything else is heard."""

import logging
import warnings

_WARNINGS = (
    # PairedClips is resumable: its position is in the checkpoint
    ".*your dataloader is not resumable.*",
    # the batches of prompts carry no indices, and nobody asks for them
    "Couldn't infer the batch indices fetched from your dataloader.*",
    # Lightning's own use of torch
    r".*isinstance\(treespec, LeafSpec\).*is deprecated.*",
    # no validation set is a setting, and an empty list is Lightning's way to say it
    "Total length of `list` across ranks is zero.*",
    # workers and ranks read parts of their own: see PairLoader
    "Your `IterableDataset` has `__len__` defined.*",
    # steps are counted over epochs, so that short epochs are logged all the same
    "The number of training batches .* is smaller than the logging interval.*",
    # the text encoder is frozen
    r"Found \d+ module\(s\) in eval mode at the start of training.*",
    # what keeps a training's checkpoints is of no use to a command that does not train
    r".*Please add the following callbacks: \['SaveCheckpoints'\].*",
    # how many processes read is a choice of this package's users, and of speed alone
    "The '.*_dataloader' does not have many workers.*",
)
_LINES = ("Tip:", "TPU available:")
"""Advertisements of other products, and accelerators that LTX-2 does not run on."""


def silence() -> None:
    """Leave these lines out of the log of this process."""
    for message in _WARNINGS:
        warnings.filterwarnings("ignore", message=message)
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_is_of_use)


def _is_of_use(record: logging.LogRecord) -> bool:
    return not any(line in str(record.msg) for line in _LINES)
