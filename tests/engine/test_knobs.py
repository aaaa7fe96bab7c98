"""Knobs of the KV pool on a running engine: predicted, changed, measured, recorded; and nothing is lost."""

import random
import threading

import pytest

from tests.engine.helpers import VOCAB, Engine, wait_until
from workbench.core.errors import ConfigError, DoesNotFitError, KVCacheTooSmallError
from workbench.core.scheduler_output import Action, Reason
from workbench.sim import expected_tokens
from workbench.trace import Trace

PROMPTS = [[i % VOCAB] * (5 + i % 7) for i in range(12)]


def busy(engine, count=6, max_tokens=24):
    """Some requests that have run a few steps, in an engine that is paused."""
    engine.loop.pause()
    handles = [engine.submit(prompt, max_tokens=max_tokens) for prompt in PROMPTS[:count]]
    engine.loop.step(6).result(10)
    return handles


def finish(engine, handles):
    engine.loop.resume()
    for prompt, handle in zip(PROMPTS, handles, strict=False):
        output = handle.result(30).outputs[0]
        assert list(output.token_ids) == expected_tokens(prompt, len(output.token_ids), VOCAB)
        assert output.finish_reason == "length"


def test_a_growing_pool_is_a_step_of_its_own_and_changes_nobody():
    with Engine(num_blocks=20) as engine:
        handles = busy(engine)
        change = engine.loop.configure({"num_gpu_blocks_override": 50})
        assert change.before.num_blocks == 20
        assert change.predicted == change.measured
        assert (change.measured.num_blocks, change.measured.num_preempted) == (50, 0)
        assert change.requested == {"num_gpu_blocks_override": 50}
        assert change.resolved["num_gpu_blocks_override"] == 50
        record = engine.core.trace.record(change.step)
        assert record.pool.num_blocks == 50
        assert [c[:2] for c in record.changes] == [("num_gpu_blocks_override", "50")]
        assert {d.reason for d in record.decisions} == {Reason.RECONFIGURED}
        assert all(d.action is Action.WAIT for d in record.decisions)
        assert engine.core.trace.at() == engine.core.scheduler.snapshot()
        finish(engine, handles)


def test_a_shrinking_pool_loses_cached_blocks_first_then_preempts_by_the_policy():
    with Engine(num_blocks=40) as engine:
        done = engine.submit([9] * 20, max_tokens=4)
        done.result(10)
        handles = busy(engine, count=4)
        scheduler = engine.core.scheduler
        used = 40 - scheduler.kv.pool.num_free
        first = engine.loop.configure({"num_gpu_blocks_override": used + 1})
        assert first.predicted == first.measured
        assert first.measured.num_preempted == 0
        assert first.measured.num_evicted > 0
        last = scheduler.running[-1].request_id
        second = engine.loop.configure({"num_gpu_blocks_override": used - 1})
        assert second.predicted == second.measured
        assert second.measured.num_preempted == 1
        told = [d for d in engine.core.trace.record(second.step).decisions if d.action is Action.PREEMPT]
        assert [(d.request_id, d.other) for d in told] == [(last, f"num_gpu_blocks_override={used - 1}")]
        assert engine.core.trace.at() == scheduler.snapshot()
        finish(engine, handles)


@pytest.mark.parametrize("changes", [{"block_size": 2}, {"block_size": 16}, {"kv_cache_dtype": "int8"}])
def test_another_kind_of_pool_is_drained_first_and_everything_computed_again(changes):
    with Engine(num_blocks=64) as engine:
        handles = busy(engine)
        running = {r.request_id for r in engine.core.scheduler.running}
        change = engine.loop.configure(changes)
        assert change.predicted == change.measured
        assert change.measured.num_preempted == len(running) > 0
        assert "computed again" in change.notes[0]
        assert change.measured.kv_cache_bytes == change.before.kv_cache_bytes
        assert {d.request_id for d in engine.core.trace.record(change.step).decisions if d.need == 0} >= running
        assert engine.core.trace.at() == engine.core.scheduler.snapshot()
        finish(engine, handles)
        assert "made its KV useless" in repr(engine.core.trace.why(min(running)))


