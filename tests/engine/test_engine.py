"""The engine's loop over a fake runner: results, streams, control, failures, shutdown."""

import asyncio
import dataclasses
import threading
import time

import pytest
from async_thread import run_async

from tests.core.helpers import make_scheduler
from tests.engine.helpers import VOCAB, Engine, LetterTokenizer, wait_until
from workbench.core.errors import ConfigError, EngineClosedError, ResultTimeoutError
from workbench.core.policy import make_policy
from workbench.core.sampling_params import SamplingParams
from workbench.engine.engine_core import EngineCore
from workbench.engine.request_stream import RequestStream
from workbench.sim import FakeRunner, expected_tokens
from workbench.trace.metrics import measure


def tokens(output):
    return list(output.outputs[0].token_ids)


def test_results_depend_on_nothing_but_the_prompt():
    prompts = [[i % VOCAB for i in range(start, start + 5 + start)] for start in range(20)]
    with Engine(num_blocks=14, max_num_batched_tokens=11) as engine:
        handles = [engine.submit(p, max_tokens=9) for p in prompts]
        for prompt, handle in zip(prompts, handles, strict=True):
            assert tokens(handle.result(30)) == expected_tokens(prompt, 9, VOCAB)
        assert any(d.action == "preempt" for record in engine.core.trace for d in record.decisions)


def test_metrics_are_in_order_and_on_the_engines_clock():
    with Engine() as engine:
        metrics = engine.submit([1, 2, 3], max_tokens=5).result(10).metrics
        moments = [
            metrics.arrival_time,
            metrics.first_scheduled_time,
            metrics.first_token_time,
            metrics.last_token_time,
            metrics.finished_time,
        ]
        assert moments == sorted(moments)
        assert metrics.time_to_first_token == metrics.first_token_time - metrics.arrival_time
        assert metrics.time_in_queue >= 0


def test_pieces_come_in_order_and_every_iteration_begins_at_the_first():
    with Engine() as engine:
        handle = engine.submit([1, 2], max_tokens=6)
        first, again = list(handle), list(handle)
        assert first == again
        assert [t for piece in first for t in piece.token_ids] == expected_tokens([1, 2], 6, VOCAB)
        assert [piece.finish_reason for piece in first] == [None] * 6 + ["length"]
        assert "".join(map(str, first)) == handle.result().outputs[0].text


def test_async_iteration_lets_the_event_loop_go_on():
    async def main(engine):
        engine.loop.set_speed(200.0)
        ticks = 0

        async def tick():
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0.001)

        ticker = asyncio.create_task(tick())
        found = [t async for piece in engine.submit([3], max_tokens=10) for t in piece.token_ids]
        ticker.cancel()
        return found, ticks

    with Engine() as engine:
        found, ticks = run_async(main(engine))
    assert found == expected_tokens([3], 10, VOCAB)
    assert ticks > 3


def test_n_completions_of_one_prompt():
    with Engine() as engine:
        output = engine.submit([1, 2, 3, 4, 5, 6], max_tokens=4, n=3).result(10)
    assert [c.index for c in output.outputs] == [0, 1, 2]
    assert {tuple(c.token_ids) for c in output.outputs} == {tuple(expected_tokens([1, 2, 3, 4, 5, 6], 4, VOCAB))}


@pytest.mark.parametrize("include", [False, True])
def test_a_stop_string_ends_the_text_and_partial_matches_are_held_back(include):
    prompt = [1, 2, 3]
    letters = LetterTokenizer().decode(expected_tokens(prompt, 12, VOCAB))
    stop = letters[6:9]
    cut = letters.index(stop)
    expected = letters[: cut + (len(stop) if include else 0)]
    with Engine() as engine:
        handle = engine.submit(prompt, max_tokens=12, stop=[stop, "never there"], include_stop_str_in_output=include)
        pieces = [piece.text for piece in handle]
        done = handle.result(10).outputs[0]
    assert (done.text, done.finish_reason, done.stop_reason) == (expected, "stop", stop)
    assert "".join(pieces) == expected


def test_no_stop_string_before_min_tokens():
    prompt = [1, 2, 3]
    letters = LetterTokenizer().decode(expected_tokens(prompt, 12, VOCAB))
    with Engine() as engine:
        done = engine.submit(prompt, max_tokens=12, min_tokens=8, stop=[letters[1]]).result(10).outputs[0]
    assert len(done.token_ids) >= 8


