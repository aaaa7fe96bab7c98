"""Where the time to a request's first token went. The views draw the same from extension/src/waterfall.ts."""

from collections import Counter
from collections.abc import Iterator
from itertools import groupby
from typing import NamedTuple

from workbench.core.reasons import WAITING_FOR, preempted_for
from workbench.core.scheduler_output import Action, Reason
from workbench.trace.life import Life, Moment

NAMED_NEIGHBOURS = 3
SMALL_SHARE = 0.05  # of a step's tokens: who computed less is not named
WAITING = ("queue", "preempted")
UNNOTICED = 1e-3  # seconds between two steps that are not told by themselves
NEXT_STEP = "for the next step to begin"


class Segment(NamedTuple):
    """A piece of the time from arrival to the first token. Segments follow one another without gaps.

    Time between two steps (a pause, or the rest of the step under way at the arrival) is waiting, never computing: it
    belongs to the wait before or after it, or is a wait of no steps by itself.

    kind: "queue", "preempted", "prefill" (its own share of a step) or "neighbour" (the share of others in that step;
    a step's time is split by the tokens that each computed). tokens: how many, where something was computed. other:
    whom to look at: the neighbour, who holds what is waited for, for whom it was preempted; "" for several or
    nobody.
    """

    kind: str
    label: str
    first_step: int
    num_steps: int
    seconds: float
    tokens: int = 0
    other: str = ""


def waterfall(life: Life) -> list[Segment]:
    """From the arrival to the first token, or to the newest step while there is none; [] if the arrival is unknown."""
    if life.arrival is None:
        return []
    first = life.first_token
    moments = [m for m in life.moments if first is None or m.step <= first.step]
    segments: list[Segment] = []
    at = life.arrival.time
    for _, group in groupby(moments, key=_stretch):
        steps = list(group)
        between = steps[0].start - at
        if segments and segments[-1].kind in WAITING:
            before = segments.pop()
            segments.append(before._replace(seconds=before.seconds + max(0.0, between)))
            at = max(at, steps[0].start)
        elif between > UNNOTICED and steps[0].decision.num_tokens:
            segments.append(Segment("queue", NEXT_STEP, steps[0].step, 0, between))
            at = steps[0].start
        end = max(at, steps[-1].end)
        segments += _segments(steps, end - at)
        at = end
    return segments


def _stretch(moment: Moment) -> tuple[str, int]:
    """Moments with the same value are told as one: waiting for the same thing. Each chunk of a prefill stands alone."""
    action = moment.decision.action
    if action == Action.WAIT:
        return str(moment.root.reason), 0
    return str(action), moment.step


def _segments(steps: list[Moment], seconds: float) -> Iterator[Segment]:
    moment = steps[0]
    decision = moment.decision
    if decision.action == Action.PREEMPT:
        why, other = preempted_for(decision)
        yield Segment("preempted", f"preempted {why}", moment.step, 1, seconds, 0, other)
        return
    if decision.action == Action.WAIT:
        # What changed the pool is a setting, nobody to look at.
        named = (m.root for m in steps if m.root.other and m.root.reason != Reason.RECONFIGURED)
        others = Counter(root.other for root in named).most_common(1)
        label = WAITING_FOR[moment.root.reason]
        yield Segment("queue", label, moment.step, len(steps), seconds, 0, others[0][0] if others else "")
        return
    own = decision.num_tokens
    total = own + sum(tokens for _, tokens in moment.neighbours)
    yield Segment("prefill", "prefill", moment.step, 1, seconds * own / total, own)
    rest = total - own
    for name, tokens in moment.neighbours[:NAMED_NEIGHBOURS]:
        if tokens >= SMALL_SHARE * total:
            rest -= tokens
            yield Segment(
                "neighbour", f"{name} in the same step", moment.step, 1, seconds * tokens / total, tokens, name
            )
    if rest:
        yield Segment("neighbour", "others in the same step", moment.step, 1, seconds * rest / total, rest)
