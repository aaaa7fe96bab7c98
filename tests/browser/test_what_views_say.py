"""What the dashboard says at any moment, read from the page, beside what the engine's own trace says of that moment.

The picked request and block stay picked while the time cursor moves, so every view is asked about moments at
which they did not exist yet, waited, were preempted, or had gone.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from dashboard import SESSION
from playwright.sync_api import Browser, Page

from workbench import LLM, SamplingParams
from workbench.bench.ui_page import Bridge
from workbench.core.records import Snapshot
from workbench.core.units import size_text
from workbench.trace.metrics import SequenceMetrics, measure, percentile

MOMENTS = 80
GO = f"""async ([cursor, picked]) => {{
  const session = {SESSION}; session.setCursor(cursor); session.select(picked);
  for (let i = 0; i < 3; i++) await new Promise(requestAnimationFrame); }}"""
READ = """() => {
  const text = e => e === null || !e.checkVisibility() ? null : e.innerText.replaceAll('\\u00a0', ' ').trim();
  const id = name => text(document.querySelector(`[data-testid="${name}"]`));
  const all = (within, selector) => [...document.querySelectorAll(`${within} ${selector}`)].map(text);
  const stats = Object.fromEntries(['kv', 'running', 'waiting'].map(name => [name, id(`stat-${name}`)]));
  const rows = [...document.querySelectorAll('[data-testid="requests"] tbody tr:not(.iw-story)')]
    .map(row => [...row.cells].map(text));
  return { stats, rows, legend: all('.iw-panel-blocks', '.iw-legend > span'), block: id('block-story'),
    why: id('block-why'), cards: all('.iw-prompt.iw-guest', '.iw-card-id'), ledger: all('[data-testid="memory"]', 'tr'),
    latency: ['ttft', 'itl', 'e2e'].map(name => id(`latency-${name}`)) }; }"""


class Moment(NamedTuple):
    """What the trace says of the state after a step."""

    state: Snapshot
    measured: dict[str, SequenceMetrics]

    def owners(self, block: int) -> list[str]:
        return [request for request, table in self.state.block_tables.items() if block in table]


@pytest.fixture(scope="module")
def llm() -> Iterator[LLM]:
    """An engine that had too few blocks: shared prompts, several samples of one, preemptions, evictions."""
    with LLM(num_gpu_blocks_override=24, max_num_seqs=6) as llm:
        params = [
            SamplingParams(temperature=0.8, n=1 + (i % 4 == 0), seed=i, max_tokens=20 + 9 * i, ignore_eos=True)
            for i in range(10)
        ]
        prompts = [f"Once upon a time there was a little girl named number {i % 3}" for i in range(10)]
        llm.generate(prompts, params, use_tqdm=False)
        llm.pause()
        yield llm


@pytest.fixture
def page(browser: Browser, llm: LLM) -> Iterator[Page]:
    bridge = Bridge(llm)
    page = browser.new_page(viewport={"width": 1500, "height": 2600}, reduced_motion="reduce")
    try:
        page.goto(bridge.url)
        page.wait_for_function("() => window.bench?.frames > 0")
        page.wait_for_function(f"step => {SESSION}.store.lastStep === step", arg=llm.trace.last_step)
        yield page
    finally:
        page.close()
        bridge.close()


def moment_of(llm: LLM, step: int) -> Moment:
    return Moment(llm.trace.at(step), measure(llm.trace.records(until=step + 1)))


def check_counts(said: dict[str, Any], now: Moment) -> None:
    state = now.state
    cached = sum(state.block_hashes[block] != "" for block in state.free_blocks)
    used, free = state.num_blocks - len(state.free_blocks), len(state.free_blocks) - cached
    assert said["legend"][:3] == [f"{used} used", f"{cached} cached", f"{free} free"]
    assert said["stats"] == {
        "kv": f"{percent(used / state.num_blocks)}\nKV used",
        "running": f"{len(state.running)}\nrunning",
        "waiting": f"{len(state.waiting)}\nwaiting",
    }
    rows = dict(line.split("\t")[:2] for line in said["ledger"] if line is not None)
    for name, blocks in (("in use", used), ("cached prefixes", cached), ("free", free)):
        assert rows[f"KV cache, {name}"] == size_text(blocks * state.pool.bytes_per_block)


def check_requests(said: dict[str, Any], now: Moment) -> None:
    """Every request that has arrived is in the table, in its group, in the engine's order, with its numbers."""
    groups: dict[str, list[str]] = {}
    for name, *rest in said["rows"]:
        if not rest:
            groups[name.split(" · ")[0]] = []
            continue
        [*groups.values()][-1].append(name)
        state, _why, prompt, output, _waited, ttft, itl, preemptions, blocks = rest
        metrics = now.measured[name]
        table = now.state.block_tables.get(name, ())
        assert (number(prompt), number(output)) == (metrics.num_prompt_tokens, metrics.num_output_tokens)
        assert (number(preemptions), number(blocks)) == (metrics.num_preemptions, len(table))
        assert near(ttft, metrics.ttft)
        assert near(itl, sum(metrics.itl) / len(metrics.itl) if metrics.itl else None)
        assert (state in ("finished", "cancelled", "failed")) == (metrics.finish_reason is not None)
    assert groups.get("Batch", []) == [*now.state.running]
    assert groups.get("Queue", []) == [*now.state.waiting]
    assert {*groups.get("Ended", [])} == {name for name, m in now.measured.items() if m.finish_reason is not None}


