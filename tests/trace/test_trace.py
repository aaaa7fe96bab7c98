"""The ring's bound, what it says when asked for what it dropped, and reading while another thread appends."""

import gc
import random
import threading
import tracemalloc

import pytest

from tests.core.helpers import make_scheduler, record_of
from workbench.core.errors import WorkbenchError
from workbench.core.sampling_params import SamplingParams
from workbench.core.scheduler_output import SampledToken
from workbench.trace import Replay, Trace, TraceRangeError
from workbench.trace.keyframes import KEYFRAME_STEPS


def run(capacity, steps=40):
    scheduler = make_scheduler(num_blocks=12)
    trace, states = Trace(scheduler.snapshot(), capacity), {-1: scheduler.snapshot()}
    for step in range(steps):
        if step % 5 == 0:
            scheduler.add_request(f"r{step}", [step % 7] * 9, SamplingParams(max_tokens=7), arrival_time=float(step))
        plan = scheduler.schedule()
        scheduler.update(plan, {s.request_id: SampledToken(step) for s in plan.scheduled if s.sample}, {}, {})
        trace.append(record_of(scheduler, plan))
        states[step] = scheduler.snapshot()
    return trace, states


def test_every_step_can_be_opened_in_any_order():
    trace, states = run(1000)
    for step in (39, 0, 20, -1, 38, 21, 5):
        assert trace.at(step) == states[step]
    assert trace.at() == states[39]
    assert len(trace) == 40 == len(list(trace))


def test_a_full_ring_drops_the_oldest_and_says_so():
    trace, states = run(10)
    assert (trace.first_step, trace.last_step, trace.num_dropped, len(trace)) == (30, 39, 30, 10)
    assert [r.step for r in trace.records()] == list(range(30, 40))
    assert [r.step for r in trace.records(since=37)] == [37, 38, 39]
    assert trace.at(29) == states[29]
    for step in (28, 40):
        with pytest.raises(TraceRangeError, match="holds steps 30 to 39"):
            trace.at(step)
    with pytest.raises(TraceRangeError, match="trace_steps"):
        trace.record(29)
    assert "30 older ones dropped" in repr(trace)


def test_steps_may_not_have_gaps():
    trace, _ = run(10)
    with pytest.raises(WorkbenchError, match="step 40 is due"):
        trace.append(trace.record(39))


def test_an_empty_trace():
    scheduler = make_scheduler()
    trace = Trace(scheduler.snapshot(), 5)
    assert len(trace) == 0
    assert trace.records() == []
    assert trace.at() == scheduler.snapshot()
    assert repr(trace) == "Trace(no steps yet)"


def counted_replays(monkeypatch):
    """How many records each call of at() replayed."""
    replayed = []
    apply = Replay.apply
    monkeypatch.setattr(Replay, "apply", lambda self, record: (replayed.append(record.step), apply(self, record)))
    return replayed


@pytest.mark.parametrize("with_states", [True, False])
def test_a_long_trace_opens_any_step_from_the_keyframe_before_it(monkeypatch, with_states):
    source, states = run(10_000, steps=3000)
    trace = Trace(states[-1], 10_000)
    for record in source:
        trace.append(record, (lambda step=record.step: states[step]) if with_states else None)
    if not with_states:
        assert trace.at(2999) == states[2999]  # makes the keyframes on its way
    replayed = counted_replays(monkeypatch)
    for step in random.Random(0).sample(range(3000), 200):
        replayed.clear()
        assert trace.at(step) == states[step]
        assert len(replayed) < KEYFRAME_STEPS
    replayed.clear()
    trace.at(step)
    assert replayed == []  # opened just now


def test_keyframes_stand_farther_apart_before_they_become_too_many(monkeypatch):
    monkeypatch.setattr("workbench.trace.keyframes.KEYFRAME_STEPS", 4)
    monkeypatch.setattr("workbench.trace.keyframes.MAX_KEYFRAMES", 10)
    source, states = run(1000, steps=200)
    trace = Trace(states[-1], 1000)
    for record in source:
        trace.append(record, lambda step=record.step: states[step])
    replayed = counted_replays(monkeypatch)
    for step in range(-1, 200):
        replayed.clear()
        assert trace.at(step) == states[step]
        assert len(replayed) < 32  # 200 / 32 is under ten, 200 / 16 is not
    assert trace.last_step == 199


def test_the_bound_in_bytes_drops_the_oldest_and_says_so():
    source, states = run(1000, steps=200)
    whole = source.num_bytes
    trace = Trace(states[-1], 1000, max_bytes=whole // 4)
    for record in source:
        trace.append(record)
        assert trace.num_bytes <= whole // 4
    assert 20 < len(trace) < 80
    assert trace.num_dropped == 200 - len(trace)
    assert f"{trace.num_dropped} older ones dropped" in repr(trace)
    assert "keeps at most 1,000 steps or 0 MiB" in repr(trace)
    for step in range(trace.first_step - 1, 200):
        assert trace.at(step) == states[step]
    with pytest.raises(TraceRangeError, match="trace_memory_bytes"):
        trace.record(trace.first_step - 1)


def test_a_record_larger_than_the_bound_is_kept_alone():
    source, states = run(1000, steps=10)
    trace = Trace(states[-1], 1000, max_bytes=1)
    for record in source:
        trace.append(record)
    assert (trace.first_step, trace.last_step) == (9, 9)
    assert trace.at() == states[9]


@pytest.mark.parametrize("logprobs", [False, True])
def test_the_estimate_of_a_trace_s_memory_is_near_what_the_interpreter_says(logprobs):
    scheduler = make_scheduler(num_blocks=400, max_num_seqs=32, max_num_batched_tokens=512, max_model_len=512)
    for index in range(16):
        scheduler.add_request(f"r{index}", [index] * 9, SamplingParams(max_tokens=90), arrival_time=0.0)
    trace = Trace(scheduler.snapshot(), 10_000)

    def token(number):
        return SampledToken(7, -0.5 - number, tuple((i, -0.5 * number - i) for i in range(4))) if logprobs else seven

    seven = SampledToken(7)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        while scheduler.has_unfinished():
            plan = scheduler.schedule()
            scheduler.update(plan, {s.request_id: token(plan.step) for s in plan.scheduled if s.sample}, {}, {})
            trace.append(record_of(scheduler, plan))
        del plan
        gc.collect()
        held = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert 0.6 < trace.num_bytes / held < 1.7, (trace.num_bytes, held)


def test_reading_while_another_thread_appends():
    source, states = run(1000, steps=400)
    trace = Trace(states[-1], 50)
    failures = []

    def read():
        while trace.last_step < 399:
            try:
                records = trace.records()
                assert [r.step for r in records] == sorted(r.step for r in records)
                step = trace.last_step
                assert trace.at(step) == states[step]
            except TraceRangeError:
                continue  # dropped between the two calls
            except Exception as error:
                failures.append(error)
                return

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for record in source:
        trace.append(record)
    for reader in readers:
        reader.join()
    assert failures == []
    assert trace.at() == states[399]
