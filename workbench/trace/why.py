"""Why was my request slow? The chain of causes in plain English, each with its step and numbers."""

import html
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from workbench.core.reasons import WAITING_FOR
from workbench.core.records import StepRecord
from workbench.core.scheduler_output import Action, Reason
from workbench.core.units import time_text
from workbench.trace.life import Life, Moment, life_of
from workbench.trace.waterfall import Segment, waterfall

SLOW_FACTOR = 2.0  # a decode step that took so many times the median is told


class Cause(NamedTuple):
    """A sentence, and the step at which to look (None: no step)."""

    text: str
    step: int | None


class Why:
    """The explanation of one request. `causes` in order of time, `waterfall` from arrival to the first token (or, as
    long as there is none, to the newest step)."""

    def __init__(self, request_id: str, causes: Sequence[Cause], waterfall: Sequence[Segment]) -> None:
        self.request_id = request_id
        self.causes = tuple(causes)
        self.waterfall = tuple(waterfall)

    def __repr__(self) -> str:
        return "\n".join([f"Why {self.request_id}?", *(f"  {_at(c.step):>12}  {c.text}" for c in self.causes)])

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td style='text-align:right;white-space:nowrap'>{_at(c.step)}</td>"
            f"<td style='text-align:left'>{html.escape(c.text)}</td></tr>"
            for c in self.causes
        )
        return f"<b>Why {html.escape(self.request_id)}?</b><table>{rows}</table>"

    def to_json(self) -> dict[str, Any]:
        """For views: {"request_id", "causes": [[text, step]], "waterfall": [Segment fields]}."""
        return {"request_id": self.request_id, "causes": self.causes, "waterfall": self.waterfall}


def why(records: Iterable[StepRecord], request_id: str) -> Why:
    """Explain a request from the records of its run."""
    return explain_life(life_of(records, request_id))


def explain_life(life: Life) -> Why:
    """Put a life into sentences."""
    if not life.moments and life.arrival is None:
        return Why(life.request_id, [Cause("The trace does not hold this request.", None)], [])
    causes = [_arrival(life)]
    stints = _stints(life.moments)
    for index, stint in enumerate(stints):
        causes += _stint_causes(stint, first=index == 0)
    causes += _first_token(life)
    causes += _decoding(life)
    causes.append(_end(life))
    order = sorted(range(len(causes)), key=lambda i: (causes[i].step if causes[i].step is not None else -1, i))
    return Why(life.request_id, [causes[i] for i in order], waterfall(life))


def _stints(moments: Sequence[Moment]) -> list[list[Moment]]:
    """Cut a life at its preemptions: each stint is a time of waiting and then a time of running."""
    stints: list[list[Moment]] = [[]]
    for moment in moments:
        if moment.decision.action == Action.PREEMPT:
            stints.append([])
        stints[-1].append(moment)
    return stints


def _stint_causes(stint: list[Moment], first: bool) -> list[Cause]:
    if not stint:
        return []
    causes = []
    if stint[0].decision.action == Action.PREEMPT:
        causes.append(_preemption(stint))
        stint = stint[1:]
    begins = next((i for i, m in enumerate(stint) if m.decision.action != Action.WAIT), len(stint))
    queued = stint[:begins]
    if queued:
        what = "before it was admitted" if first else "before it was resumed"
        causes.append(Cause(f"Waited {_steps(queued)} {what}: {_reasons(queued)}.", queued[0].step))
    later = [m for m in stint[begins:] if m.decision.action == Action.WAIT]
    if later:
        causes.append(Cause(f"While running, got no turn in {_steps(later)}: {_reasons(later)}.", later[0].step))
    prefills = [m for m in stint if m.decision.action == Action.PREFILL]
    if prefills:
        causes.append(_prefill(prefills, "Prefilled" if first else "Recomputed"))
    return causes


def _preemption(stint: list[Moment]) -> Cause:
    at = stint[0]
    back = [m for m in stint if m.decision.action == Action.PREFILL]
    d = at.decision
    if d.reason is Reason.RECONFIGURED and d.need:
        text = f"Preempted: {d.other} took {_count(d.need, 'KV block')} out of the pool and {d.have} were free."
    elif d.reason is Reason.RECONFIGURED:
        text = f"Preempted: {d.other} made its KV useless."
    else:
        who = "it needed" if d.other in (d.request_id, "") else f"{d.other} needed"
        text = f"Preempted: {who} {_count(d.need, 'KV block')} and {d.have} were free."
    if back:
        tokens = sum(m.decision.num_tokens for m in back)
        cached = back[0].decision.num_cached
        found = f" ({cached} more were still cached)" if cached else ""
        cost = back[-1].end - at.start
        text += f" {_count(tokens, 'token')} were recomputed{found}; it cost {time_text(cost)} in all."
    else:
        text += " It has not been resumed."
    return Cause(text, at.step)


