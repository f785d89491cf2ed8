"""The process group of several ranks, closed while Python is still whole."""

import atexit

from torch import distributed


def close_at_exit() -> None:
    """Destroy the process group before the interpreter ends; Lightning does so for NCCL alone.

    A Gloo thread that still holds a tensor while Python is torn down ends the process with SIGABRT, and a finished run
    with a status other than 0 (pytorch/pytorch, pull request 179291).
    """
    atexit.unregister(_close)
    atexit.register(_close)


def _close() -> None:
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()
