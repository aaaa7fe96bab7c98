"""The ring's bound, what it says when asked for what it dropped, and reading while another thread appends."""

import threading

import pytest

from tests.core.helpers import make_scheduler, record_of
from workbench.core.errors import WorkbenchError
from workbench.core.sampling_params import SamplingParams
from workbench.core.scheduler_output import SampledToken
from workbench.trace import Trace, TraceRangeError


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
