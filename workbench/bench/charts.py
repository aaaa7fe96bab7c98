"""The curves as plotly pages."""

from collections.abc import Sequence
from typing import Any

from plotly.graph_objects import Figure, Scatter  # type: ignore[import-untyped]
from plotly.subplots import make_subplots  # type: ignore[import-untyped]

BLUE, ORANGE = "#3b6fc4", "#c8501e"


def throughput_latency(rows: Sequence[dict[str, Any]]) -> Figure:
    """Throughput against the time between tokens and to the first one, a point for each number of requests."""
    figure: Figure = make_subplots(rows=1, cols=2, subplot_titles=("Time between tokens", "Time to first token"))
    for column, name in enumerate(("ITL", "TTFT"), start=1):
        for q, colour in ((50, BLUE), (99, ORANGE)):
            figure.add_trace(
                Scatter(
                    x=[row["tokens/s"] for row in rows],
                    y=[row[f"{name} p{q} ms"] for row in rows],
                    text=[f"{row['running']} running" for row in rows],
                    mode="lines+markers",
                    line={"color": colour},
                    name=f"p{q}",
                    showlegend=column == 1,
                ),
                row=1,
                col=column,
            )
        figure.update_xaxes(title_text="tokens/s", row=1, col=column)
        figure.update_yaxes(title_text="ms", type="log", row=1, col=column)
    return figure


def curve(rows: Sequence[dict[str, Any]], x: str, y: str) -> Figure:
    """One figure against another, both logarithmic."""
    figure: Figure = Figure(
        Scatter(x=[row[x] for row in rows], y=[row[y] for row in rows], mode="lines+markers", line={"color": BLUE})
    )
    figure.update_xaxes(title_text=x, type="log")
    figure.update_yaxes(title_text=y, type="log")
    return figure
