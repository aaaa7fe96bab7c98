"""A small line chart as SVG, for the model card; standard library only."""

from __future__ import annotations

import math

WIDTH, HEIGHT = 640, 300
LEFT, RIGHT, TOP, BOTTOM = 52, 20, 14, 44
# No ground of its own: ink and lines can be seen on a light and on a dark page.
INK, GRID = "#757b84", 'stroke="#808894" stroke-opacity="0.35"'
# Told apart by colour-blind readers.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")


def line_chart(lines: dict[str, list[tuple[float, float]]], x_label: str, y_label: str) -> str:
    """Named lines of (x, y) points on common linear axes; x starts at 0, y at the half below the least value."""
    points = [point for line in lines.values() for point in line]
    x_top = max(x for x, _ in points)
    y_low = math.floor(min(y for _, y in points) * 2) / 2
    y_top = math.ceil(max(y for _, y in points) * 2) / 2

    def place(x: float, y: float) -> tuple[float, float]:
        across = LEFT + x / x_top * (WIDTH - LEFT - RIGHT)
        down = TOP + (y_top - y) / (y_top - y_low) * (HEIGHT - TOP - BOTTOM)
        return round(across, 1), round(down, 1)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}">',
        f'<g font-family="sans-serif" font-size="12" fill="{INK}">',
    ]
    for step in range(round((y_top - y_low) * 2) + 1):
        value = y_low + step / 2
        x, y = place(0, value)
        end, _ = place(x_top, value)
        parts.append(f'<line x1="{x}" y1="{y}" x2="{end}" y2="{y}" {GRID}/>')
        parts.append(f'<text x="{x - 6}" y="{y + 4}" text-anchor="end">{value:g}</text>')
    for value in range(math.floor(x_top) + 1):
        x, y = place(value, y_low)
        parts.append(f'<text x="{x}" y="{y + 16}" text-anchor="middle">{value}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">{x_label}</text>')
    turned = (TOP + HEIGHT - BOTTOM) / 2
    parts.append(f'<text transform="translate(14 {turned}) rotate(-90)" text-anchor="middle">{y_label}</text>')
    for row, (colour, (name, line)) in enumerate(zip(COLOURS, lines.items(), strict=False)):
        path = " ".join(f"{x},{y}" for x, y in (place(*point) for point in line))
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        # The names stand in the corner that falling curves leave free.
        right, down = WIDTH - RIGHT, TOP + 16 + 18 * row
        parts.append(
            f'<line x1="{right - 24}" y1="{down}" x2="{right}" y2="{down}" stroke="{colour}" stroke-width="3"/>'
        )
        parts.append(f'<text x="{right - 30}" y="{down + 4}" text-anchor="end">{name}</text>')
    return "\n".join([*parts, "</g>", "</svg>", ""])
