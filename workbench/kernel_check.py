"""What the test bench found about a kernel, as a table and as a picture of where it differs."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, overload

from workbench.chart_style import CHART_STYLE
from workbench.tables import html_table, text_table, time_cell

if TYPE_CHECKING:
    from plotly.graph_objects import Figure  # type: ignore[import-untyped]

    from workbench_kernels.check import CaseResult, Timing

_HEADER = ("case", "largest difference", "allowed", "your kernel", "reference", "what is wrong")
_RIGHT, _WRONG = "#3b6fc4", "#c8501e"


class KernelCheck(Sequence["CaseResult"]):
    """One CaseResult a batch; `ok` says whether all are right. timing: beside the engine's own, where it was measured.

    Differences are relative to the largest value of the reference. `figure()` shows where they are.
    """

    def __init__(self, name: str, results: Sequence["CaseResult"], timing: "Timing | None" = None) -> None:
        self.name = name
        self.timing = timing
        self._results = tuple(results)

    @overload
    def __getitem__(self, index: int) -> "CaseResult": ...
    @overload
    def __getitem__(self, index: slice) -> "tuple[CaseResult, ...]": ...
    def __getitem__(self, index: int | slice) -> "CaseResult | tuple[CaseResult, ...]":
        return self._results[index]

    def __len__(self) -> int:
        return len(self._results)

    @property
    def wrong(self) -> "tuple[CaseResult, ...]":
        """The cases in which something is wrong."""
        return tuple(result for result in self if result.problem)

    @property
    def ok(self) -> bool:
        """True if nothing is."""
        return not self.wrong

    @property
    def summary(self) -> str:
        """The verdict in a sentence, with the first place that differs."""
        if self.ok:
            return f"{self.name} agrees with the reference in all {len(self)} cases."
        first = self.wrong[0]
        return f"{self.name} is wrong in {len(self.wrong)} of {len(self)} cases. In “{first.name}”: {first.problem}."

    def _foot(self) -> str:
        if self.timing is None:
            return ""
        times = ", ".join(f"{name} {time_cell(seconds)}" for name, seconds in self.timing.seconds.items())
        return f"{self.timing.what}: {times}."

    def _lines(self) -> list[tuple[str, ...]]:
        return [
            (
                result.name,
                "–" if result.error != result.error else f"{result.error:.1e}",
                f"{result.allowed:.1e}",
                time_cell(result.seconds),
                time_cell(result.reference_seconds),
                result.problem or "nothing",
            )
            for result in self
        ]

    def __repr__(self) -> str:
        return "\n".join(filter(None, [self.summary, text_table(_HEADER, self._lines()), self._foot()]))

    def _repr_html_(self) -> str:
        return f"<p>{self.summary}</p>{html_table(_HEADER, self._lines())}<p>{self._foot()}</p>"

    def figure(self, case: str | None = None) -> "Figure":
        """One batch token by token and head by head: how far off each is. Default: the largest that is wrong, if any.

        A square within the tolerance is pale; the colours are powers of ten above it. Raises KeyError for another name.
        """
        # plotly takes a third of a second to import, and only charts need it.
        from plotly.graph_objects import Figure, Heatmap

        found = {result.name: result for result in self}
        result = found[case] if case is not None else max(self.wrong or self, key=lambda each: len(each.places))
        # NaN, and what is off by more than everything there is, are drawn as the largest.
        times = [
            [min(error / result.allowed, 1e6) if error == error else 1e6 for error in row] for row in result.errors
        ]
        levels = [[_level(x) for x in row] for row in times]
        rows = [f"request {p.request}, position {p.position}" for p in result.places]
        words = [[f"off by {e:.1e} of the largest value" for e in row] for row in result.errors]
        figure: Figure = Figure(
            Heatmap(
                z=levels,
                customdata=words,
                zmin=0,
                zmax=6,
                colorscale=[(0, "rgba(120, 140, 175, 0.25)"), (0.01, "#f0b78c"), (1, "#b5380f")],
                colorbar={
                    "title": {"text": "times the tolerance", "side": "right"},
                    "tickvals": [0, 2, 4, 6],
                    "ticktext": ["within", "100", "10,000", "a million or NaN"],
                    "thickness": 14,
                },
                xgap=1,
                ygap=1,
                hovertemplate="%{y}<br>head %{x}<br>%{customdata}<extra></extra>",
            )
        )
        ticks = range(0, len(rows), max(1, len(rows) // 12))
        figure.update_xaxes(title_text="query head", dtick=1, showgrid=False)
        figure.update_yaxes(
            autorange="reversed", showgrid=False, tickvals=list(ticks), ticktext=[rows[i] for i in ticks]
        )
        off = [str(head) for head, column in enumerate(zip(*levels, strict=True)) if any(column)]
        where = "every head" if len(off) == len(levels[0]) else f"heads {', '.join(off)}"
        verdict = f"{sum(map(any, levels))} of {len(rows)} tokens differ, in {where}"
        verdict = verdict if off else result.problem or "nothing differs"
        height = max(340, min(560, 160 + 22 * len(rows)))
        figure.update_layout(template=CHART_STYLE, title_text=f"{result.name}: {verdict}", height=height)
        return figure


def _level(times: float) -> float:
    """0 within the tolerance, else the power of ten above it, at least a little."""
    if times <= 1.0:
        return 0.0
    return max(0.1, len(str(int(times))) - 1.0)
