"""The latencies of a run as a plotly figure: the same bins, percentiles and goodput as in the live view."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from workbench.chart_style import CHART_STYLE, INK
from workbench.core.records import StepRecord
from workbench.trace.metrics import PERCENTILES, Slo, goodput, histogram, measure, percentile

if TYPE_CHECKING:
    from plotly.graph_objects import Figure  # type: ignore[import-untyped]

BINS = 40
SAMPLES = {"ttft": "request", "itl": "gap", "e2e": "request"}
NAMES = {"ttft": "Time to first token", "itl": "Time between tokens", "e2e": "Arrival to end"}
COLOURS = {"ttft": "#5b82e0", "itl": "#00936a", "e2e": "#b5497f"}
DASHES = {50: "solid", 95: "dash", 99: "dot"}


def latency_figure(records: Sequence[StepRecord], slo: Slo) -> "Figure":
    """One histogram a latency, in ms, with its percentiles and, where there is one, its limit in red."""
    # plotly takes a third of a second to import, and only charts need it.
    from plotly.graph_objects import Bar, Figure
    from plotly.subplots import make_subplots  # type: ignore[import-untyped]

    measured = measure(records)
    samples = {
        "ttft": [m.ttft for m in measured.values() if m.ttft is not None],
        "itl": [gap for m in measured.values() for gap in m.itl],
        "e2e": [m.e2e for m in measured.values() if m.e2e is not None],
    }
    titles = [
        f"{NAMES[name]}<br>{len(values):,} {SAMPLES[name]}{'' if len(values) == 1 else 's'}"
        for name, values in samples.items()
    ]
    figure: Figure = make_subplots(rows=1, cols=3, subplot_titles=titles)
    for column, (name, values) in enumerate(samples.items(), start=1):
        edge, bins = histogram(values, BINS)
        width = edge * 1e3 / BINS
        bar = Bar(
            x=[(i + 0.5) * width for i in range(BINS)], y=bins, width=width, marker_color=COLOURS[name], name=name
        )
        figure.add_trace(bar, row=1, col=column)
        figure.update_xaxes(title_text="ms", row=1, col=column)
        few = {"dtick": 1} if max(bins) < 6 else {}
        figure.update_yaxes(title_text=f"{SAMPLES[name]}s", row=1, col=column, **few)
        if not values:
            continue
        marks = [
            (percentile(values, q) * 1e3, DASHES[q], INK, f"p{q} {percentile(values, q) * 1e3:.2f} ms")
            for q in PERCENTILES
        ]
        limit = getattr(slo, name)
        if limit is not None:
            marks.append((limit * 1e3, "solid", "#d2421f", "limit"))
        # One under the other: where percentiles are near, words in one line would be written over each other.
        for line, (value, dash, colour, text) in enumerate(marks):
            right = value > edge * 1e3 * 0.6
            figure.add_vline(
                x=value,
                line={"dash": dash, "color": colour},
                annotation={
                    "text": text,
                    "y": 0.99 - 0.09 * line,
                    "xanchor": "right" if right else "left",
                    "xshift": -3 if right else 3,
                    "yanchor": "top",
                    "font": {"color": colour},
                },
                row=1,
                col=column,
            )
    figure.update_layout(template=CHART_STYLE, showlegend=False, bargap=0, height=380, margin_t=96)
    if slo != Slo():
        found = goodput(records, slo, measured)
        share = f" ({found.share:.0%})" if found.ended else ""
        told = f"{found.met:,} of {found.ended:,} requests kept the limits{share}: {found.per_second:.2f} requests/s"
        figure.update_layout(title_text=told)
    return figure
