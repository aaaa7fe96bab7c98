"""KL divergence along a text as an SVG that fits light and dark pages."""

import math

import numpy as np

WIDTH, HEIGHT = 720, 190
LEFT, RIGHT, TOP, BOTTOM = 56, 12, 26, 34
BINS = 160
FLOOR = 1e-6  # nats; nothing below is worth telling apart


def divergence_picture(kld: np.ndarray) -> str:
    """Bars from the median to the largest KLD of each part of the text, on a log scale, and the percentiles beside."""
    count = len(kld)
    bins = np.array_split(np.maximum(kld, FLOOR), min(BINS, count))
    top = max(float(kld.max()), 10 * FLOOR)
    high = math.ceil(math.log10(top))
    low = min(math.floor(math.log10(min(float(np.median(part)) for part in bins))), high - 2)
    inner_w, inner_h = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def y(value: float) -> float:
        return TOP + inner_h * (high - max(math.log10(max(value, FLOOR)), low)) / (high - low)

    step = inner_w / len(bins)
    parts = []
    for power in range(low, high + 1):
        parts.append(
            f"<line x1='{LEFT}' x2='{WIDTH - RIGHT}' y1='{y(10.0**power):.1f}' y2='{y(10.0**power):.1f}' "
            "stroke='currentColor' stroke-opacity='.15'/>"
        )
        if (high - power) % 2 == 0 or high - low < 5:
            parts.append(f"<text x='{LEFT - 6}' y='{y(10.0**power) + 4:.1f}' text-anchor='end'>{10.0**power:g}</text>")
    for index, part in enumerate(bins):
        x, middle, largest = LEFT + index * step, float(np.median(part)), float(part.max())
        first, last = sum(map(len, bins[:index])), sum(map(len, bins[: index + 1])) - 1
        parts.append(
            f"<g><title>tokens {first} to {last}: median {middle:.2g}, largest {largest:.2g} nats</title>"
            f"<rect x='{x:.2f}' y='{y(largest):.1f}' width='{max(step - 0.6, 0.6):.2f}' "
            f"height='{max(y(middle) - y(largest), 1):.1f}' fill='#56b4e9' fill-opacity='.5'/>"
            f"<rect x='{x:.2f}' y='{y(middle) - 1.5:.1f}' width='{max(step - 0.6, 0.6):.2f}' height='3' "
            "fill='#2b8cc4'/></g>"
        )
    mean = float(kld.mean())
    parts.append(
        f"<line x1='{LEFT}' x2='{WIDTH - RIGHT}' y1='{y(mean):.1f}' y2='{y(mean):.1f}' stroke='#d55e00' "
        "stroke-width='1.5' stroke-dasharray='6 4'/>"
        f"<text x='{LEFT}' y='14'>KL divergence from the base, nats (log scale): each bar from median to largest; "
        f"dashed: mean {mean:.2g}</text>"
        f"<text x='{LEFT}' y='{HEIGHT - 10}'>scored token 1</text>"
        f"<text x='{WIDTH - RIGHT}' y='{HEIGHT - 10}' text-anchor='end'>{count:,}</text>"
    )
    return (
        f"<svg viewBox='0 0 {WIDTH} {HEIGHT}' width='100%' style='max-width:{WIDTH}px;font:12px sans-serif' "
        f"fill='currentColor' role='img' aria-label='KL divergence along the text: mean {mean:.2g}, largest "
        f"{float(kld.max()):.2g} nats'>{''.join(parts)}</svg>"
    )
