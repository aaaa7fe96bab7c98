"""One look for plotly figures that stands on a light and on a dark page alike: a figure does not know its page.

figure.update_layout(template=CHART_STYLE)
"""

from typing import Any

INK = "#757b84"  # read on white and on black with a contrast above 4
FAINT = "rgba(128, 136, 148, 0.25)"

_AXIS = {"gridcolor": FAINT, "zerolinecolor": FAINT, "linecolor": INK, "tickcolor": INK, "automargin": True}
_AXIS |= {"exponentformat": "none", "separatethousands": True}

CHART_STYLE: dict[str, Any] = {
    "layout": {
        "paper_bgcolor": "rgba(0, 0, 0, 0)",
        "plot_bgcolor": "rgba(0, 0, 0, 0)",
        "font": {"color": INK},
        "title": {"font": {"size": 15}},
        "margin": {"t": 48, "b": 48, "l": 60, "r": 24},
        # In the spirit of Okabe and Ito, as requests are coloured in the views.
        "colorway": ["#2b93d1", "#d98a00", "#00936a", "#c2578f", "#7b4fd6", "#d2501a"],
        "xaxis": _AXIS,
        "yaxis": _AXIS,
        "shapedefaults": {"line": {"color": INK}},
    }
}