def test_cancel_ends_one_request_and_only_that():
    with Engine() as engine:
        engine.loop.set_speed(100.0)
        doomed, other = engine.submit([1], max_tokens=100), engine.submit([2], max_tokens=5)
        next(iter(doomed))
        doomed.cancel()
        assert doomed.result(10).outputs[0].finish_reason == "abort"
        assert tokens(other.result(10)) == expected_tokens([2], 5, VOCAB)
        doomed.cancel()  # no effect


def test_a_timeout_leaves_the_request_running():
    with Engine() as engine:
        engine.loop.pause()
        handle = engine.submit([1], max_tokens=3)
        with pytest.raises(ResultTimeoutError, match="r1 did not finish within"):
            handle.result(0.01)
        engine.loop.resume()
        assert tokens(handle.result(10)) == expected_tokens([1], 3, VOCAB)


def test_pause_step_resume():
    with Engine() as engine:
        engine.loop.pause()
        handle = engine.submit([1, 2, 3], max_tokens=5)
        records = engine.loop.step(2).result(10)
        assert [len(r.sampled) for r in records] == [1, 1]
        assert engine.loop.status().state == "paused"
        assert len(handle.output().outputs[0].token_ids) == 2
        assert len(engine.loop.step(50).result(10)) == 3  # the work runs out
        assert engine.loop.step(1).result(10) == []
        with pytest.raises(ConfigError, match="at least 1"):
            engine.loop.step(0)
        engine.loop.resume()
        assert handle.done()


def test_what_happens_while_paused_is_recorded_and_shown():
    with Engine() as engine:
        engine.loop.pause()
        first, _second = engine.submit([1], max_tokens=3), engine.submit([2], max_tokens=3)
        first.cancel()
        first.result(10)
        engine.loop.call(lambda: None)
        wait_until(lambda: engine.core.trace.at().waiting == ("r2",))
        last = engine.core.trace.record(engine.core.trace.last_step)
        assert {d.reason for d in last.decisions} == {"paused"}
        assert engine.core.trace.at() == engine.loop.call(engine.core.scheduler.snapshot)


def test_a_waiting_cell_hears_that_the_engine_is_paused(capsys):
    with Engine() as engine:
        engine.loop.pause()
        handle = engine.submit([1], max_tokens=3)
        threading.Timer(1.5, engine.loop.resume).start()
        handle.result(10)
    assert capsys.readouterr().out == "paused\n"


def test_slow_motion_and_back():
    with Engine() as engine:
        engine.loop.set_speed(2.0)
        handle = engine.submit([1], max_tokens=100)
        time.sleep(0.2)
        assert len(engine.core.trace) <= 3
        engine.loop.set_speed(None)
        handle.result(10)
        for bad in (0, -1.0, "fast", True):
            with pytest.raises(ConfigError, match="steps a second"):
                engine.loop.set_speed(bad)


def test_knobs_are_all_or_nothing_and_recorded():
    with Engine() as engine:
        with pytest.raises(ConfigError, match="max_num_seqs must be at least 1"):
            engine.loop.configure({"max_num_batched_tokens": 9, "max_num_seqs": 0})
        assert engine.core.scheduler.config.max_num_batched_tokens == 64
        with pytest.raises(ConfigError, match="block_size"):
            engine.loop.configure({"max_model_len": 8})
        with pytest.raises(ConfigError, match="scheduling_policy"):
            engine.loop.configure({"max_num_seqs": 3, "scheduling_policy": "longest"})
        assert engine.core.scheduler.config.max_num_seqs == 8
        engine.loop.configure({"max_num_seqs": 3, "scheduling_policy": "priority"})
        wait_until(lambda: len(engine.core.trace) == 1)
        changes = engine.core.trace.record(0).changes
        assert [c[:2] for c in changes] == [("scheduling_policy", "priority"), ("max_num_seqs", "3")]


def test_a_step_that_fails_ends_its_requests_and_the_loop_lives():
    with Engine(runner={"fail_steps": [1]}) as engine:
        engine.loop.pause()
        handle = engine.submit([1], max_tokens=5)
        engine.loop.resume()
        done = handle.result(10).outputs[0]
        assert done.finish_reason == "error"
        assert "MemoryError" in done.stop_reason
        assert tokens(engine.submit([2], max_tokens=5).result(10)) == expected_tokens([2], 5, VOCAB)


def test_a_request_that_fails_ends_alone():
    with Engine(runner={"fail_requests": ["r1"]}) as engine:
        bad, good = engine.submit([1], max_tokens=5), engine.submit([2], max_tokens=5)
        assert bad.result(10).outputs[0].finish_reason == "error"
        assert tokens(good.result(10)) == expected_tokens([2], 5, VOCAB)


