"""The still picture: well formed, its numbers those of the scheduler, whatever the size of the pool."""

import base64
import re
import xml.etree.ElementTree as ET

import pytest

from tests.core.helpers import make_scheduler, record_of
from workbench.core.sampling_params import SamplingParams
from workbench.core.scheduler_output import SampledToken
from workbench.trace import Trace
from workbench.trace.picture import MAX_CELLS, picture

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
        assert facts["step 39"].startswith(f"{last.num_scheduled_tokens} tokens in 0.00 ms: schedule 0.00 ms, prepare ")
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
