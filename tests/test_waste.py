"""The waste meter against counts made by hand, and against the simulator's own account of the same run."""

import pytest

from tests.engine.helpers import Engine
from workbench.simulate import simulate
from workbench.waste import waste_of


def test_held_and_used_of_one_request_by_hand():
    with Engine(num_blocks=20) as engine:
        engine.loop.pause()
        handle = engine.submit([1, 2, 3, 4, 5], max_tokens=4)
        engine.loop.step(1).result(10)
        [sample] = waste_of(engine.core.trace).samples
        # 5 tokens in two blocks of 4; one token made so far, max_model_len 128.
        assert (sample.paged_held, sample.paged_used, sample.used) == (8, 5, 5)
        assert (sample.contiguous_exact, sample.contiguous_pow2, sample.contiguous_max) == (6, 6, 128)
        engine.loop.resume()
        handle.result(10)
        waste = waste_of(engine.core.trace)
        # In the end it made 4 tokens, and the first step's account knows that.
        assert waste.samples[0][5:] == (9, 9, 128)
        assert waste.bytes_per_token == 8
        assert 0 < waste.share() < waste.share("contiguous_max") < 1
        assert waste.used_bytes() <= waste.held_bytes() < waste.held_bytes("contiguous_max") == 128 * 8
        assert "for max_model_len" in repr(waste)
        assert "<table>" in waste._repr_html_()


def test_shared_blocks_are_held_once():
    with Engine(num_blocks=20) as engine:
        engine.loop.pause()
        engine.submit([1, 2, 3, 4, 5, 6], max_tokens=8, n=3)
        engine.loop.step(2).result(10)
        sample = waste_of(engine.core.trace).samples[-1]
        held = 20 - engine.core.scheduler.kv.pool.num_free
        assert sample.paged_held == held * 4
        assert sample.used == sum(r.num_computed_tokens for r in engine.core.scheduler.running) > sample.paged_used


def test_it_agrees_with_the_simulators_account_of_the_same_run():
    with Engine(num_blocks=24) as engine:
        engine.loop.pause()
        handles = [engine.submit([i] * (5 + i), max_tokens=12) for i in range(6)]
        engine.loop.resume()
        for handle in handles:
            handle.result(10)
        trace = engine.core.trace
        # Before it ends, a step's requests still hold what the account after it no longer sees.
        during = {s.time: s for s in simulate(trace, step_times="recorded").memory}
        waste = waste_of(trace)
        endings = {record.step for record in trace.records() if record.finished}
        compared = 0
        for step, sample in zip(waste.steps, waste.samples, strict=True):
            if step not in endings:
                assert sample[2:] == during[sample.time][2:]
                compared += 1
        assert compared > 8


def test_nothing_held_is_said():
    with Engine() as engine:
        waste = waste_of(engine.core.trace)
        assert waste.samples == ()
        assert (waste.share(), waste.held_bytes()) == (0.0, 0.0)
        assert "no step is recorded" in repr(waste)


@pytest.mark.parametrize("scheme", ["paged", "contiguous_exact", "contiguous_pow2", "contiguous_max"])
def test_a_share_is_one_of_what_is_held(scheme):
    with Engine(num_blocks=24) as engine:
        engine.submit([1] * 9, max_tokens=5).result(10)
        waste = waste_of(engine.core.trace)
        seconds = sum(s.seconds for s in waste.samples)
        stored = waste.held_bytes(scheme) * (1 - waste.share(scheme)) / waste.bytes_per_token
        used = sum((s.paged_used if scheme == "paged" else s.used) * s.seconds for s in waste.samples) / seconds
        assert stored == pytest.approx(used)
