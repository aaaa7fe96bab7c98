"""Two runs of the same requests: which gained, which lost, and why."""

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from workbench.core.reasons import WAITING_FOR
from workbench.core.records import StepRecord
from workbench.core.scheduler_output import Action
from workbench.tables import html_table, milliseconds, text_table
from workbench.trace.life import Life, lives_of
from workbench.trace.metrics import SequenceMetrics, measure, percentile

SHOWN = 10
SAME = 0.01  # of the slower run: less is no difference


class Change(NamedTuple):
    """One request in both runs. e2e and ttft in seconds: in the first run, in the second. why: in plain English."""

    request_id: str
    ttft: tuple[float | None, float | None]
    e2e: tuple[float, float]
    why: str

    @property
    def gain(self) -> float:
        """Seconds by which it ended sooner after its arrival in the second run; below 0: later."""
        return self.e2e[0] - self.e2e[1]


class Comparison:
    """What the second run changed for each request that ended in both. `changes`: the greatest gain first.

    gained, lost, same: request ids; a difference under 1% counts as none. missing: ended in one run only.
    """

    def __init__(self, names: tuple[str, str], first: Iterable[StepRecord], second: Iterable[StepRecord]) -> None:
        self.names = names
        runs = (list(first), list(second))
        self.metrics = (measure(runs[0]), measure(runs[1]))
        ended = [{name for name, m in metrics.items() if m.e2e is not None} for metrics in self.metrics]
        self.missing = tuple(sorted(ended[0] ^ ended[1]))
        both = [name for name in self.metrics[0] if name in ended[0] & ended[1]]
        gains = {name: _e2e(self.metrics[0][name]) - _e2e(self.metrics[1][name]) for name in both}
        order = sorted(both, key=lambda name: -gains[name])
        told = set(order[:SHOWN]) | set(order[-SHOWN:])
        lives = (lives_of(runs[0], told), lives_of(runs[1], told))
        self.changes = tuple(self._change(name, lives) for name in order)
        self.gained = tuple(c.request_id for c in self.changes if c.gain > SAME * max(c.e2e))
        self.lost = tuple(c.request_id for c in reversed(self.changes) if -c.gain > SAME * max(c.e2e))
        self.same = tuple(name for name in order if name not in {*self.gained, *self.lost})

    def _change(self, name: str, lives: tuple[Mapping[str, Life], Mapping[str, Life]]) -> Change:
        first, second = self.metrics[0][name], self.metrics[1][name]
        why = _why(lives[0][name], lives[1][name], first, second) if name in lives[0] else ""
        return Change(name, (first.ttft, second.ttft), (_e2e(first), _e2e(second)), why)

    def __repr__(self) -> str:
        return f"{self._headline()}\n{text_table(*self._table())}"

    def _repr_html_(self) -> str:
        return f"<b>{html.escape(self._headline())}</b>{html_table(*self._table())}"

    def _headline(self) -> str:
        text = f"{self.names[1]} against {self.names[0]}: {len(self.gained)} requests gained, {len(self.lost)} lost"
        text += f", {len(self.same)} the same" if self.same else ""
        text += f", {len(self.missing)} ended in one of them only" if self.missing else ""
        pairs = [[c.e2e[i] for c in self.changes] for i in (0, 1)]
        if self.changes:
            text += f"; median end to end {milliseconds(percentile(pairs[0], 50))} → "
            text += milliseconds(percentile(pairs[1], 50))
        return text

    def _table(self) -> tuple[list[str], list[list[str]]]:
        shown = list(self.changes)
        if len(shown) > SHOWN:
            shown = shown[: SHOWN // 2] + shown[-SHOWN // 2 :]
        rows = [
            [
                c.request_id,
                f"{milliseconds(c.ttft[0])} → {milliseconds(c.ttft[1])}",
                f"{milliseconds(c.e2e[0])} → {milliseconds(c.e2e[1])}",
                f"{c.gain * 1e3:+.1f} ms",
                c.why,
            ]
            for c in shown
        ]
        return ["request", "first token", "end", "gain", "why"], rows


def seconds_by_cause(life: Life) -> dict[str, float]:
    """Where a request's time from arrival to end went; the values add up to it."""
    if life.arrival is None:
        return {}
    spent: dict[str, float] = {}
    at = life.arrival.time
    for moment in life.moments:
        action = moment.decision.action
        if action == Action.PREEMPT:
            cause = "losing its blocks"
        elif action == Action.WAIT:
            cause = f"waiting {WAITING_FOR[moment.root.reason]}"
        elif action == Action.DECODE:
            cause = "decoding"
        else:
            cause = "prefilling"
        if moment.end > at:
            spent[cause] = spent.get(cause, 0.0) + moment.end - at
            at = moment.end
    return spent


def _why(first: Life, second: Life, before: SequenceMetrics, after: SequenceMetrics) -> str:
    """ "120.0 ms less waiting for KV blocks, 3.1 ms more decoding; 2 preemptions fewer" """
    spent = seconds_by_cause(first), seconds_by_cause(second)
    causes = dict.fromkeys([*spent[0], *spent[1]])
    deltas = {cause: spent[1].get(cause, 0.0) - spent[0].get(cause, 0.0) for cause in causes}
    largest: Sequence[str] = sorted(deltas, key=lambda cause: -abs(deltas[cause]))[:2]
    total = sum(abs(delta) for delta in deltas.values())
    told = [
        f"{abs(deltas[cause]) * 1e3:.1f} ms {'more' if deltas[cause] > 0 else 'less'} {cause}"
        for cause in largest
        if total and abs(deltas[cause]) > 0.1 * total
    ]
    preemptions = after.num_preemptions - before.num_preemptions
    if preemptions:
        count = f"{abs(preemptions)} preemption{'s' * (abs(preemptions) > 1)}"
        told.append(f"{count} {'more' if preemptions > 0 else 'fewer'}")
    return ", ".join(told)


def _e2e(metrics: SequenceMetrics) -> float:
    assert metrics.e2e is not None  # only requests that ended are compared
    return metrics.e2e
