"""The explanation of a request says what happened, with the right steps and numbers."""

import pytest

from tests.core.helpers import make_scheduler, record_of
from workbench.core.records import StepTimes
from workbench.core.sampling_params import SamplingParams
from workbench.core.scheduler_output import SampledToken
from workbench.core.units import time_text
from workbench.trace import Trace
from workbench.trace.life import lives_of, request_ids
from workbench.trace.why import why

STEP_SECONDS = 0.01


class Run:
    """A scheduler whose every step takes 10 ms."""

    def __init__(self, **settings):
        self.scheduler = make_scheduler(enable_prefix_caching=False, **settings)
        self.trace = Trace(self.scheduler.snapshot(), 1000)
        self.stood_still = 0.0

    def add(self, name, length, max_tokens, first=1):
        now = (self.trace.last_step + 1) * STEP_SECONDS + self.stood_still
        params = SamplingParams(max_tokens=max_tokens)
        self.scheduler.add_request(name, [first] * length, params, arrival_time=now)

    def pause(self, seconds):
        """A record in which everybody waits, and then nothing for a while."""
        self.step(held=True)
        self.stood_still += seconds

    def step(self, count=1, held=False):
        for _ in range(count):
            plan = self.scheduler.hold() if held else self.scheduler.schedule()
            sampled = {item.request_id: SampledToken(7) for item in plan.scheduled if item.sample}
            self.scheduler.update(plan, sampled, {}, {})
            record = record_of(self.scheduler, plan)
            times = StepTimes(0.0, 0.0, STEP_SECONDS, 0.0, 0.0)
            values = {name: getattr(record, name) for name in record.__slots__}
            now = plan.step * STEP_SECONDS + self.stood_still
            self.trace.append(type(record)(**{**values, "time": now, "times": times}))

    def finish(self):
        while self.scheduler.has_unfinished():
            self.step()


def text_of(trace, name):
    return [cause.text for cause in trace.why(name).causes]


def test_a_request_that_waits_for_blocks_and_for_its_turn():
    run = Run(num_blocks=8)
    run.add("a", 20, 10)
    run.add("b", 16, 2)
    run.add("c", 2, 2)
    run.finish()
    b, c = run.trace.why("b"), run.trace.why("c")
    admitted = next(cause.step for cause in b.causes if cause.text.startswith("Prefilled"))
    told = f"Waited {admitted} steps ({time_text(admitted * 0.01)}) before it was admitted: {admitted} for KV blocks "
    assert (told + "(needed 4, at best 3 free; held mostly by a).", 0) in b.causes
    assert any(
        f"{admitted} for KV blocks (behind b; needed 4, at best 3 free; held mostly by a)" in t
        for t in text_of(run.trace, "c")
    )
    assert [(s.kind, s.num_steps, s.tokens, s.other) for s in b.waterfall] == [
        ("queue", admitted, 0, "a"),
        ("prefill", 1, 16, ""),
        ("neighbour", 1, 2, "c"),
    ]
    # The step that computed both is split by tokens.
    assert [s.seconds for s in b.waterfall[1:]] == pytest.approx([STEP_SECONDS * 16 / 18, STEP_SECONDS * 2 / 18])
    assert sum(s.seconds for s in c.waterfall) == pytest.approx((admitted + 1) * STEP_SECONDS)


def test_a_change_of_the_pool_preempts_for_nobody():
    run = Run(num_blocks=8)
    run.add("a", 9, 3)
    run.add("b", 9, 3)
    run.scheduler.configure(run.scheduler.config.with_changes(max_num_batched_tokens=12))
    run.step()
    config = run.scheduler.config
    run.scheduler.change_pool(config.with_pool(config.pool._replace(num_blocks=3)), "num_gpu_blocks_override=3")
    run.step(held=True)
    run.finish()
    told = run.trace.why("b")
    preempted, waited = told.waterfall[2:4]
    assert preempted[:3] == ("preempted", "preempted as the KV pool changed: num_gpu_blocks_override=3", 1)
    assert preempted.other == ""
    assert waited[:2] == ("queue", "for KV blocks")
    assert any(
        text.startswith("Preempted: num_gpu_blocks_override=3 took ") and "tokens were recomputed" in text
        for text in text_of(run.trace, "b")
    )


