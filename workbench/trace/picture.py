"""A still picture of a run, made from its records: what a saved notebook shows where no view can be alive."""

import base64
import html
import math
import re
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from workbench.core.records import Snapshot, StepRecord
from workbench.core.scheduler_output import Action
from workbench.trace.metrics import PERCENTILES, histogram, measure, percentile
from workbench.trace.picture_tables import TABLES, Table
from workbench.trace.roofline_picture import Machine, draw_roofline, roofline_facts
from workbench.trace.trace import Trace

WIDTH = 920
MAX_STEPS = 240  # newest steps in the timeline
MAX_ROWS = 14  # requests in the timeline
MAX_CELLS = 1_500  # squares in the block map; more blocks share one
BARS = 40
LABEL = 90  # pixels left of the timeline for names

# In the spirit of Okabe and Ito: told apart by colour-blind eyes, on white.
HUES = ("#2b93d1", "#d98a00", "#00936a", "#c2578f", "#ad9a00", "#d2501a", "#3a5bd9", "#3f9f93", "#8a6237", "#7b4fd6")
CACHED, FREE, INK, PALE = "#c9d3ea", "#edf0f4", "#15181d", "#5b6470"

_TEXT = 'font-family="system-ui, sans-serif" font-size="12"'

# The parts of each view's picture.
PARTS = {
    "dashboard": ("blocks", "timeline", "latency"),
    "blocks": ("blocks",),
    "timeline": ("timeline",),
    "requests": ("timeline",),
    "latency": ("latency",),
    "traffic": ("traffic",),
}


@dataclass(frozen=True, slots=True)
class Picture:
    """svg: the drawing, "" for views that are numbers alone. facts: names and values, with units, equal to the
    engine's after `step`. table: what is told of each request, a header first; () for views that tell nothing of one.
    """

    title: str
    step: int
    svg: str
    facts: tuple[tuple[str, str], ...]
    table: Table = ()

    def to_html(self, more: str = "") -> str:
        """A figure that needs no script and no network, and that sanitizers let through; more: HTML above the facts."""
        e = html.escape
        left, right = ('style="text-align:left;font-weight:500"', 'style="text-align:right"')
        cells = "".join(f"<tr><th {left}>{e(name)}</th><td {right}>{e(value)}</td></tr>" for name, value in self.facts)
        image = ""
        if self.svg:
            source = base64.b64encode(self.svg.encode()).decode("ascii")
            image = (
                f'<img alt="{e(self.title)}: drawing of the state and the newest steps" style="max-width:100%" '
                f'src="data:image/svg+xml;base64,{source}">'
            )
        told = "".join(
            "<tr>" + "".join(f"<{tag} {left}>{e(cell)}</{tag}>" for cell in row) + "</tr>"
            for tag, row in zip(["th"] + ["td"] * len(self.table), self.table, strict=False)
        )
        requests = f"<table>{told}</table>" if told else ""
        return f"<figure><figcaption>{e(self.title)}</figcaption>{image}{requests}{more}<table>{cells}</table></figure>"


def picture(trace: Trace, view: str = "dashboard", machine: Machine | None = None) -> Picture:
    """Draw a trace's newest state and what led to it. `view` as for LLM.view; machine: for the view of kernels."""
    records = trace.records()
    state = trace.at(records[-1].step if records else None)
    drawable = {"blocks": True, "traffic": any(record.arrivals for record in records)}
    parts = [p for p in PARTS.get(view, ()) if drawable.get(p, bool(records))]
    top, drawn = 8.0, []
    for part in parts:
        height, inner = _DRAW[part](state, records)
        drawn.append(f'<g transform="translate(12 {top:.0f})">{inner}</g>')
        top += height + 14
    computed = next((record for record in reversed(records) if record.num_scheduled_tokens), None)
    if view == "kernels" and computed is not None and machine is not None:
        height, inner = draw_roofline(computed, machine)
        if inner:
            drawn.append(f'<g transform="translate(12 {top:.0f})">{inner}</g>')
            top += height + 14
    svg = ""
    if drawn:
        svg = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH + 24} {top:.0f}" width="{WIDTH + 24}" '
            f'height="{top:.0f}" {_TEXT}><rect width="100%" height="100%" rx="8" fill="#fff" stroke="#d5dae1"/>'
            f"{''.join(drawn)}</svg>"
        )
    title = f"{trace.info.get('model', 'engine')}, {view.replace('_', ' ')}: state after step {state.step}"
    facts = _facts(trace, state, records)
    if view == "traffic":
        facts.insert(2, ("arrived", _arrived(records)))
    if view == "kernels" and records:
        last = computed or records[-1]
        split = ", ".join(f"{name} {seconds * 1e3:.2f} ms" for name, seconds in last.times._asdict().items())
        count = last.num_scheduled_tokens
        told = f"{count:,} token{'s' * (count != 1)} in {last.duration * 1e3:.2f} ms: {split}"
        facts.insert(0, (f"step {last.step:,}", told))
        if machine is not None:
            facts[1:1] = roofline_facts(last, machine)
    if view == "what_if":
        facts.insert(0, ("asked", "nothing yet; in a cell: compare(trace, simulate(trace, max_num_seqs=4))"))
    table = TABLES[view](trace, state, records) if view in TABLES else ()
    return Picture(title, state.step, svg, tuple(facts), table)


