"""Stands between the scheduler and a policy that somebody wrote: nothing it raises or returns can harm a request.

A policy that fails is asked nothing more in that step, answers come from the defaults, and before the next step the
policy that was in force before it is back.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from workbench.core.policy import Policy, PolicyError
from workbench.core.request import Request

Key = tuple[Any, ...]

_DEFAULT = Policy()


class PolicyGuard:
    """Holds the policy in force and the one to go back to. failure: why the last one was taken off, until read."""

    def __init__(self, policy: Policy) -> None:
        self.failure: str | None = None
        self._previous: Policy = _DEFAULT
        self._failing: Exception | None = None
        self._put(policy)

    def change(self, policy: Policy, requests: Iterable[Request]) -> dict[str, Key]:
        """Put another policy in force and return its keys; PolicyError, and no change, if these make no order."""
        try:
            keys = {r.request_id: _checked_key(policy, r) for r in requests}
            ordered = sorted(keys.values())
            if len(set(ordered)) != len(ordered):
                raise ValueError("two requests have the same key; end each key with request.arrival_seq")
        except Exception as error:
            raise PolicyError(
                f"policy {policy.name!r} was refused, {self.policy.name!r} stays: {type(error).__name__}: {error}"
            ) from error
        self._previous = self.policy
        self._put(policy)
        return keys

    def key(self, request: Request) -> Key:
        """The key of one request; raises whatever the policy raises, for take_off."""
        return _checked_key(self.policy, request)

    def keys(self, requests: Sequence[Request]) -> dict[str, Key]:
        """Sort keys of all live requests, which can be compared; from the policy before, if this one fails."""
        while True:
            try:
                keys = {r.request_id: _checked_key(self.policy, r) for r in requests}
                sorted(keys.values())
                return keys
            except Exception as error:
                self.take_off(error)

    def share(self, request: Request, wanted: int, left: int) -> int:
        """Tokens for a request, 0 to min(wanted, left)."""
        most = min(wanted, left)
        if most == 0 or self.plain_share or self._failing is not None:
            return most
        try:
            share = self.policy.share(request, wanted, left)
            if isinstance(share, bool) or not isinstance(share, int) or not 0 <= share <= most:
                raise ValueError(f"share() must return 0 to {most} tokens, not {share!r}")
        except Exception as error:
            self._failing = error
            return most
        return share

    def victim(self, candidates: Sequence[Request]) -> Request:
        """One of the candidates."""
        if self._failing is None:
            try:
                victim = self.policy.victim(candidates)
                if not any(victim is candidate for candidate in candidates):
                    raise ValueError(f"victim() must return one of its candidates, not {victim!r}")
                return victim
            except Exception as error:
                self._failing = error
        return candidates[-1]

    def nobody_ran(self) -> None:
        """The policy gave no token to anyone although there was room: it would stop the engine for good."""
        if self._failing is None:
            self._failing = ValueError("share() gave no tokens to anyone in a step that had room")

    def settle(self) -> bool:
        """Take off a policy that failed in the last step; True if the queues must be sorted anew."""
        if self._failing is None:
            return self.policy.dynamic
        self.take_off(self._failing)
        return True

    def take_off(self, error: Exception) -> None:
        """Go back to the policy before."""
        if self.policy is _DEFAULT:
            raise error
        failed = self.policy
        self._put(self._previous)
        self._previous = _DEFAULT
        self.failure = (
            f"policy {failed.name!r} was taken off, {self.policy.name!r} is back: {type(error).__name__}: {error}"
        )

    def _put(self, policy: Policy) -> None:
        self.policy = policy
        self._failing = None
        # Found out once, as share is asked for every request in every step. True: all get what the budget leaves.
        self.plain_share = type(policy).share is Policy.share


def _checked_key(policy: Policy, request: Request) -> Key:
    key = policy.key(request)
    if not isinstance(key, tuple):
        raise TypeError(f"key() must return a tuple, not {key!r}")
    return key
