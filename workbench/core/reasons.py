"""A decision in plain English, with its numbers. The views take the same texts from extension/src/generated.ts."""

import re

from workbench.core.scheduler_output import Action, Decision, Reason

# {field} is a number or a name of the decision, {field:word} a number with what it counts, {part:word} the tokens
# computed out of those wanted; a [clause] is left out where one of its fields is 0 or "".
TEXTS: dict[str, str] = {
    "preempt": "preempted: {other} needed {need:KV block}, {have} free",
    "preempt_self": "preempted: it needed {need:KV block}, {have} free",
    "decode": "decodes its next token",
    "decode_many": "decodes {num_tokens:token}",
    "admitted": "admitted: computes {part:prompt token}[; {num_cached} came from the prefix cache]",
    "resumed": "resumed after preemption: recomputes {num_tokens:token}[; {num_cached} came from the prefix cache]",
    "chunk": "next chunk: computes {num_tokens:prompt token}, {left} to go",
    "chunk_last": "last chunk: computes {num_tokens:prompt token} and samples the first token",
    "token_budget": "token budget used up: wants {need:token}, {have} left[; most went to {other}]",
    "no_chunking": "its whole prompt of {need:token} must fit; {have} left in the budget (chunking is off)",
    "max_num_seqs": "the batch is full: it would be sequence {need}, max_num_seqs is {have}",
    "no_blocks": "waits for {need:KV block}, {have} free[; {other} holds most]",
    "behind": "behind {other} in the queue",
    "sibling": "waits for {other} to compute the prompt that they share",
    "after_preemption": "nobody is admitted in a step that preempted {other}",
    "policy": "the policy gave it none of the {have:token} left in the budget",
    "paused": "the engine is paused",
    "reconfigured": "waits while the KV pool changes: {other}",
    "reconfigured_blocks": "preempted: {other} took {need:KV block} out of the pool, {have} free",
    "reconfigured_pool": "preempted: {other} made its KV useless, so it is computed again",
}
_CLAUSE = re.compile(r"\[([^\]]*)\]")
_FIELD = re.compile(r"\{(\w+)(?::([^}]*))?\}")


def explain(decision: Decision) -> str:
    """One line on what the step decided about a request and why."""
    text = TEXTS[_text_name(decision)]
    if "{" not in text:
        return text  # most decisions of a long trace
    values = {**decision._asdict(), "left": max(0, decision.need - decision.num_tokens)}

    def field(match: re.Match[str]) -> str:
        name, word = match[1], match[2]
        if name == "part":
            wanted = decision.need > decision.num_tokens
            count = decision.need if wanted else decision.num_tokens
            of = f"{decision.num_tokens:,} of " if wanted else ""
            return f"{of}{_counted(count, word)}"
        value = values[name]
        if isinstance(value, str):
            return value
        return f"{value:,}" if word is None else _counted(value, word)

    def clause(match: re.Match[str]) -> str:
        return match[1] if all(values[name] for name, _ in _FIELD.findall(match[1])) else ""

    return _FIELD.sub(field, _CLAUSE.sub(clause, text))


def preempted_for(decision: Decision) -> tuple[str, str]:
    """Why a decision preempted its request, to follow "preempted", and the request to look at: "" if there is none."""
    if decision.reason == Reason.RECONFIGURED:
        return f"as the KV pool changed: {decision.other}", ""
    if decision.other in (decision.request_id, ""):
        return "for want of KV blocks", ""
    return f"for {decision.other}", decision.other


def _text_name(d: Decision) -> str:
    if d.action == Action.PREEMPT and d.reason == Reason.RECONFIGURED:
        return "reconfigured_blocks" if d.need else "reconfigured_pool"
    if d.action == Action.PREEMPT:
        return "preempt_self" if d.other in (d.request_id, "") else "preempt"
    if d.action == Action.DECODE:
        return "decode" if d.num_tokens == 1 else "decode_many"
    if d.action == Action.PREFILL and d.reason not in (Reason.ADMITTED, Reason.RESUMED):
        return "chunk" if d.need > d.num_tokens else "chunk_last"
    return str(d.reason)


def _counted(count: int, word: str) -> str:
    return f"{count:,} {word}" if count == 1 else f"{count:,} {word}s"


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