def _facts(trace: Trace, state: Snapshot, records: Sequence[StepRecord]) -> list[tuple[str, str]]:
    measured = measure(records).values()
    cached = sum(1 for block in state.free_blocks if state.block_hashes[block])
    free = len(state.free_blocks)
    ttft = [m.ttft for m in measured if m.ttft is not None]
    itl = [gap for m in measured for gap in m.itl]
    ended = sum(len(record.finished) for record in records)
    used = state.num_blocks - free
    facts = [
        ("steps held", f"{len(records):,} ({trace.num_dropped:,} older ones dropped)"),
        ("requests", f"{len(state.running):,} running, {len(state.waiting):,} waiting, {ended:,} ended"),
        ("tokens sampled", f"{sum(len(record.sampled) for record in records):,}"),
        ("KV blocks", f"{used:,} used, {cached:,} cached, {free - cached:,} free of {state.num_blocks:,}"),
    ]
    for name, values in (("time to first token", ttft), ("time between tokens", itl)):
        if values:
            shown = ", ".join(f"p{q} {percentile(values, q) * 1e3:.2f} ms" for q in PERCENTILES)
            facts.append((name, f"{shown} ({len(values):,} samples)"))
    return facts


def _arrived(records: Sequence[StepRecord]) -> str:
    arrivals = [a for record in records for a in record.arrivals]
    text = f"{len(arrivals):,} with {sum(len(a.prompt_token_ids) for a in arrivals):,} prompt tokens"
    seconds = arrivals[-1].time - arrivals[0].time if arrivals else 0.0
    return text + (f" in {seconds:.2f} s" if seconds > 0 else "")