def test_a_hook_that_raises_is_removed_and_the_run_goes_on(caplog):
    with Engine() as engine:
        seen = []

        def bad(record):
            raise ValueError("no")

        engine.core.hooks.on_step(bad)
        remove = engine.core.hooks.on_step(lambda record: seen.append(record.step))
        engine.submit([1], max_tokens=5).result(10)
        engine.loop.call(lambda: None)
        remove()
        engine.submit([1], max_tokens=5).result(10)
        engine.loop.call(lambda: None)
    assert seen == list(range(5))
    assert sum("was removed" in r.message for r in caplog.records) == 1


def test_a_bug_in_the_engine_ends_requests_and_is_told(caplog):
    with Engine() as engine:
        engine.loop.pause()
        handle = engine.submit([1], max_tokens=5)
        engine.loop.call(lambda: setattr(engine.core.scheduler, "schedule", lambda: 1 / 0))
        engine.loop.resume()
        assert handle.result(10).outputs[0].finish_reason == "abort"
        assert "division by zero" in engine.loop.status().message
        assert engine.loop.status().state == "error"
        engine.loop.call(lambda: delattr(engine.core.scheduler, "schedule"))
        assert tokens(engine.submit([2], max_tokens=2).result(10)) == expected_tokens([2], 2, VOCAB)
        assert engine.loop.status().state == "idle"
    assert "the engine's step failed" in caplog.text


def test_shutdown_wakes_those_who_wait_and_refuses_the_rest():
    engine = Engine()
    engine.loop.pause()
    handle = engine.submit([1], max_tokens=5)
    threading.Timer(0.1, engine.loop.shutdown).start()
    with pytest.raises(EngineClosedError, match="r1"):
        handle.result(10)
    engine.loop.shutdown()
    assert engine.runner.closed
    assert engine.loop.status().state == "closed"
    with pytest.raises(EngineClosedError, match="make a new LLM"):
        engine.submit([1])


def test_many_threads_submit_at_once():
    with Engine(num_blocks=40) as engine:
        results = {}

        def work(seed):
            for i in range(5):
                prompt = [seed, i]
                results[seed, i] = tokens(engine.submit(prompt, max_tokens=4).result(30)) == expected_tokens(
                    prompt, 4, VOCAB
                )

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(results) == 40
    assert all(results.values())


def test_the_trace_equals_the_engine_at_every_step():
    with Engine(num_blocks=10, max_num_batched_tokens=9) as engine:
        states = {}
        engine.core.hooks.on_step(lambda r: states.__setitem__(r.step, engine.core.scheduler.snapshot()))
        handles = [engine.submit([i, i + 1, i + 2], max_tokens=12) for i in range(8)]
        for handle in handles:
            handle.result(30)
        engine.loop.call(lambda: None)
        assert len(states) > 12
        for step, state in states.items():
            assert engine.core.trace.at(step) == state


def test_a_command_that_raises_does_not_end_the_loop(caplog):
    with Engine() as engine:
        engine.loop.post(lambda: 1 / 0)
        assert tokens(engine.submit([2], max_tokens=2).result(10)) == expected_tokens([2], 2, VOCAB)
    assert "a command failed" in caplog.text


def test_the_first_token_s_time_is_the_same_in_the_trace_and_for_the_client():
    """Both read one clock. It stands still but for the runner, which takes 5 ms a step, so that nothing else counts."""
    ticks = [0.0]

    class SlowRunner(FakeRunner):
        def execute(self, plan):
            ticks[0] += 0.005
            return dataclasses.replace(super().execute(plan), forward_seconds=0.005)

    config = make_scheduler(max_num_batched_tokens=8).config
    core = EngineCore(SlowRunner(config), config, make_policy("fcfs"), 100, clock=lambda: ticks[0])
    streams = []
    for index in range(3):
        params = SamplingParams(max_tokens=4)
        stream = RequestStream(f"r{index}", None, tuple(range(7)), params, None, core.now())
        core.add_request(stream, 0, "")
        streams.append(stream)
        core.step()
    while core.has_work():
        core.step()
    metrics = measure(core.trace)
    for stream in streams:
        client = stream.first_token_time - stream.arrival_time
        assert metrics[stream.request_id].ttft == pytest.approx(client, abs=1e-9)
        assert client > 0.0049
        ended = stream.finished_time - stream.arrival_time
        assert metrics[stream.request_id].e2e == pytest.approx(ended, abs=1e-9)
