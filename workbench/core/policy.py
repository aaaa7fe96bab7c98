"""Scheduling policies: who goes first, how much of the token budget each gets, and who gives way.

Subclass Policy, in a notebook cell if you like, and hand an object to LLM.set_policy.
"""

from collections.abc import Callable, Sequence
from typing import Any

from workbench.core.errors import ConfigError
from workbench.core.request import Request


class PolicyError(ConfigError):
    """A policy raised or returned nonsense; the one before it stays in force."""


class Policy:
    """First come, first served, as a base to change.

    Each method may look at the request (its prompt, max_tokens, priority, num_computed_tokens, num_output_tokens,
    arrival_time, ...) and must not change it. End every key with arrival_seq, so that ties are broken the same way
    each time.
    """

    name = "fcfs"
    # True if a request's key changes while it is alive: the queues are then sorted anew in every step.
    dynamic = False

    def __init_subclass__(cls) -> None:
        """A class without a name of its own goes by the class's, not by that of the policy it was made from."""
        if "name" not in vars(cls):
            cls.name = cls.__name__

    def key(self, request: Request) -> tuple[Any, ...]:
        """Requests with smaller keys are scheduled first, in the queue and in the batch."""
        return (request.arrival_seq,)

    def share(self, request: Request, wanted: int, left: int) -> int:
        """How many of its `wanted` tokens a request gets in this step, of the `left` ones in the budget; 0 to wait."""
        return min(wanted, left)

    def victim(self, candidates: Sequence[Request]) -> Request:
        """Which running request loses its blocks; candidates have not been served in this step and are in key order."""
        return candidates[-1]


class PriorityPolicy(Policy):
    """Lower priority value first, as in vLLM; equal values by arrival."""

    name = "priority"

    def key(self, request: Request) -> tuple[Any, ...]:
        """Priority, then arrival."""
        return (request.priority, request.arrival_seq)


class ShortestJobFirstPolicy(Policy):
    """Whoever can need the fewest tokens, prompt plus max_tokens, goes first: kind to most, hard on the long."""

    name = "sjf"

    def key(self, request: Request) -> tuple[Any, ...]:
        """Size, then arrival."""
        return (request.num_prompt_tokens + request.max_tokens, request.arrival_seq)


class FairSharePolicy(Policy):
    """Whoever has been given the fewest output tokens goes first, so that nobody is far ahead of the others.

    Known from operating systems as least attained service.
    """

    name = "fair"
    dynamic = True

    def key(self, request: Request) -> tuple[Any, ...]:
        """Tokens sampled so far, then arrival."""
        return (request.num_output_tokens, request.arrival_seq)


POLICIES: dict[str, Callable[[], Policy]] = {
    "fcfs": Policy,
    "priority": PriorityPolicy,
    "sjf": ShortestJobFirstPolicy,
    "fair": FairSharePolicy,
}


def make_policy(policy: str | Policy | type[Policy]) -> Policy:
    """The policy of that name, or the object itself; ConfigError names the known ones."""
    if isinstance(policy, Policy):
        return policy
    if isinstance(policy, type):
        raise ConfigError(f"scheduling_policy takes an object: {policy.__name__}(), not the class {policy.__name__}")
    if policy not in POLICIES:
        raise ConfigError(f"scheduling_policy must be one of {', '.join(sorted(POLICIES))}, not {policy!r}")
    return POLICIES[policy]()