def test_a_knob_that_would_strand_a_request_is_refused_with_the_arithmetic():
    with Engine(num_blocks=40) as engine:
        handles = busy(engine)
        before, steps = engine.core.scheduler.snapshot(), len(engine.core.trace)
        with pytest.raises(DoesNotFitError, match=r"r\d .*need 9 blocks of 4 tokens.*keep at least 9") as refused:
            engine.loop.configure({"num_gpu_blocks_override": 7, "max_num_seqs": 1, "scheduling_policy": "sjf"})
        assert (refused.value.need, refused.value.have) == (9, 7)
        assert "need 9 blocks" in engine.core.predict({"num_gpu_blocks_override": 7}).refused
        assert engine.core.scheduler.snapshot() == before
        assert len(engine.core.trace) == steps
        assert engine.core.scheduler.config.max_num_seqs == 8
        assert engine.core.scheduler.policy.name == "fcfs"
        finish(engine, handles)


@pytest.mark.parametrize(
    ("changes", "instead"),
    [
        ({"num_gpu_blocks_override": 60, "max_num_seqs": 3}, {"kv_cache_memory_bytes": 50 * 32, "max_num_seqs": 3}),
        ({"kv_cache_memory_bytes": 100}, {"kv_cache_memory_bytes": 9 * 32}),
        ({"kv_cache_memory_bytes": 1}, {"kv_cache_memory_bytes": 9 * 32}),  # first one block, then the longest request
        ({"block_size": 200, "kv_cache_memory_bytes": 1}, {"block_size": 200, "kv_cache_memory_bytes": 1600}),
        ({"block_size": 400}, None),  # one such block is more than the memory
    ],
)
def test_a_refusal_names_the_smallest_change_that_fits(changes, instead):
    with Engine(num_blocks=40, runner={"memory_limit": 50 * 32}) as engine:
        handles = busy(engine)
        refused = engine.core.predict(changes)
        assert refused.refused
        assert refused.instead == instead
        if instead is not None:
            assert (
                f"kv_cache_memory_bytes={instead['kv_cache_memory_bytes']}"
                in repr(refused).split("This would fit: ")[1]
            )
            assert engine.core.predict(instead).refused is None
            change = engine.loop.configure(instead)
            assert change.measured.num_blocks == change.predicted.num_blocks
        finish(engine, handles)


def test_who_is_preempted_is_predicted_by_name():
    with Engine(num_blocks=40) as engine:
        handles = busy(engine, count=4)
        shrunk = {"num_gpu_blocks_override": 40 - engine.core.scheduler.kv.pool.num_free - 1}
        predicted = engine.core.predict(shrunk)
        assert predicted.preempted == ("r4",)
        assert "Preempted: r4." in repr(predicted)
        assert engine.loop.configure(shrunk).preempted == predicted.preempted
        finish(engine, handles)


def test_memory_that_is_not_there_is_refused_and_leaves_everything():
    with Engine(num_blocks=40, runner={"memory_limit": 50 * 32}) as engine:
        handles = busy(engine)
        with pytest.raises(DoesNotFitError, match="bytes"):
            engine.loop.configure({"num_gpu_blocks_override": 60})
        assert engine.core.scheduler.config.num_blocks == 40
        finish(engine, handles)


@pytest.mark.parametrize(
    "changes",
    [
        {"num_gpu_blocks_override": 60},
        {"num_gpu_blocks_override": 15},
        {"kv_cache_dtype": "int8"},
        {"block_size": 8, "scheduling_policy": "sjf"},
    ],
)
def test_running_out_of_memory_in_the_middle_leaves_the_old_pool_and_all_requests(changes):
    with Engine(num_blocks=40, runner={"fail_pools": True}) as engine:
        handles = busy(engine)
        with pytest.raises(KVCacheTooSmallError, match="told to fail"):
            engine.loop.configure(changes)
        config = engine.core.scheduler.config
        assert (config.num_blocks, config.block_size, config.kv_cache_dtype) == (40, 4, "auto")
        assert engine.core.scheduler.policy.name == "fcfs"
        engine.core.scheduler.check_invariants()
        assert engine.core.trace.at() == engine.core.scheduler.snapshot()
        finish(engine, handles)


