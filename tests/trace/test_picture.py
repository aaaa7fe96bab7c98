"""The still picture: well formed, its numbers those of the scheduler, whatever the size of the pool."""

import base64
import html
import math
import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from tests.core.helpers import make_scheduler, record_of
from workbench.core.machine import MachineLimits
from workbench.core.records import StepTimes
from workbench.core.sampling_params import SamplingParams
from workbench.core.scheduler_output import SampledToken
from workbench.core.work import MATRICES, WorkSizes, step_work
from workbench.trace import Trace
from workbench.trace.metrics import measure
from workbench.trace.picture import MAX_CELLS, picture
from workbench.trace.roofline_picture import Machine

VIEWS = (
    "dashboard",
    "blocks",
    "timeline",
    "requests",
    "memory",
    "latency",
    "kernels",
    "playground",
    "controls",
    "traffic",
    "what_if",
)


def run(num_blocks, steps):
    scheduler = make_scheduler(num_blocks=num_blocks)
    trace = Trace(scheduler.snapshot(), 100, {"model": "<fake> & co"})
    tokens = 0
    for step in range(steps):
        if step % 4 == 0:
            scheduler.add_request(f"r{step}", [step % 7] * 9, SamplingParams(max_tokens=7), arrival_time=float(step))
        plan = scheduler.schedule()
        sampled = {s.request_id: SampledToken(step) for s in plan.scheduled if s.sample}
        tokens += len(sampled)
        scheduler.update(plan, sampled, {}, {})
        trace.append(record_of(scheduler, plan))
    return scheduler, trace, tokens


@pytest.mark.parametrize("view", VIEWS)
def test_every_view_has_its_picture_and_the_schedulers_numbers(view):
    scheduler, trace, tokens = run(12, 40)
    drawn, state, pool = picture(trace, view), scheduler.snapshot(), scheduler.kv.pool
    facts = dict(drawn.facts)
    used, empty = pool.num_blocks - pool.num_free, pool.num_free - pool.num_cached_free
    assert facts["KV blocks"] == f"{used} used, {pool.num_cached_free} cached, {empty} free of 12"
    assert facts["requests"].startswith(f"{len(state.running)} running, {len(state.waiting)} waiting, ")
    assert facts["tokens sampled"] == str(tokens)
    assert drawn.step == 39
    if view == "kernels":
        last = trace.record(39)
        assert last.num_scheduled_tokens == 1
        assert facts["step 39"].startswith("1 token in 0.00 ms: schedule 0.00 ms, prepare ")
    page = drawn.to_html()
    assert "&lt;fake&gt; &amp; co" in page
    assert "<script" not in page
    assert (drawn.svg == "") == (view in ("memory", "kernels", "playground", "controls", "what_if"))
    if drawn.svg:
        source = re.search(r"base64,([^\"]+)", page)[1]
        assert ET.fromstring(base64.b64decode(source)).tag.endswith("svg")


def test_the_block_map_counts_one_square_a_block_or_says_how_many_share_one():
    _, small, _ = run(12, 10)
    assert picture(small, "blocks").svg.count("<rect x=") == 12
    _, large, _ = run(10_000, 10)
    svg = picture(large, "blocks").svg
    assert "KV blocks, 7 a square" in svg
    assert svg.count("<rect x=") <= MAX_CELLS


