"""How close a step came to what the machine can do: bytes, operations and time by part, beside the measured limits.

The roofline (Williams, Waterman and Patterson, 2009): a part that does I operations for each byte it reads can do no
more than the smaller of the matmul peak and I times the bandwidth.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from workbench.chart_style import CHART_STYLE
from workbench.core.config import ModelSpec
from workbench.core.machine import MachineLimits
from workbench.core.records import StepRecord
from workbench.core.weights import WeightRow
from workbench.core.work import (
    ATTENTION,
    HEAD,
    MATRICES,
    Work,
    WorkSizes,
    batch_of,
    least_seconds,
    step_work,
    whole_of,
    work_sizes,
)
from workbench.tables import html_table, text_table, time_cell

if TYPE_CHECKING:
    from plotly.graph_objects import Figure  # type: ignore[import-untyped]

_HEADER = ("part", "MiB read", "MFLOP", "measured", "at the limit", "reached", "bound by")
_COLOURS = {MATRICES: "#3b6fc4", HEAD: "#00936a", ATTENTION: "#c8501e", "forward": "#8a5bb5"}

# Parts have similar intensities: their labels take different sides.
_SIDES = {HEAD: "bottom right", MATRICES: "top right", "forward": "middle left", ATTENTION: "bottom center"}


class Part(NamedTuple):
    """One part of a step: its work (None where only time is known), its seconds, and the least they could be."""

    name: str
    work: Work | None
    seconds: float
    limit_seconds: float | None
    bound: str

    @property
    def reached(self) -> float | None:
        """The share of the limit that was reached; above 1 where weights came from a cache and not from memory."""
        return None if self.limit_seconds is None or not self.seconds else self.limit_seconds / self.seconds


@dataclass(frozen=True, slots=True)
class Roofline:
    """One recorded step. parts: of its forward, timed on a batch of the same shape; split: the record's own times.

    Prints as a table; `figure()` draws it.
    """

    step: int
    num_tokens: int
    num_requests: int
    limits: MachineLimits
    parts: tuple[Part, ...]
    split: Mapping[str, float]

    @property
    def forward_seconds(self) -> float:
        """The recorded forward."""
        return self.split["forward"]

    @property
    def overhead(self) -> float:
        """Share of the recorded step that is not the forward."""
        whole = sum(self.split.values())
        return 0.0 if not whole else 1 - self.forward_seconds / whole

    def __getitem__(self, name: str) -> Part:
        return {part.name: part for part in self.parts}[name]

    def _lines(self) -> list[tuple[str, ...]]:
        lines = []
        for part in self.parts:
            reached, work = part.reached, part.work
            lines.append(
                (
                    part.name,
                    "" if work is None else f"{work.bytes / 2**20:,.2f}",
                    "" if work is None else f"{work.flops / 1e6:,.2f}",
                    time_cell(part.seconds),
                    "" if part.limit_seconds is None else time_cell(part.limit_seconds),
                    "" if reached is None else f"{reached:.0%}",
                    part.bound,
                )
            )
        return lines

    def _about(self) -> str:
        return f"step {self.step}: {self.num_tokens} tokens of {self.num_requests} requests on {self.limits}"

    def _foot(self) -> str:
        times = ", ".join(f"{name} {time_cell(seconds)}" for name, seconds in self.split.items())
        more = any((part.reached or 0) > 1 and part.bound == "memory" for part in self.parts)
        note = " More than 100%: what is read came from a cache, which is faster than memory." if more else ""
        return f"recorded: {times}; {self.overhead:.0%} of the step is not the forward.{note}"

    def __repr__(self) -> str:
        return "\n".join([self._about(), text_table(_HEADER, self._lines()), self._foot()])

    def _repr_html_(self) -> str:
        return f"<p>{self._about()}</p>{html_table(_HEADER, self._lines())}<p>{self._foot()}</p>"

    def figure(self) -> "Figure":
        """Left the roofline with a point for each part, right the recorded step and its forward by part."""
        # plotly takes a third of a second to import, and only charts need it.
        from plotly.graph_objects import Bar, Figure, Scatter
        from plotly.subplots import make_subplots  # type: ignore[import-untyped]

        limits = self.limits
        known = [(part, part.work) for part in self.parts if part.work is not None and part.seconds]
        ridge = limits.matmul_peak / limits.copy_bandwidth
        intensities = [work.flops / work.bytes for _, work in known if work.bytes]
        low, high = min([0.1, *intensities]) / 2, max([10 * ridge, *intensities]) * 2
        figure: Figure = make_subplots(
            rows=1, cols=2, column_widths=[0.6, 0.4], subplot_titles=("What the machine allows", "Where the time went")
        )
        roof = [low * limits.copy_bandwidth, limits.matmul_peak, limits.matmul_peak]
        figure.add_trace(
            Scatter(
                x=[low, ridge, high],
                y=[y / 1e9 for y in roof],
                mode="lines",
                line={"color": "#7a7a7a", "width": 2},
                name="limit",
                hoverinfo="skip",
            ),
            row=1,
            col=1,
        )
        for part, work in known:
            figure.add_trace(
                Scatter(
                    x=[work.flops / work.bytes],
                    y=[work.flops / part.seconds / 1e9],
                    mode="markers+text",
                    text=[part.name],
                    textposition=_SIDES[part.name],
                    marker={"size": 13, "color": _COLOURS[part.name]},
                    hovertemplate=f"{part.name}<br>%{{x:.2f}} FLOP a byte<br>%{{y:.2f}} GFLOP/s<br>"
                    f"{part.reached or 0:.0%} of the limit<extra></extra>",
                ),
                row=1,
                col=1,
            )
        figure.update_xaxes(type="log", title_text="FLOP for each byte read", row=1, col=1)
        figure.update_yaxes(type="log", title_text="GFLOP/s", row=1, col=1)
        timed = [part for part in self.parts if part.name != "forward"]
        whole = sum(part.seconds for part in timed) or 1.0
        for part in timed:  # the recorded forward, in the proportions that were timed
            figure.add_trace(
                Bar(
                    x=[self.forward_seconds * part.seconds / whole * 1e3],
                    y=["forward by part"],
                    orientation="h",
                    marker_color=_COLOURS.get(part.name, "#9aa3ad" if part.name == "rest" else "#d3a41f"),
                    text=part.name,
                    textposition="inside",
                    insidetextanchor="middle",
                    hovertemplate=f"{part.name} %{{x:.3f}} ms<extra></extra>",
                ),
                row=1,
                col=2,
            )
        shades = ("#b0b7bf", "#d9c58a", _COLOURS["forward"], "#7fb8a4", "#c9a0b8")
        for (name, seconds), shade in zip(self.split.items(), shades, strict=True):
            figure.add_trace(
                Bar(
                    x=[seconds * 1e3],
                    y=["recorded step"],
                    orientation="h",
                    marker_color=shade,
                    text=name,
                    textposition="inside",
                    insidetextanchor="middle",
                    hovertemplate=f"{name} %{{x:.3f}} ms<extra></extra>",
                ),
                row=1,
                col=2,
            )
        figure.update_xaxes(title_text="ms", row=1, col=2)
        figure.update_layout(
            template=CHART_STYLE,
            barmode="stack",
            showlegend=False,
            height=420,
            margin_t=96,
            uniformtext={"mode": "hide", "minsize": 9},
            title_text=self._about(),
        )
        return figure


def seconds_at_the_limit(records: Iterable[StepRecord], sizes: WorkSizes, limits: MachineLimits) -> float:
    """The least that the forwards of these steps could take together, each bound by what it reads or by what it
    computes."""
    works = (whole_of(step_work(record, sizes).values()) for record in records if record.num_scheduled_tokens)
    return sum(least_seconds(work, limits)[0] for work in works)


def make_roofline(
    record: StepRecord,
    spec: ModelSpec,
    weights: Sequence[WeightRow],
    seconds: Mapping[str, float],
    limits: MachineLimits,
) -> Roofline:
    """Put a record's work beside the seconds that its parts take and the machine's limits."""
    work = step_work(record, work_sizes(spec, weights))
    parts = [_part(name, work.get(name), taken, limits) for name, taken in seconds.items()]
    parts.append(_part("forward", whole_of(work.values()), record.times.forward, limits))
    batch = batch_of(record)
    return Roofline(record.step, sum(new for new, _ in batch), len(batch), limits, tuple(parts), record.times._asdict())


def _part(name: str, work: Work | None, seconds: float, limits: MachineLimits) -> Part:
    if work is None:
        return Part(name, None, seconds, None, "")
    return Part(name, work, seconds, *least_seconds(work, limits))