def check_block(said: dict[str, Any], now: Moment, block: int | None, request: str | None) -> None:
    if block is None:
        assert said["block"] is None
        assert said["why"] is None
        return
    owners, references = now.owners(block), now.state.ref_counts[block]
    assert len(owners) == references
    kept = ", content kept for a prefix hit" if now.state.block_hashes[block] else ""
    fact, told = said["block"].removeprefix(f"Block {block}: ").split(" · ")[:2]
    if owners:
        assert sorted(fact.removeprefix("held by ").split(", ")) == sorted(owners)
    else:
        assert fact == f"state free{kept}"
    assert told.splitlines()[0] == f"references {references}"
    assert (said["why"] is not None) == (request is None and references == 0)
    if said["why"] is not None:
        assert said["why"].startswith(f"Block {block} is free ({'kept for its prefix' if kept else 'empty'})")


def check_playground(said: dict[str, Any], now: Moment, picked: str | None) -> None:
    """Cards of requests that write, or live, at that moment; each with how far it is."""
    written = {name: m.num_output_tokens for name, m in now.measured.items()}
    writing = [name for name in now.state.requests if written[name] > 0]
    for head in said["cards"]:
        name, told = head.split(" · ", 1)
        if name not in now.measured:
            assert name == picked
            assert told.startswith("arrives in step ")
            continue
        if name != picked and now.state.requests:
            assert name in (writing or now.state.requests)
        reason = now.measured[name].finish_reason
        if reason is not None:
            assert told == f"{written[name]} token{'' if written[name] == 1 else 's'} · {reason}"
        elif written[name] > 0:
            assert told.startswith(f"{written[name]} of ")
        else:
            assert told == "no token yet"


def check_latency(said: dict[str, Any], now: Moment) -> None:
    every = now.measured.values()
    expected = (
        [m.ttft for m in every if m.ttft is not None],
        [gap for m in every for gap in m.itl],
        [m.e2e for m in every if m.e2e is not None],
    )
    for told, values in zip(said["latency"], expected, strict=True):
        figures = dict(re.findall(r"(p\d\d)\s+(–|[\d.,]+ ms)", told))
        assert figures.keys() == {"p50", "p95", "p99"}
        for name, figure in figures.items():
            assert near(figure, percentile(values, int(name[1:])) if values else None)


def percent(share: float) -> str:
    return f"{100 * share:.1f} %" if 0 < share < 0.1 else f"{int(100 * share + 0.5)} %"  # halves up, as in the page


def number(text: str) -> int:
    return 0 if text == "–" else int(text.rstrip("×").replace(",", ""))


def near(text: str, seconds: float | None) -> bool:
    """Whether a time as text is this one, as far as its digits go."""
    if seconds is None or text == "–":
        return seconds is None and text == "–"
    value, unit = text.split(" ")
    scale = {"µs": 1e6, "ms": 1e3, "s": 1.0}[unit]
    digits = len(value.partition(".")[2])
    return abs(float(value.replace(",", "")) - seconds * scale) <= 0.5001 * 10**-digits


def test_every_view_tells_the_state_at_the_cursor_whatever_is_picked(page: Page, llm: LLM) -> None:
    order = random.Random(11)
    last = llm.trace.last_step
    names = [*measure(llm.trace.records())]
    assert sum(m.num_preemptions for m in measure(llm.trace.records()).values()) > 0
    picked: dict[str, Any] = {"request": None, "block": None}
    for _ in range(MOMENTS):
        step = order.randint(0, last)
        if order.random() < 0.4:  # what is picked outlives most moves of the cursor
            picked = {
                "request": order.choice([None, None, *names]),
                "block": order.choice([None, *range(24)]),
            }
        page.evaluate(GO, [step, picked])
        said, now = page.evaluate(READ), moment_of(llm, step)
        check_counts(said, now)
        check_requests(said, now)
        check_block(said, now, picked["block"], picked["request"])
        check_playground(said, now, picked["request"])
        check_latency(said, now)