def _prefill(moments: list[Moment], verb: str) -> Cause:
    tokens = sum(m.decision.num_tokens for m in moments)
    cached = moments[0].decision.num_cached
    seconds = sum(m.end - m.start for m in moments)
    text = f"{verb} {_count(tokens, 'token')} in {_count(len(moments), 'step')} ({time_text(seconds)})"
    text += f"; {cached} came from the prefix cache or a sibling" if cached else ""
    shared = Counter[str]()
    for moment in moments:
        for name, count in moment.neighbours:
            shared[name] += count
    if shared:
        text += f"; the same steps computed {_names_with_tokens(shared)}"
    return Cause(text + ".", moments[0].step)


def _first_token(life: Life) -> list[Cause]:
    first = life.first_token
    if first is None or life.arrival is None:
        return []
    names = {"queue": "waiting", "neighbour": "shared with others in the same steps"}
    seconds: dict[str, float] = {}
    for segment in waterfall(life):
        name = names.get(segment.kind, segment.kind)
        seconds[name] = seconds.get(name, 0.0) + segment.seconds
    detail = ", ".join(f"{time_text(value)} {name}" for name, value in seconds.items())
    return [Cause(f"First token {time_text(first.end - life.arrival.time)} after arrival: {detail}.", first.step)]


def _decoding(life: Life) -> list[Cause]:
    decodes = [m for m in life.moments if m.decision.action == Action.DECODE]
    if not decodes:
        return []
    lengths = sorted(m.end - m.start for m in decodes)
    median = lengths[len(lengths) // 2]
    text = f"Decoded {_count(len(decodes), 'token')}, one a step; the median step took {time_text(median)}"
    slowest = max(decodes, key=lambda m: m.end - m.start)
    if slowest.end - slowest.start > SLOW_FACTOR * median:
        text += f", the slowest {time_text(slowest.end - slowest.start)} (step {slowest.step}"
        most = slowest.neighbours[0] if slowest.neighbours else None
        text += f", with {most[1]} tokens of {most[0]})" if most is not None and most[1] > 1 else ")"
    return [Cause(text + ".", decodes[0].step)]


def _arrival(life: Life) -> Cause:
    if life.arrival is None:
        return Cause("Its arrival is no longer in the trace.", None)
    a = life.arrival
    step = life.moments[0].step if life.moments else None
    return Cause(
        f"Arrived with {_count(len(a.prompt_token_ids), 'prompt token')}, for at most {a.max_tokens} more.", step
    )


def _end(life: Life) -> Cause:
    if life.finished is None:
        last = life.moments[-1] if life.moments else None
        return Cause("It is still alive.", None if last is None else last.step)
    reason = {
        "stop": "it reached a stop",
        "length": "it reached its length",
        "abort": "it was cancelled",
        "error": f"it failed: {life.finished.detail}",
    }[life.finished.finish_reason]
    return Cause(f"Finished: {reason}.", life.finished_step)


def _reasons(moments: Sequence[Moment]) -> str:
    """ "9 for KV blocks (needed 5, at best 3 free; held mostly by r7 and r9), 5 for the token budget (used by r3)" """
    groups: dict[Reason, list[Moment]] = {}
    for moment in moments:
        groups.setdefault(moment.root.reason, []).append(moment)
    told = []
    for reason, group in sorted(groups.items(), key=lambda item: -len(item[1])):
        detail = []
        behind = Counter(m.decision.other for m in group if m.root is not m.decision)
        if behind:
            detail.append(f"behind {_names(behind)}")
        if reason == Reason.NO_BLOCKS:
            best = max(group, key=lambda m: m.root.have)
            detail.append(f"needed {best.root.need}, at best {best.root.have} free")
        others = Counter(m.root.other for m in group if m.root.other)
        if others and reason in (Reason.NO_BLOCKS, Reason.TOKEN_BUDGET, Reason.NO_CHUNKING):
            verb = "held mostly by" if reason == Reason.NO_BLOCKS else "used mostly by"
            detail.append(f"{verb} {_names(others)}")
        elif others and reason in (Reason.AFTER_PREEMPTION, Reason.BEHIND, Reason.SIBLING):
            detail.append(_names(others))
        if reason == Reason.MAX_NUM_SEQS:
            detail.append(f"max_num_seqs={group[0].root.have}")
        told.append(f"{len(group)} {WAITING_FOR[reason]}" + (f" ({'; '.join(detail)})" if detail else ""))
    return ", ".join(told)


def _names(counts: "Counter[str]", most: int = 3) -> str:
    names = [name for name, _ in counts.most_common(most)]
    rest = len(counts) - len(names)
    text = names[0] if len(names) == 1 else ", ".join(names[:-1]) + f" and {names[-1]}"
    return text + (f" and {rest} more" if rest > 0 else "")


def _names_with_tokens(counts: "Counter[str]", most: int = 3) -> str:
    told = [f"{tokens} of {name}" for name, tokens in counts.most_common(most)]
    rest = len(counts) - len(told)
    return ", ".join(told) + (f" and some of {rest} more" if rest > 0 else "") + " (tokens)"


def _steps(moments: Sequence[Moment]) -> str:
    """How many steps passed waiting, and the time until it was looked at again."""
    return f"{_count(len(moments), 'step')} ({time_text(sum(m.until - m.start for m in moments))})"


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def _at(step: int | None) -> str:
    return "" if step is None else f"step {step}"
