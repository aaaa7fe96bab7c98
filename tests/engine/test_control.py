"""Breakpoints, hot-swapped policies and changes to the queue on a running engine."""

import pytest

from tests.engine.helpers import VOCAB, Engine, wait_until
from workbench.core.errors import ConfigError
from workbench.core.policy import Policy
from workbench.engine import handle as handle_module
from workbench.engine.breakpoints import make_breakpoint
from workbench.sim import expected_tokens


def stop_at(engine, *prompts, max_tokens=20, **condition):
    """Set a breakpoint, submit while paused, run into it; returns its message and the record."""
    engine.loop.add_breakpoint(make_breakpoint(**condition))
    engine.loop.pause()
    handles = [engine.submit(prompt, max_tokens=max_tokens) for prompt in prompts]
    engine.loop.resume()
    wait_until(lambda: engine.loop.status().stopped_by is not None)
    status = engine.loop.status()
    assert status.state == "paused"
    record = engine.core.trace.record(status.step)
    engine.loop.remove_breakpoints()
    engine.loop.resume()
    for prompt, handle in zip(prompts, handles, strict=True):
        assert list(handle.result(30).outputs[0].token_ids) == expected_tokens(prompt, max_tokens, VOCAB)
    return status.stopped_by, record


MANY = [[i] * 6 for i in range(4)]


CASES = [
    ({"event": "preemption"}, "was preempted", lambda r: "preempt" in actions(r)),
    ({"event": "allocation_failure"}, "needed, ", lambda r: "no_blocks" in [d.reason for d in r.decisions]),
    ({"event": "admission", "request": "r3"}, "r3 was admitted", lambda r: reason_of(r, "r3") == "admitted"),
    ({"event": "first_token", "request": "r2"}, "r2 got its first token", lambda r: ("r2", 0) in positions(r)),
    (
        {"event": "finish", "request": "r1"},
        "r1 finished (length)",
        lambda r: "r1" in [f.request_id for f in r.finished],
    ),
    ({"event": "eviction"}, "was evicted", lambda r: "evict" in [e.kind for e in r.block_events]),
    ({"free_blocks_under": 3}, "free", lambda r: r.num_free_blocks < 3),
    ({"step_longer_than": 0.0}, "the step took", lambda r: r.num_scheduled_tokens > 0),
    ({"when": lambda record: record.step >= 4}, "its condition holds", lambda r: r.step >= 4),
]


def actions(record):
    return [d.action for d in record.decisions]


def reason_of(record, name):
    return next((d.reason for d in record.decisions if d.request_id == name), None)


def positions(record):
    return [(s.request_id, s.position) for s in record.sampled]


@pytest.mark.parametrize(("condition", "text", "holds"), CASES)
def test_the_engine_pauses_at_the_first_such_step(condition, text, holds):
    with Engine(num_blocks=14) as engine:
        message, record = stop_at(engine, *MANY, **condition)
        assert text in message
        assert holds(record)
        assert not any(holds(earlier) for earlier in engine.core.trace.records(until=record.step))


def test_a_breakpoint_ends_a_run_of_single_steps():
    with Engine() as engine:
        engine.loop.pause()
        handle = engine.submit([1, 2], max_tokens=30)
        engine.loop.add_breakpoint(make_breakpoint(when=lambda record: len(record.sampled) and record.step % 5 == 4))
        assert engine.loop.step(100).result(10)[-1].step % 5 == 4
        engine.loop.remove_breakpoints()
        engine.loop.resume()
        handle.result(10)


def test_a_breakpoint_that_raises_is_removed(caplog):
    with Engine() as engine:
        engine.loop.add_breakpoint(make_breakpoint(when=lambda record: 1 / 0))
        engine.submit([1], max_tokens=3).result(10)
        wait_until(lambda: engine.loop.breakpoints == ())
    assert "was removed" in caplog.text


def test_one_breakpoint_of_several_can_be_taken_off():
    with Engine() as engine:
        first, second = make_breakpoint("finish"), make_breakpoint("eviction")
        engine.loop.add_breakpoint(first)
        engine.loop.add_breakpoint(second)
        engine.loop.remove_breakpoints(first)
        assert [p.name for p in engine.loop.breakpoints] == ["eviction"]


@pytest.mark.parametrize(
    "condition",
    [
        {},
        {"event": "explosion"},
        {"event": "finish", "free_blocks_under": 2},
        {"request": "r1", "free_blocks_under": 2},
    ],
)
def test_conditions_that_make_no_sense_are_refused(condition):
    with pytest.raises(ConfigError):
        make_breakpoint(**condition)


class Reversed(Policy):
    name = "last come, first served"

    def key(self, request):
        return (-request.arrival_seq,)


def test_a_policy_of_ones_own_is_swapped_in_and_recorded():
    with Engine(max_num_seqs=1) as engine:
        engine.loop.pause()
        handles = [engine.submit([i], max_tokens=2) for i in range(4)]
        engine.loop.configure({"scheduling_policy": Reversed()})
        engine.loop.resume()
        for handle in handles:
            handle.result(10)
        order = [f.request_id for r in engine.core.trace for f in r.finished]
        assert order == ["r4", "r3", "r2", "r1"]
        changes = [c for r in engine.core.trace for c in r.changes]
        assert ("scheduling_policy", "last come, first served", "") in changes


class Broken(Policy):
    name = "broken"

    def share(self, request, wanted, left):
        raise RuntimeError("oh no")


def test_a_policy_that_fails_is_taken_off_and_the_record_says_so(caplog):
    with Engine() as engine:
        engine.loop.configure({"scheduling_policy": Broken()})
        handle = engine.submit([1], max_tokens=4)
        assert list(handle.result(10).outputs[0].token_ids) == expected_tokens([1], 4, VOCAB)
        told = [c.value for r in engine.core.trace for c in r.changes if "taken off" in c.value]
        assert told == ["policy 'broken' was taken off, 'fcfs' is back: RuntimeError: oh no"]
    assert "taken off" in caplog.text


def test_the_queue_can_be_changed_while_paused():
    with Engine(max_num_seqs=1) as engine:
        engine.loop.configure({"scheduling_policy": "priority"})
        engine.loop.pause()
        handles = [engine.submit([i], max_tokens=2) for i in range(4)]
        assert engine.loop.call(lambda: engine.core.set_priority("r4", -1))
        assert engine.loop.call(lambda: engine.core.move_to_front("r3"))
        assert not engine.loop.call(lambda: engine.core.set_priority("r9", 0))
        wait_until(lambda: engine.core.trace.at().waiting == ("r4", "r3", "r1", "r2"))
        assert engine.core.trace.at() == engine.loop.call(engine.core.scheduler.snapshot)
        engine.loop.resume()
        for handle in handles:
            handle.result(10)
        assert [f.request_id for r in engine.core.trace for f in r.finished] == ["r4", "r3", "r1", "r2"]


def test_a_cell_that_waits_is_told_anew_where_the_engine_stopped(monkeypatch, capsys):
    monkeypatch.setattr(handle_module, "NOTICE_SECONDS", 0.0)
    notices = iter(["at 1", "at 1", None, "at 1", "at 2", "at 2"])
    with Engine() as engine:
        engine.loop.pause()

        def notice():
            found = next(notices, "over")
            if found == "over":
                engine.loop.resume()
                return "at 2"
            return found

        engine.notice = notice
        engine.submit([1, 2], max_tokens=2).result(30)
    assert capsys.readouterr().out == "at 1\nat 1\nat 2\n"
