"""Scheduling policies: who goes first, and who gives way. Subclass Policy to write your own."""

from collections.abc import Callable, Sequence
from typing import Any

from workbench.core.errors import ConfigError
from workbench.core.request import Request


class Policy:
    """First come, first served, as a base to change.

    key: requests with smaller keys are scheduled first, in the queue and in the batch. Keep arrival_seq as its last
    part, so that ties are broken the same way each time.
    victim: which of the running requests that have not been scheduled in this step loses its blocks when there are
    not enough; `candidates` is in key order and its last member is the default.
    """

    name = "fcfs"

    def key(self, request: Request) -> tuple[Any, ...]:
        """Sort key of a request; it must not change while the request is alive."""
        return (request.arrival_seq,)

    def victim(self, candidates: Sequence[Request]) -> Request:
        """The request to preempt."""
        return candidates[-1]


class PriorityPolicy(Policy):
    """Lower priority value first, as in vLLM; equal values by arrival."""

    name = "priority"

    def key(self, request: Request) -> tuple[Any, ...]:
        """Priority, then arrival."""
        return (request.priority, request.arrival_seq)


POLICIES: dict[str, Callable[[], Policy]] = {"fcfs": Policy, "priority": PriorityPolicy}


def make_policy(name: str) -> Policy:
    """The policy of that name; ConfigError names the known ones."""
    if name not in POLICIES:
        raise ConfigError(f"scheduling_policy must be one of {', '.join(sorted(POLICIES))}, not {name!r}")
    return POLICIES[name]()
