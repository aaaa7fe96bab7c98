"""A decision in plain English, with its numbers. The views say the same in extension/src/reasons.ts."""

from collections.abc import Callable

from workbench.core.scheduler_output import Action, Decision, Reason


def explain(decision: Decision) -> str:
    """One line on what the step decided about a request and why."""
    d = decision
    if d.reason == Reason.RECONFIGURED:
        return _reconfigured(d)
    if d.action == Action.PREEMPT:
        return f"preempted: {d.other} needs {_blocks(d.need)}, {d.have} free"
    if d.action == Action.DECODE:
        return "decodes one token"
    if d.action == Action.PREFILL:
        return _prefill(d)
    return _WAITS[d.reason](d)


def _reconfigured(d: Decision) -> str:
    if d.action == Action.WAIT:
        return f"waits: the KV pool changed ({d.other})"
    if d.need:
        return f"preempted: {d.other} took {_blocks(d.need)} out of the pool, {d.have} free"
    return f"preempted: {d.other} made the KV pool anew, so its KV is computed again"


def _prefill(d: Decision) -> str:
    begin = {Reason.ADMITTED: "admitted: prefills", Reason.RESUMED: "resumed: recomputes"}.get(d.reason, "prefills")
    size = f"{d.num_tokens} tokens" if d.num_tokens == d.need else f"{d.num_tokens} of {d.need} tokens"
    return f"{begin} {size}" + (f", {d.num_cached} from the cache" if d.num_cached else "")


def _blocks(count: int) -> str:
    return f"{count} block" if count == 1 else f"{count} blocks"


def _by(d: Decision) -> str:
    return f", most by {d.other}" if d.other else ""


_WAITS: dict[Reason, Callable[[Decision], str]] = {
    Reason.TOKEN_BUDGET: lambda d: f"waits: token budget used up{_by(d)}",
    Reason.NO_CHUNKING: lambda d: f"waits: {d.need} tokens do not fit in the {d.have} left of the budget",
    Reason.MAX_NUM_SEQS: lambda d: f"waits: the batch is full at max_num_seqs={d.have}",
    Reason.NO_BLOCKS: lambda d: (
        f"waits for {_blocks(d.need)}, {d.have} free" + (f"; {d.other} holds most" * bool(d.other))
    ),
    Reason.BEHIND: lambda d: f"waits behind {d.other}",
    Reason.SIBLING: lambda d: f"waits for {d.other} to prefill their prompt",
    Reason.AFTER_PREEMPTION: lambda d: f"waits: {d.other} was preempted in this step",
    Reason.POLICY: lambda d: f"waits: the policy gave it none of the {d.have} tokens left",
    Reason.PAUSED: lambda d: "the engine is paused",
}


# What a request waits for, to follow "waited 9 steps" or "waiting".
WAITING_FOR: dict[Reason, str] = {
    Reason.TOKEN_BUDGET: "for the token budget",
    Reason.NO_CHUNKING: "for a step with room for the whole prompt",
    Reason.MAX_NUM_SEQS: "for a place in the batch (max_num_seqs)",
    Reason.NO_BLOCKS: "for KV blocks",
    Reason.BEHIND: "for its turn in the queue",
    Reason.SIBLING: "for the prompt that it shares",
    Reason.AFTER_PREEMPTION: "because a step that preempts admits nobody",
    Reason.POLICY: "because the policy gave it no tokens",
    Reason.PAUSED: "while the engine was paused",
    Reason.RECONFIGURED: "while the KV pool was changed",
}