def test_a_preemption_is_told_with_its_cost():
    run = Run(num_blocks=4)
    run.add("a", 7, 9)
    run.add("b", 7, 9)
    run.finish()
    life = lives_of(run.trace.records())["b"]
    preempted = next(m.step for m in life.moments if m.decision.action == "preempt")
    resumed = next(m.step for m in life.moments if m.decision.reason == "resumed")
    cost = time_text((resumed + 1 - preempted) * STEP_SECONDS)
    expected = (
        f"Preempted: a needed 1 KV block and 0 were free. 9 tokens were recomputed; it cost {cost} in all.",
        preempted,
    )
    assert expected in run.trace.why("b").causes
    assert any(c.text.startswith("Recomputed 9 tokens in 1 step") for c in run.trace.why("b").causes)
    assert not any("Preempted" in text for text in text_of(run.trace, "a"))


def test_chunks_name_the_neighbour_that_used_the_budget():
    run = Run(max_num_batched_tokens=10, num_blocks=32)
    run.add("a", 30, 2)
    run.step()
    run.add("b", 5, 2)
    run.finish()
    told = run.trace.why("b").causes
    assert ("Waited 2 steps (20.0 ms) before it was admitted: 2 for the token budget (used mostly by a).", 1) in told
    assert any("Prefilled 30 tokens in 3 steps (30.0 ms)" in text for text in text_of(run.trace, "a"))


def test_a_pause_is_waiting_and_not_computing():
    run = Run(num_blocks=64, max_num_batched_tokens=8)
    run.add("a", 16, 2)
    run.step()
    run.pause(1.5)
    run.finish()
    assert [(s.kind, s.label, s.num_steps) for s in run.trace.why("a").waterfall] == [
        ("prefill", "prefill", 1),
        ("queue", "while the engine was paused", 1),
        ("prefill", "prefill", 1),
    ]
    seconds = [s.seconds for s in run.trace.why("a").waterfall]
    assert seconds == pytest.approx([STEP_SECONDS, STEP_SECONDS + 1.5, STEP_SECONDS])
    assert any("(1.51 s)" in text for text in text_of(run.trace, "a"))


def test_the_rest_of_the_step_under_way_at_the_arrival_is_waiting():
    run = Run(num_blocks=64)
    run.add("a", 4, 2)
    run.stood_still = 0.25
    run.finish()
    found = [(s.kind, s.num_steps, s.seconds) for s in run.trace.why("a").waterfall]
    assert found == [("queue", 0, pytest.approx(0.25)), ("prefill", 1, pytest.approx(STEP_SECONDS))]


def test_the_waterfall_adds_up_to_the_time_to_first_token():
    run = Run(num_blocks=10, max_num_batched_tokens=12, max_num_seqs=2)
    for index in range(8):
        run.add(f"r{index}", 5 + index, 6, first=index)
        run.step(index % 3)
    run.finish()
    lives = lives_of(run.trace.records())
    assert request_ids(run.trace.records()) == [f"r{i}" for i in range(8)]
    for name, life in lives.items():
        ttft = life.first_token.end - life.arrival.time
        assert sum(s.seconds for s in run.trace.why(name).waterfall) == pytest.approx(ttft)
        assert f"First token {time_text(ttft)} after arrival" in " ".join(text_of(run.trace, name))


def test_what_the_trace_does_not_hold():
    run = Run()
    run.add("a", 3, 5)
    run.step(2)
    assert text_of(run.trace, "nobody") == ["The trace does not hold this request."]
    assert text_of(run.trace, "a")[-1] == "It is still alive."
    later = why(run.trace.records(since=1), "a")
    assert later.causes[0].text == "Its arrival is no longer in the trace."
    assert later.waterfall == ()
    # Without a first token there is the time so far.
    short = Run(num_blocks=4)
    short.add("a", 7, 9)
    short.add("b", 12, 2)
    short.step(3)
    assert [(s.kind, s.num_steps) for s in short.trace.why("b").waterfall] == [("queue", 3)]
    assert "Why a?" in repr(later)
    assert "<table>" in later._repr_html_()