def test_a_prediction_changes_nothing():
    with Engine(num_blocks=40) as engine:
        handles = busy(engine)
        before = engine.core.scheduler.snapshot()
        predicted = engine.core.predict({"num_gpu_blocks_override": 10, "max_num_seqs": 2})
        assert predicted.measured is None
        assert predicted.predicted.num_blocks == 10
        assert predicted.predicted.num_preempted > 0
        assert "predicted only" in repr(predicted)
        assert "<table>" in predicted._repr_html_()
        assert engine.core.scheduler.snapshot() == before
        finish(engine, handles)


def test_one_size_at_a_time():
    with Engine() as engine:
        with pytest.raises(ConfigError, match="give one of them"):
            engine.loop.configure({"num_gpu_blocks_override": 60, "kv_cache_memory_bytes": 10**6})
        with pytest.raises(ConfigError, match="kv_cache_dtype must be one of"):
            engine.loop.configure({"kv_cache_dtype": "int3"})


def test_the_speed_before_and_after_comes_from_the_records():
    with Engine(num_blocks=40) as engine:
        handles = busy(engine)
        change = engine.loop.configure({"max_num_seqs": 2})
        assert change.speed().after is None
        finish(engine, handles)
        assert min(change.speed()) > 0
        assert "tokens/s" in repr(change)


def test_a_saved_trace_keeps_its_pools(tmp_path):
    with Engine(num_blocks=40) as engine:
        handles = busy(engine)
        for blocks, size in ((60, 4), (14, 4), (30, 2)):
            engine.loop.configure({"num_gpu_blocks_override": blocks, "block_size": size})
            engine.loop.step(3).result(10)
        finish(engine, handles)
        trace = engine.core.trace
        again = Trace.load(trace.save(tmp_path / "run.trace"))
        assert again.records()[-1].pool == trace.records()[-1].pool
        for step in range(trace.last_step + 1):
            assert again.at(step) == trace.at(step)


def test_a_storm_of_knobs_loses_no_request():
    draw = random.Random(5)
    with Engine(num_blocks=64, max_num_seqs=64, trace_steps=400) as engine:
        engine.loop.set_speed(None)
        handles = [engine.submit([i % VOCAB, i % 3], max_tokens=24) for i in range(64)]
        refused = []

        def turn(seed):
            own = random.Random(seed)
            for _ in range(100):
                changes = {
                    own.choice(["num_gpu_blocks_override", "kv_cache_memory_bytes"]): own.randint(1, 2000),
                    "max_num_seqs": own.randint(1, 64),
                    "max_num_batched_tokens": own.randint(1, 64),
                    "enable_prefix_caching": own.random() < 0.7,
                }
                if own.random() < 0.3:
                    changes["block_size"] = own.choice([1, 2, 4, 8])
                if own.random() < 0.2:
                    changes["kv_cache_dtype"] = own.choice(["auto", "int8", "fp8"])
                try:
                    engine.loop.configure(changes)
                except ConfigError as error:
                    refused.append(error)

        threads = [threading.Thread(target=turn, args=(draw.random(),)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        engine.loop.configure({"max_num_seqs": 64, "max_num_batched_tokens": 512})
        for i, handle in enumerate(handles):
            assert list(handle.result(30).outputs[0].token_ids) == expected_tokens([i % VOCAB, i % 3], 24, VOCAB)
        wait_until(lambda: engine.loop.status().state == "idle")
        engine.core.scheduler.check_invariants()
        assert engine.core.trace.at() == engine.core.scheduler.snapshot()
        assert 0 < len(refused) < 300
