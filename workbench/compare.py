"""Two runs of the same requests: which gained, which lost, and why."""

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from workbench.compare_picture import dumbbells
from workbench.core.reasons import WAITING_FOR
from workbench.core.records import StepRecord
from workbench.core.scheduler_output import Action
from workbench.core.units import time_text
from workbench.sim.cost_model import FitError
from workbench.tables import html_table, text_table, time_cell
from workbench.trace.life import Life, lives_of
from workbench.trace.metrics import SequenceMetrics, measure, percentile, summarize
from workbench.trace.waterfall import waterfall

if TYPE_CHECKING:
    from workbench.widgets.compare_widget import CompareWidget

SHOWN = 10
TOLD = 200  # requests whose reason is told: those that changed most
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


class Side(NamedTuple):
    """One of the two runs. settings: by vLLM's names, as they stood at its end. fit_error: of the cost model, if the
    run was simulated with one that was fitted."""

    name: str
    records: Sequence[StepRecord]
    simulated: bool
    settings: Mapping[str, str] = {}
    fit_error: FitError | None = None
    messages: Sequence[str] = ()


class Comparison:
    """What the second run changed for each request that ended in both. `changes`: the greatest gain first.

    gained, lost, same: request ids; a difference under 1% counts as none. missing: ended in one run only. settings:
    those that differ, name -> (first, second). In a notebook it is shown as a view.
    """

    def __init__(self, sides: tuple[Side, Side]) -> None:
        self.sides = sides
        self.names = (sides[0].name, sides[1].name)
        runs = (sides[0].records, sides[1].records)
        self.metrics = (measure(runs[0]), measure(runs[1]))
        both_settings = [name for name in sides[0].settings if name in sides[1].settings]
        pairs = {name: (sides[0].settings[name], sides[1].settings[name]) for name in both_settings}
        self.settings = {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
        ended = [{name for name, m in metrics.items() if m.e2e is not None} for metrics in self.metrics]
        self.missing = tuple(sorted(ended[0] ^ ended[1]))
        both = [name for name in self.metrics[0] if name in ended[0] & ended[1]]
        gains = {name: _e2e(self.metrics[0][name]) - _e2e(self.metrics[1][name]) for name in both}
        order = sorted(both, key=lambda name: -gains[name])
        told = set(sorted(both, key=lambda name: -abs(gains[name]))[:TOLD])
        self._lives = (lives_of(runs[0], told), lives_of(runs[1], told))
        self.changes = tuple(self._change(name, self._lives) for name in order)
        self.gained = tuple(c.request_id for c in self.changes if c.gain > SAME * max(c.e2e))
        self.lost = tuple(c.request_id for c in reversed(self.changes) if -c.gain > SAME * max(c.e2e))
        self.same = tuple(name for name in order if name not in {*self.gained, *self.lost})

    def show(self) -> "CompareWidget":
        """The view, to be put where it is wanted."""
        from workbench.widgets.compare_widget import CompareWidget  # ipywidgets is only needed where there is a page

        return CompareWidget(self.to_json(), self._repr_html_(), repr(self))

    def to_json(self) -> dict[str, Any]:
        """For views (extension/PROTOCOL.md): plain values, waterfalls of the requests that changed most included."""
        return {
            "sides": [
                {"name": s.name, "simulated": s.simulated, "messages": list(s.messages), "fit": _fit(s.fit_error)}
                for s in self.sides
            ],
            "settings": [[name, *pair] for name, pair in self.settings.items()],
            "totals": self.totals(),
            "requests": [
                [c.request_id, *c.ttft, *c.e2e, c.why, *(m[c.request_id].num_preemptions for m in self.metrics)]
                for c in self.changes
            ],
            "waterfalls": {
                name: [waterfall(self._lives[0][name]), waterfall(self._lives[1][name])] for name in self._lives[0]
            },
            "num_gained": len(self.gained),
            "num_lost": len(self.lost),
            "num_same": len(self.same),
            "missing": list(self.missing),
        }

    def totals(self) -> list[list[Any]]:
        """Rows of [name, unit, first, second, whether less is better]; seconds are of requests that ended in both."""
        names = [c.request_id for c in self.changes]
        rows: list[list[Any]] = []
        for label, value in (("time to first token", "ttft"), ("end to end", "e2e")):
            for q in (50, 95):
                pair = [percentile(_values(m, names, value), q) for m in self.metrics]
                rows.append([f"{label}, {'median' if q == 50 else 'p95'}", "s", *map(_finite, pair), True])
        summaries = [summarize(s.records, m) for s, m in zip(self.sides, self.metrics, strict=True)]
        for label, unit, key, less in (
            ("output", "tokens/s", "output_tokens_per_second", False),
            ("whole run", "s", "seconds", True),
            ("preemptions", "", "preemptions", True),
        ):
            rows.append([label, unit, *(_finite(s[key]) for s in summaries), less])
        return rows

    def _change(self, name: str, lives: tuple[Mapping[str, Life], Mapping[str, Life]]) -> Change:
        first, second = self.metrics[0][name], self.metrics[1][name]
        why = _why(lives[0][name], lives[1][name], first, second) if name in lives[0] else ""
        return Change(name, (first.ttft, second.ttft), (_e2e(first), _e2e(second)), why)

    def __repr__(self) -> str:
        return "\n".join([self._headline(), *self._notes(), text_table(*self._table())])

    def _repr_html_(self) -> str:
        notes = "".join(f"<div>{html.escape(note)}</div>" for note in self._notes())
        picture = dumbbells([(c.request_id, *c.e2e) for c in self._shown()], self.names)
        return f"<b>{html.escape(self._headline())}</b>{notes}{picture}{html_table(*self._table())}"

    def _ipython_display_(self, **_: Any) -> None:
        """The view, and under it the table that stays in a saved notebook."""
        self.show()._ipython_display_()

    def _headline(self) -> str:
        text = f"{self.names[1]} against {self.names[0]}: {len(self.gained)} requests gained, {len(self.lost)} lost"
        text += f", {len(self.same)} the same" if self.same else ""
        text += f", {len(self.missing)} ended in one of them only" if self.missing else ""
        pairs = [[c.e2e[i] for c in self.changes] for i in (0, 1)]
        if self.changes:
            text += f"; median end to end {time_cell(percentile(pairs[0], 50))} → "
            text += time_cell(percentile(pairs[1], 50))
        return text

    def _notes(self) -> list[str]:
        told = [f"{name}: {first} → {second}" for name, (first, second) in self.settings.items()]
        notes = [f"Settings that differ: {', '.join(told)}."] if told else []
        return notes + [_simulated(side) for side in self.sides if side.simulated]

    def _shown(self) -> list[Change]:
        shown = list(self.changes)
        return shown if len(shown) <= SHOWN else shown[: SHOWN // 2] + shown[-SHOWN // 2 :]

    def _table(self) -> tuple[list[str], list[list[str]]]:
        rows = [
            [
                c.request_id,
                f"{time_cell(c.ttft[0])} → {time_cell(c.ttft[1])}",
                f"{time_cell(c.e2e[0])} → {time_cell(c.e2e[1])}",
                f"{'+' * (c.gain > 0)}{time_text(c.gain)}",
                c.why,
            ]
            for c in self._shown()
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
    """ "120 ms less waiting for KV blocks, 3.10 ms more decoding; 2 preemptions fewer" """
    spent = seconds_by_cause(first), seconds_by_cause(second)
    causes = dict.fromkeys([*spent[0], *spent[1]])
    deltas = {cause: spent[1].get(cause, 0.0) - spent[0].get(cause, 0.0) for cause in causes}
    largest: Sequence[str] = sorted(deltas, key=lambda cause: -abs(deltas[cause]))[:2]
    total = sum(abs(delta) for delta in deltas.values())
    told = [
        f"{time_text(abs(deltas[cause]))} {'more' if deltas[cause] > 0 else 'less'} {cause}"
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


def _values(metrics: Mapping[str, SequenceMetrics], names: Iterable[str], field: str) -> list[float]:
    found = [getattr(metrics[name], field) for name in names]
    return [value for value in found if value is not None]


def _finite(value: float) -> float | None:
    return None if value != value else value


def _fit(error: FitError | None) -> dict[str, float] | None:
    return None if error is None else {"steps": error.num_steps, "median": error.median, "p95": error.p95}


def _simulated(side: Side) -> str:
    text = f"{side.name} is simulated"
    if side.fit_error is None:
        return text + "."
    e = side.fit_error
    return f"{text}; its cost model misses a recorded step by {e.median:.0%} in the median, {e.p95:.0%} at p95."
