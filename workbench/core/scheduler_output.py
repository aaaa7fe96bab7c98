"""What one step will do, and why: the scheduler's frozen answer, read by the runner, the record and the views.

One decision per live request per step. The runner needs only `scheduled`, `new_requests`, `copies` and `dropped`;
everything that explains the step is in `decisions`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from workbench.core.sampling_params import SamplingParams


class Action(StrEnum):
    """What happens to a live request in a step."""

    PREFILL = "prefill"  # computes tokens whose successors are already known (prompt, or recompute after preemption)
    DECODE = "decode"  # computes its newest token and samples the next one
    WAIT = "wait"  # computes nothing this step
    PREEMPT = "preempt"  # loses its blocks and goes back to the waiting queue


class Reason(StrEnum):
    """Why. The meaning of a decision's need / have / other is given beside each reason."""

    ADMITTED = "admitted"  # prefill: left the waiting queue this step
    RESUMED = "resumed"  # prefill: left the waiting queue again after a preemption
    CHUNK = "chunk"  # prefill: the next chunk of a prompt already begun; need = tokens left, have = tokens this step
    DECODE = "decode"  # decode: the ordinary case
    TOKEN_BUDGET = "token_budget"  # wait: need = tokens wanted, have = budget left, other = largest user of the budget
    NO_CHUNKING = "no_chunking"  # wait: chunked prefill is off; need = prompt tokens, have = budget left
    MAX_NUM_SEQS = "max_num_seqs"  # wait: need = sequences it would make, have = max_num_seqs
    NO_BLOCKS = "no_blocks"  # wait, preempt: need = blocks, have = free ones, other = who holds most, who needs them
    BEHIND = "behind"  # wait: other = the request ahead in the queue that could not be admitted
    SIBLING = "sibling"  # wait: other = the sequence of the same prompt whose prefill will be shared
    AFTER_PREEMPTION = "after_preemption"  # wait: other = a request preempted this step, in which nobody is admitted
    POLICY = "policy"  # wait: the policy gave it no tokens; need = tokens wanted, have = budget left
    PAUSED = "paused"  # wait: the engine is paused; the step only records what changed meanwhile
    # other = the setting that changed the KV pool, which is all that this step did.
    # wait: it goes on afterwards. preempt: need = blocks that had to leave the pool, have = free ones; need = 0: the
    # pool was made anew, and its KV has to be computed again
    RECONFIGURED = "reconfigured"


NOBODY_RUNS = frozenset({Reason.PAUSED, Reason.RECONFIGURED})


class Decision(NamedTuple):
    """One live request in one step.

    num_tokens: tokens computed this step. num_computed: tokens whose KV was there before the step's forward
    (prefix hits included). num_cached: of those, tokens found in the prefix cache at this admission.
    need, have, other: the reason's numbers; see Reason.
    """

    request_id: str
    action: Action
    reason: Reason
    num_tokens: int = 0
    num_computed: int = 0
    num_cached: int = 0
    need: int = 0
    have: int = 0
    other: str = ""


class ScheduledRequest(NamedTuple):
    """What the runner computes for one request.

    token_ids: the tokens to run, at positions num_computed_tokens, num_computed_tokens + 1, ...
    block_ids: physical blocks to write into the request's block table from index block_start on (the rest of the
    table is as the runner has it). sample: True if the last token's logits give a new token.
    """

    request_id: str
    token_ids: tuple[int, ...]
    num_computed_tokens: int
    block_start: int
    block_ids: tuple[int, ...]
    sample: bool


class NewRequest(NamedTuple):
    """A request that the runner has no row for: new, or resumed after preemption (then output_token_ids is not empty).

    seed: drives this request's random choices (already derived from the params' or the engine's seed).
    """

    request_id: str
    prompt_token_ids: tuple[int, ...]
    output_token_ids: tuple[int, ...]
    sampling_params: SamplingParams
    seed: int


class BlockCopy(NamedTuple):
    """Copy-on-write: the runner copies block src to dst, in every layer, before this step's writes."""

    src: int
    dst: int


@dataclass(frozen=True, slots=True)
class SchedulerOutput:
    """One step's plan. Order in `scheduled` is the order of the batch."""

    step: int
    decisions: Sequence[Decision]
    scheduled: tuple[ScheduledRequest, ...]
    new_requests: tuple[NewRequest, ...]
    copies: tuple[BlockCopy, ...]
    dropped: tuple[str, ...]  # finished, aborted or preempted since the last plan: the runner forgets their rows
    num_scheduled_tokens: int


class SampledToken(NamedTuple):
    """A token that the runner sampled.

    logprob: natural-log probability under the model's own distribution, if the request asked for logprobs.
    alternatives: (token_id, logprob) of the likeliest tokens, best first, as many as asked for.
    """

    token_id: int
    logprob: float | None = None
    alternatives: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class RunnerOutput:
    """What a runner returns for a plan. errors: request id -> what went wrong with that request alone."""

    sampled: dict[str, SampledToken]
    errors: dict[str, str]
    prepare_seconds: float
    forward_seconds: float
    sample_seconds: float