def test_the_kernels_picture_is_the_step_s_roofline():
    _, trace, _ = run(12, 38)
    record = replace(trace.record(37), times=StepTimes(0.0, 0.0, 0.25, 0.0, 0.0))
    assert record.num_scheduled_tokens
    last = Trace(trace.at(36), 10)
    last.append(record)
    sizes = WorkSizes(4_000_000, 1_000_000, 400_000, 100_000, 640)
    unmeasured = picture(last, "kernels", Machine(sizes, None))
    assert unmeasured.svg == ""
    work = step_work(record, sizes)
    assert dict(unmeasured.facts)["layer matrices"] == f"reads 3.8 MiB, computes {work[MATRICES].flops / 1e6:.1f} MFLOP"
    limits = MachineLimits("cpu", "float32", 2, 1e7, 1e8)
    drawn = picture(last, "kernels", Machine(sizes, limits))
    flops, size = (sum(part[i] for part in work.values()) for i in (1, 0))
    least = max(size / 1e7, flops / 1e8)
    facts = dict(drawn.facts)
    assert facts["forward"].endswith(f"took 250.00 ms, {least / 0.25:.0%} of the limit")
    assert facts["machine"] == str(limits)
    # The dot stands where it should between the grid's lines, on the scale of the drawing.
    (dot,) = re.findall(r'<circle cx="([0-9.]+)" cy="([0-9.]+)" r="5.5" fill="#8a5bb5"', drawn.svg)
    lines = re.findall(r'y="([0-9.]+)" fill="#5b6470" text-anchor="end">([0-9.e-]+)<', drawn.svg)
    (low, below), (high, above) = sorted((float(text), float(y) - 4) for y, text in lines)[:2]
    share = math.log(flops / 0.25 / 1e9 / low) / math.log(high / low)
    assert float(dot[1]) == pytest.approx(below + share * (above - below), abs=0.3)


def test_the_traffic_s_picture_has_a_line_up_and_one_down_for_each_arrival():
    _, trace, tokens = run(12, 40)
    drawn = picture(trace, "traffic")
    assert dict(drawn.facts)["arrived"] == "10 with 90 prompt tokens in 36.00 s"
    assert "Arrivals over 36.00 s: up prompt tokens, down output tokens, to 9" in drawn.svg
    heights = [float(height) for height in re.findall(r'width="3.0" height="([0-9.]+)"', drawn.svg)]
    assert heights[::2] == [62.0] * 10
    assert sum(heights[1::2]) == pytest.approx(62 * tokens / 9, abs=1)
    _, empty, _ = run(12, 0)
    assert picture(empty, "traffic").svg == ""


def test_before_the_first_step_there_is_a_picture_too():
    _, trace, _ = run(12, 0)
    assert dict(picture(trace).facts)["KV blocks"] == "0 used, 0 cached, 12 free of 12"


def test_the_requests_picture_tells_each_of_them_in_the_scheduler_s_numbers():
    scheduler, trace, _ = run(12, 40)
    state, measured = scheduler.snapshot(), measure(trace.records())
    header, *rows = picture(trace, "requests").table
    assert header == ("request", "prompt", "state", "prompt tokens", "output tokens", "KV blocks", "first token")
    assert [row[0] for row in rows] == list(measured)
    for name, _, phase, prompt, output, blocks, ttft in rows:
        m = measured[name]
        assert phase == (m.finish_reason or ("running" if name in state.running else "waiting"))
        assert (prompt, output) == ("9", str(m.num_output_tokens))
        assert blocks == str(len(state.block_tables.get(name, ())))
        assert ttft == ("–" if m.ttft is None else f"{m.ttft * 1e3:.2f} ms")
    assert {row[2] for row in rows} > {"length"}, "some live"


@pytest.mark.parametrize("view", ["playground", "dashboard"])
def test_the_playground_s_picture_has_the_prompts_and_the_answers_as_text(view):
    _, trace, _ = run(12, 80)
    trace.token_text = lambda token: f"<{token}>"
    header, left_out, *rows = picture(trace, view).table
    assert header == ("request", "prompt", "answer")
    assert left_out == ("8 earlier ones", "", "")
    sampled = [s for record in trace.records() for s in record.sampled]
    for name, prompt, answer in rows:
        assert prompt == f"<{int(name[1:]) % 7}>" * 9
        assert answer == "".join(f"<{s.token_id}>" for s in sampled if s.request_id == name)
    assert (
        f'<td style="text-align:left;font-weight:500">{html.escape(rows[-1][1])}</td>' in picture(trace, view).to_html()
    )
    trace.token_text = lambda token: "x" * 100
    assert {len(row[1]) for row in picture(trace, view).table[2:]} == {601}
    _, empty, _ = run(12, 0)
    assert picture(empty, view).table == ()
