"""A sequence as the scheduler sees it, and the one table of the states it may go through."""

from enum import StrEnum
from typing import Any

from workbench.core.errors import WorkbenchError
from workbench.core.sampling_params import SamplingParams
from workbench.core.scheduler_output import Decision


class RequestStatus(StrEnum):
    """Where a request is in its life."""

    WAITING = "waiting"  # never scheduled yet
    RUNNING = "running"  # holds blocks
    PREEMPTED = "preempted"  # lost its blocks, waits to be resumed
    FINISHED = "finished"


TRANSITIONS: dict[RequestStatus, frozenset[RequestStatus]] = {
    RequestStatus.WAITING: frozenset({RequestStatus.RUNNING, RequestStatus.FINISHED}),
    RequestStatus.RUNNING: frozenset({RequestStatus.PREEMPTED, RequestStatus.FINISHED}),
    RequestStatus.PREEMPTED: frozenset({RequestStatus.RUNNING, RequestStatus.FINISHED}),
    RequestStatus.FINISHED: frozenset(),
}


class Request:
    """One sequence: its tokens, how many of them have KV, and its place in the queue.

    token_ids holds the prompt and then every sampled token. `num_tokens - num_computed_tokens` is what is left to
    compute; that one number covers whole prompts, chunks, prefix hits, resumed requests and decoding alike.
    arrival_seq is the order of arrival and breaks every tie. leader is the sequence of the same prompt (n > 1) whose
    prompt blocks this one will share.

    ending_tokens: sampling one of these may end it. quiet_until: while fewer tokens than that are computed, the request
    decodes, its last block is its own and has room, and its output is not at its longest: nothing to decide.
    """

    __slots__ = (
        "arrival_seq",
        "arrival_time",
        "block_hashes",
        "ending_tokens",
        "finish_reason",
        "label",
        "last_wait",
        "leader",
        "max_tokens",
        "num_computed_tokens",
        "num_preemptions",
        "num_prompt_tokens",
        "parent_id",
        "priority",
        "prompt_token_ids",
        "quiet_until",
        "request_id",
        "sampling_params",
        "seed",
        "sort_key",
        "status",
        "token_ids",
    )

    def __init__(
        self,
        request_id: str,
        prompt_token_ids: tuple[int, ...],
        sampling_params: SamplingParams,
        *,
        arrival_time: float,
        arrival_seq: int,
        max_tokens: int,
        seed: int = 0,
        priority: int = 0,
        parent_id: str | None = None,
        leader: "Request | None" = None,
        label: str = "",
        ending_tokens: frozenset[int] = frozenset(),
    ) -> None:
        self.request_id = request_id
        self.parent_id = request_id if parent_id is None else parent_id
        self.prompt_token_ids = prompt_token_ids
        self.num_prompt_tokens = len(prompt_token_ids)
        self.sampling_params = sampling_params
        self.arrival_time = arrival_time
        self.arrival_seq = arrival_seq
        self.max_tokens = max_tokens
        self.seed = seed
        self.priority = priority
        self.leader = leader
        self.label = label
        self.token_ids: list[int] = list(prompt_token_ids)
        self.ending_tokens = ending_tokens
        self.num_computed_tokens = 0
        self.quiet_until = 0
        self.num_preemptions = 0
        self.block_hashes: list[str] = []
        self.sort_key: tuple[Any, ...] = ()  # the policy's key, asked for once
        self.status = RequestStatus.WAITING
        self.finish_reason: str | None = None
        self.last_wait: Decision | None = None  # reused while nothing changes, so that a long queue costs little

    def __repr__(self) -> str:
        return f"Request({self.request_id!r}, {self.status}, {self.num_computed_tokens}/{self.num_tokens} tokens)"

    @property
    def num_tokens(self) -> int:
        """Tokens known so far: prompt and output."""
        return len(self.token_ids)

    @property
    def num_output_tokens(self) -> int:
        """Tokens sampled so far."""
        return len(self.token_ids) - self.num_prompt_tokens

    @property
    def output_token_ids(self) -> tuple[int, ...]:
        """The sampled tokens."""
        return tuple(self.token_ids[self.num_prompt_tokens :])

    def move_to(self, status: RequestStatus) -> None:
        """Change state by the table; anything else is a bug in the scheduler and raises."""
        if status not in TRANSITIONS[self.status]:
            raise WorkbenchError(f"{self.request_id}: no transition from {self.status} to {status}")
        self.status = status