def _blocks(state: Snapshot, records: Sequence[StepRecord]) -> tuple[float, str]:
    """A square a block, or a square for some blocks with the share in use as its strength."""
    del records
    group = max(1, math.ceil(state.num_blocks / MAX_CELLS))
    cells = math.ceil(state.num_blocks / group)
    columns = min(cells, max(32, math.ceil(math.sqrt(cells * 6))))
    size = min(24.0, WIDTH / columns)
    owner = {block: name for name, table in state.block_tables.items() for block in table}
    shapes = [_label(f"KV blocks{'' if group == 1 else f', {group} a square'}: a colour for each request")]
    for cell in range(cells):
        blocks = range(cell * group, min(state.num_blocks, (cell + 1) * group))
        used = [b for b in blocks if state.ref_counts[b]]
        x, y = (cell % columns) * size, 20 + (cell // columns) * size
        if used:
            fill, strength = _hue(owner[used[0]]), 0.25 + 0.75 * len(used) / len(blocks)
        else:
            fill, strength = (CACHED if any(state.block_hashes[b] for b in blocks) else FREE), 1.0
        shared = any(state.ref_counts[b] > 1 for b in used)
        shapes.append(_rect(x, y, size - 1, size - 1, fill, strength, f' stroke="{INK}"' if shared else ""))
    height = 20 + math.ceil(cells / columns) * size
    shapes.append(_label("pale blue: cached, grey: free, black border: shared", height + 14, PALE))
    return height + 18, "".join(shapes)


def _timeline(state: Snapshot, records: Sequence[StepRecord]) -> tuple[float, str]:
    """Requests down, the newest steps to the right: full bars decode, half-strong ones prefill, thin lines wait."""
    del state
    shown = records[-MAX_STEPS:]
    first = shown[0].step
    newest = list(dict.fromkeys(d.request_id for r in reversed(shown) for d in r.decisions))[:MAX_ROWS]
    names = [name for name in dict.fromkeys(d.request_id for r in shown for d in r.decisions) if name in newest]
    pitch, row = (WIDTH - LABEL) / len(shown), 15
    shapes = [_label(f"Steps {first:,} to {shown[-1].step:,}: solid decodes, pale prefills, thin waits, red preempted")]
    for i, name in enumerate(names):
        y = 22 + i * row
        shapes.append(_label(name[:12], y + 10, PALE))
        actions = [next((d.action for d in r.decisions if d.request_id == name), None) for r in shown]
        at = 0
        for action, run in groupby(actions):
            steps = len(list(run))
            x, width = LABEL + at * pitch, max(1.0, steps * pitch)
            at += steps
            if action is Action.WAIT:
                shapes.append(_rect(x, y + 5, width, 2, "#98a1ae", 1))
            elif action is Action.PREEMPT:
                shapes.append(_rect(x, y, max(2.0, width), 12, "#c8321a", 1))
            elif action is not None:
                shapes.append(_rect(x, y, width, 12, _hue(name), 1 if action is Action.DECODE else 0.45))
    return 22 + len(names) * row, "".join(shapes)


def _latency(state: Snapshot, records: Sequence[StepRecord]) -> tuple[float, str]:
    """Two histograms, from 0 to a little past the 99th percentile."""
    del state
    measured = measure(records).values()
    shapes = []
    for column, (name, values) in enumerate(
        (
            ("time to first token", [m.ttft for m in measured if m.ttft is not None]),
            ("time between tokens", [gap for m in measured for gap in m.itl]),
        )
    ):
        left, width = column * (WIDTH + 20) / 2, (WIDTH - 20) / 2
        if not values:
            continue
        top, bins = histogram(values, BARS)
        tallest, step = max(bins), width / BARS
        shapes.append(f'<g transform="translate({left:.0f} 0)">{_label(f"{name}, 0 to {top * 1e3:.2f} ms")}')
        for i, n in enumerate(bins):
            if n:
                size = max(1.5, 60 * n / tallest)
                shapes.append(_rect(i * step, 84 - size, step - 1, size, HUES[6 if column == 0 else 2], 1))
        shapes.append(_rect(0, 84, width, 1, "#98a1ae", 1) + "</g>")
    return 88, "".join(shapes)


def _traffic(state: Snapshot, records: Sequence[StepRecord]) -> tuple[float, str]:
    """A line for each arrival at its time: prompt tokens upwards, output tokens so far downwards, to one scale."""
    del state
    arrivals = [a for record in records for a in record.arrivals]
    made = Counter(s.request_id for record in records for s in record.sampled)
    start = min(a.time for a in arrivals)
    span = max(a.time for a in arrivals) - start or 1e-9
    most = max(1, *(max(len(a.prompt_token_ids), made[a.request_id]) for a in arrivals))
    head = f"Arrivals over {span if len(arrivals) > 1 else 0:.2f} s: up prompt tokens, down output tokens, to {most:,}"
    shapes = [_label(head)]
    for a in arrivals:
        x = (WIDTH - 3) * (a.time - start) / span
        up, down = (62 * count / most for count in (len(a.prompt_token_ids), made[a.request_id]))
        shapes.append(_rect(x, 84 - up, 3, up, _hue(a.request_id), 1))
        shapes.append(_rect(x, 85, 3, down, _hue(a.request_id), 0.5))
    shapes.append(_rect(0, 84, WIDTH, 1, "#98a1ae", 1))
    return 150, "".join(shapes)


def _hue(request_id: str) -> str:
    """The colour that the live views give this request: by its number, where it has one."""
    found = re.fullmatch(r"\D{0,4}(\d{1,9})(?:\D(\d{1,4}))?", request_id)
    index = zlib.crc32(request_id.encode()) if found is None else int(found[1]) + 3 * int(found[2] or 0)
    return HUES[index % len(HUES)]


_DRAW = {"blocks": _blocks, "timeline": _timeline, "latency": _latency, "traffic": _traffic}


def _rect(x: float, y: float, width: float, height: float, fill: str, opacity: float, more: str = "") -> str:
    strength = "" if opacity == 1 else f' fill-opacity="{opacity:.2f}"'
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{fill}"{strength}{more}/>'


def _label(text: str, y: float = 12, fill: str = INK) -> str:
    return f'<text y="{y:.0f}" fill="{fill}">{html.escape(text)}</text>'
