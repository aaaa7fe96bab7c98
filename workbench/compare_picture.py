"""A dumbbell picture as SVG: each request's time in two runs, for notebooks that are looked at without a kernel."""

import html
from collections.abc import Sequence

ROW, LABEL, WIDTH, TOP = 18, 90, 640, 34
FIRST, SECOND = "#8b95a5", "#2b93d1"


def dumbbells(rows: Sequence[tuple[str, float, float]], names: tuple[str, str]) -> str:
    """rows: (request, seconds in the first run, in the second). "" for no rows."""
    if not rows:
        return ""
    longest = max(max(first, second) for _, first, second in rows) or 1.0
    height = TOP + ROW * len(rows) + 6

    def x(seconds: float) -> float:
        return round(LABEL + (WIDTH - LABEL - 20) * seconds / longest, 1)

    label = "End to end time of each request in both runs"
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
        f'font-family="sans-serif" font-size="11" role="img" aria-label="{label}">'
        f'<circle cx="{LABEL}" cy="12" r="4" fill="none" stroke="{FIRST}" stroke-width="2"/>'
        f'<text x="{LABEL + 9}" y="16" fill="{FIRST}">{html.escape(names[0])}</text>'
        f'<circle cx="{LABEL}" cy="26" r="4" fill="{SECOND}"/>'
        f'<text x="{LABEL + 9}" y="30" fill="{SECOND}">{html.escape(names[1])}, '
        f"end to end, up to {longest * 1e3:.1f} ms</text>"
    )
    parts = [head]
    for index, (name, first, second) in enumerate(rows):
        y = TOP + ROW * index + ROW // 2
        parts.append(
            f'<text x="{LABEL - 10}" y="{y + 4}" text-anchor="end" fill="{FIRST}">{html.escape(name)}</text>'
            f'<line x1="{x(first)}" y1="{y}" x2="{x(second)}" y2="{y}" stroke="{FIRST}" stroke-width="2"/>'
            f'<circle cx="{x(first)}" cy="{y}" r="4" fill="none" stroke="{FIRST}" stroke-width="2">'
            f"<title>{first * 1e3:.1f} ms</title></circle>"
            f'<circle cx="{x(second)}" cy="{y}" r="4" fill="{SECOND}"><title>{second * 1e3:.1f} ms</title></circle>'
        )
    return "".join([*parts, "</svg>"])
