"""Continuous and static batching as limits on the same scheduler."""

from collections.abc import Sequence

from workbench.core.errors import ConfigError
from workbench.core.scheduler import Scheduler
from workbench.core.scheduler_output import Decision, Reason

BATCHING = ("continuous", "static")


class StaticBatching:
    """A batch starts together, and nobody joins until all of it have ended.

    Done with max_num_seqs alone: as many as wait when the scheduler is empty may start, over as many steps as the
    token budget takes, unless blocks run out first; from then on the limit is the number of the batch's members that
    are still alive. Those that wait have the reason `max_num_seqs`. A member that ended does not go on being computed,
    as it would where a batch is one tensor, so static batching is shown at its best.
    """

    def __init__(self, max_num_seqs: int) -> None:
        self._most = max_num_seqs
        self._members: set[str] = set()
        self._places = 0  # how many more may still start in this batch

    def before_step(self, scheduler: Scheduler) -> None:
        """Set the limit for the next step."""
        self._members &= scheduler.requests.keys()
        if not self._members:
            self._places = min(self._most, len(scheduler.waiting))
        limit = max(1, len(self._members) + self._places)
        if limit != scheduler.config.max_num_seqs:
            scheduler.configure(scheduler.config.with_changes(max_num_seqs=limit))

    def after_schedule(self, decisions: Sequence[Decision]) -> None:
        """Take in who was admitted. Too few blocks close the batch."""
        for decision in decisions:
            if decision.reason is Reason.ADMITTED:
                self._members.add(decision.request_id)
                self._places = max(0, self._places - 1)
        if any(decision.reason is Reason.NO_BLOCKS for decision in decisions):
            self._places = 0


def make_batching(name: str, max_num_seqs: int) -> StaticBatching | None:
    """The rule of that name; None for continuous batching, which needs none."""
    if name not in BATCHING:
        raise ConfigError(f"batching must be one of {', '.join(BATCHING)}, not {name!r}")
    return StaticBatching(max_num_seqs) if name == "static" else None
