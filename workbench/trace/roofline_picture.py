"""The roofline of one step as a still drawing: what the live kernels view shows, for a saved notebook.

The roofline is Williams, Waterman and Patterson's (2009): rings for the most that each part could do, a dot for what
the recorded forward did.
"""

import html
import math
from collections.abc import Callable
from typing import NamedTuple

from workbench.core.machine import MachineLimits
from workbench.core.records import StepRecord
from workbench.core.units import size_text
from workbench.core.work import ATTENTION, HEAD, MATRICES, Work, WorkSizes, least_seconds, step_work, whole_of

WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 680, 216, 64, 26, 28
_COLOURS = {MATRICES: "#2b93d1", HEAD: "#00936a", ATTENTION: "#d98a00", "forward": "#8a5bb5"}
_RADIUS = {MATRICES: 8.0, HEAD: 5.5, ATTENTION: 3.0}  # parts of one intensity lie on each other
_INK, _PALE, _LINE = "#15181d", "#5b6470", "#e3e7ec"


class Machine(NamedTuple):
    """What a step's record is compared with: the model's sizes, and the machine's limits once they were measured."""

    sizes: WorkSizes
    limits: MachineLimits | None


def parts_of(record: StepRecord, machine: Machine) -> dict[str, Work]:
    """The work of each part and of the whole forward; nothing for a step in which nobody computed."""
    if not record.num_scheduled_tokens:
        return {}
    work = step_work(record, machine.sizes)
    return {**work, "forward": whole_of(work.values())}


def roofline_facts(record: StepRecord, machine: Machine) -> list[tuple[str, str]]:
    """A line for each part: what it reads and computes, and the least that takes."""
    facts = []
    for name, work in parts_of(record, machine).items():
        text = f"reads {size_text(work.bytes)}, computes {work.flops / 1e6:.1f} MFLOP"
        if machine.limits is not None:
            least, bound = least_seconds(work, machine.limits)
            text += f", at least {least * 1e3:.2f} ms, bound by {bound}"
            if name == "forward" and record.times.forward:
                text += f"; took {record.times.forward * 1e3:.2f} ms, {least / record.times.forward:.0%} of the limit"
        facts.append((name, text))
    if facts and machine.limits is not None:
        facts.append(("machine", str(machine.limits)))
    return facts


def draw_roofline(record: StepRecord, machine: Machine) -> tuple[float, str]:
    """Height and shapes; nothing where nobody computed or the machine was not measured."""
    parts = {name: work for name, work in parts_of(record, machine).items() if work.bytes and work.flops}
    limits = machine.limits
    if not parts or limits is None:
        return 0.0, ""
    ridge = limits.matmul_peak / limits.copy_bandwidth
    at = {name: work.flops / work.bytes for name, work in parts.items()}
    done = parts["forward"].flops / record.times.forward if record.times.forward else 0.0

    def roof(intensity: float) -> float:
        return min(limits.matmul_peak, intensity * limits.copy_bandwidth)

    x = _scale(min(0.2, *at.values()) / 2, max(6 * ridge, *at.values()) * 1.6, LEFT, WIDTH)
    lowest = min(roof(x.low), done or math.inf) / 1.5
    y = _scale(lowest, 2 * max(limits.matmul_peak, done), HEIGHT - BOTTOM, TOP)
    shapes = [_text(0, 12, f"Roofline of step {record.step:,}: GFLOP/s by FLOP for each byte read", _INK)]
    for power in y.powers():
        shapes += [_line(LEFT, y(power), WIDTH, y(power)), _text(LEFT - 6, y(power) + 4, f"{power / 1e9:g}", end=True)]
    for power in x.powers():
        shapes += [_line(x(power), TOP, x(power), HEIGHT - BOTTOM), _text(x(power) - 6, HEIGHT - 12, f"{power:g}")]
    corners = [(x.low, roof(x.low)), (ridge, limits.matmul_peak), (x.high, limits.matmul_peak)]
    points = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in corners)
    shapes.append(f'<polyline points="{points}" fill="none" stroke="{_PALE}" stroke-width="2"/>')
    for index, (name, colour) in enumerate(_COLOURS.items()):
        key = 24 + 22 * index
        shapes.append(_circle(WIDTH + 30, key - 4, 5, colour, filled=name == "forward"))
        shapes.append(_text(WIDTH + 44, key, f"{name}{', as recorded' if name == 'forward' else ', at most'}", _INK))
        if name in parts and (name != "forward" or done):
            value, radius = (done, 5.5) if name == "forward" else (roof(at[name]), _RADIUS[name])
            shapes.append(_circle(x(at[name]), y(value), radius, colour, filled=name == "forward"))
    return HEIGHT, "".join(shapes)


class _Scale(NamedTuple):
    """low .. high to first .. last, logarithmically."""

    low: float
    high: float
    place: Callable[[float], float]

    def __call__(self, value: float) -> float:
        return self.place(value)

    def powers(self) -> list[float]:
        """The powers of ten between."""
        first, last = math.ceil(math.log10(self.low)), math.floor(math.log10(self.high))
        return [10.0**exponent for exponent in range(first, last + 1)]


def _scale(low: float, high: float, first: float, last: float) -> _Scale:
    return _Scale(low, high, lambda value: first + (last - first) * math.log(value / low) / math.log(high / low))


def _line(x0: float, y0: float, x1: float, y1: float) -> str:
    return f'<path d="M{x0:.1f} {y0:.1f}L{x1:.1f} {y1:.1f}" stroke="{_LINE}"/>'


def _circle(x: float, y: float, radius: float, colour: str, filled: bool) -> str:
    fill = colour if filled else "none"
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{fill}" stroke="{colour}" stroke-width="2"/>'


def _text(x: float, y: float, text: str, fill: str = _PALE, end: bool = False) -> str:
    anchor = ' text-anchor="end"' if end else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{fill}"{anchor}>{html.escape(text)}</text>'
