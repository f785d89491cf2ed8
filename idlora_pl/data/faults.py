"""Clips that cannot be read: whether they stop a run, and the count of those that did not."""

import logging
from dataclasses import dataclass, field
from typing import Any, Literal

from idlora_pl.data.samples import ShardError

OnFault = Literal["stop", "skip"]
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fault:
    """One clip that could not be read, and the sentence that says why."""

    shard: str
    key: str
    reason: str


@dataclass
class FaultLog:
    """What one process has left out.

    Attributes:
        most: how many different clips may be left out in a run.
        in_epoch: how many were left out in the epoch so far.
        reasons: why, by (shard, key), over the whole run.
    """

    most: int
    in_epoch: int = 0
    reasons: dict[tuple[str, str], str] = field(default_factory=dict)

    def note(self, fault: Fault) -> None:
        """Count a clip that was replaced by another one.

        Raises:
            ShardError: when that is one more than the limit.
        """
        self.in_epoch += 1
        if (fault.shard, fault.key) in self.reasons:
            return
        self.reasons[fault.shard, fault.key] = fault.reason
        if len(self.reasons) > self.most:
            raise ShardError(
                f"{fault.reason}; that is clip {len(self.reasons)} that could not be read, "
                f"data.max_faults allows {self.most}"
            )
        _log.warning(
            "left out, another clip takes its place (%d of %d): %s", len(self.reasons), self.most, fault.reason
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the counts, for a checkpoint."""
        return {"in_epoch": self.in_epoch, "reasons": [[*where, reason] for where, reason in self.reasons.items()]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from counts that `state_dict` returned."""
        self.in_epoch = state["in_epoch"]
        self.reasons = {(shard, key): reason for shard, key, reason in state["reasons"]}
