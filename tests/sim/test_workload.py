"""Workloads: the same list for the same seed, lengths in their ranges, nonsense refused by name."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.engine.helpers import Engine
from workbench.core.errors import ConfigError
from workbench.sim import LogNormal, Uniform, Workload, WorkloadRequest

SIZES = {"prompt_len": (3, 9), "output_len": 4}


def test_poisson_has_its_rate_and_its_lengths():
    made = Workload.poisson(rate=50, count=2000, seed=1, **SIZES)
    assert len(made) == 2000
    assert made[-1].time == pytest.approx(40, rel=0.1)
    assert [r.time for r in made] == sorted(r.time for r in made)
    assert {len(r.prompt_token_ids) for r in made} == set(range(3, 10))
    assert {r.output_lens for r in made} == {(4,)}
    assert made.requests == Workload.poisson(rate=50, count=2000, seed=1, **SIZES).requests
    assert made.requests != Workload.poisson(rate=50, count=2000, seed=2, **SIZES).requests


def test_poisson_for_a_duration():
    made = Workload.poisson(rate=100, duration=3.0, seed=0, **SIZES)
    assert 200 < len(made) < 400
    assert made[-1].time < 3.0


def test_bursts():
    made = Workload.bursts(num_bursts=3, burst_size=2, interval=0.5, seed=0, **SIZES)
    assert [r.time for r in made] == [0, 0, 0.5, 0.5, 1.0, 1.0]


def test_closed_loop_chains_each_user():
    made = Workload.closed_loop(num_users=2, requests_per_user=3, think_time=0.1, seed=0, **SIZES)
    assert [r.after for r in made] == [None, None, 0, 1, 2, 3]
    assert made[0].time == made[1].time == 0.0
    assert all(r.time > 0 for r in made[2:])
    busy = Workload.closed_loop(num_users=1, requests_per_user=2, seed=0, **SIZES)
    assert [r.time for r in busy] == [0.0, 0.0]


def test_shared_prefixes_and_priorities():
    plain = Workload.poisson(rate=10, count=400, seed=3, **SIZES)
    made = plain.with_shared_prefix(fraction=0.5, prefix_len=20, groups=2, seed=4)
    prefixed = [r.prompt_token_ids[:20] for r in made if len(r.prompt_token_ids) >= 23]
    assert len(set(prefixed)) == 2
    assert 140 < len(prefixed) < 260
    assert [r.prompt_token_ids[-3:] for r in made] == [r.prompt_token_ids[-3:] for r in plain]
    mixed = made.with_priorities({0: 0.75, -1: 0.25}, seed=5)
    assert 50 < sum(r.priority == -1 for r in mixed) < 150
    assert "priorities" in repr(mixed)
    assert "shared prefixes" in repr(mixed)


def test_listed_rows():
    made = Workload.listed([(0.0, 5, 2), (1.5, [1, 2, 3], 4, -1)], seed=0)
    assert [len(r.prompt_token_ids) for r in made] == [5, 3]
    assert (made[1].prompt_token_ids, made[1].output_lens, made[1].priority) == ((1, 2, 3), (4,), -1)
    assert made.num_prompt_tokens == 8
    assert made.num_output_tokens == 6
    assert repr(made) == "Workload(listed: 2 requests in 1.5 s (1.33/s), prompts 3 to 5 tokens, outputs 2 to 4 tokens)"
    assert repr(Workload([])) == "Workload(workload: no requests)"


@given(
    low=st.integers(1, 50),
    width=st.integers(0, 50),
    median=st.floats(0.5, 1000),
    sigma=st.floats(0, 3),
    seed=st.integers(0, 100),
)
def test_lengths_stay_in_their_range(low, width, median, sigma, seed):
    for distribution in (Uniform(low, low + width), LogNormal(median, sigma, low, low + width)):
        rng = random.Random(seed)
        assert all(low <= distribution.draw(rng) <= low + width for _ in range(20))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Workload.poisson(rate=0, count=1, seed=0, **SIZES),
        lambda: Workload.poisson(rate=float("nan"), count=1, seed=0, **SIZES),
        lambda: Workload.poisson(rate=1, seed=0, **SIZES),
        lambda: Workload.poisson(rate=1, count=1, duration=1, seed=0, **SIZES),
        lambda: Workload.poisson(rate=1, count=0, seed=0, **SIZES),
        lambda: Workload.poisson(rate=1, count=1, seed=0, prompt_len=0, output_len=1),
        lambda: Workload.poisson(rate=1, count=1, seed=0, prompt_len=(5, 2), output_len=1),
        lambda: Workload.poisson(rate=1, count=1, seed=0, prompt_len=(1, 2, 3), output_len=1),
        lambda: Workload.poisson(rate=1, count=1, seed=0, prompt_len="long", output_len=1),
        lambda: Workload.poisson(rate=1, count=1, seed=0, prompt_len=True, output_len=1),
        lambda: Workload.bursts(num_bursts=1, burst_size=0, interval=1, seed=0, **SIZES),
        lambda: Workload.bursts(num_bursts=1, burst_size=1, interval=-1, seed=0, **SIZES),
        lambda: Workload.closed_loop(num_users=1, requests_per_user=1, think_time=-1, seed=0, **SIZES),
        lambda: Workload([]).with_shared_prefix(fraction=1.5, prefix_len=1, seed=0),
        lambda: Workload([]).with_priorities({}, seed=0),
        lambda: Workload.listed([(-1.0, 5, 2)], seed=0),
        lambda: Workload.listed([(0.0, [], 2)], seed=0),
        lambda: Workload.listed([(0.0, 5, 0)], seed=0),
        lambda: Workload([WorkloadRequest(0.0, (1,), (5,), max_tokens=4)]),
        lambda: Workload([WorkloadRequest(0.0, (1,), (5,), after=0)]),
        lambda: LogNormal(0, 1, 1, 2),
    ],
)
def test_nonsense_is_refused(make):
    with pytest.raises(ConfigError):
        make()


def test_from_a_recorded_run():
    with Engine(eos_token_ids=()) as engine:
        engine.loop.pause()
        first = engine.submit([1, 2, 3], max_tokens=5, priority=1)
        second = engine.submit([4] * 9, max_tokens=6, n=2)
        cancelled = engine.submit([5], max_tokens=50)
        engine.loop.step(1).result()
        cancelled.cancel()
        engine.loop.resume()
        first.result(), second.result(), cancelled.result()
        engine.submit([6], max_tokens=5).result()
        trace = engine.core.trace
    made = Workload.from_trace(trace)
    assert [r.request_id for r in made] == ["r1", "r2", "r3", "r4"]
    assert made[0].time == 0.0
    assert (made[0].output_lens, made[0].max_tokens, made[0].priority) == ((5,), 5, 1)
    assert made[1].output_lens == (6, 6)
    assert len(made[1].output_token_ids[0]) == 6
    assert (made[2].output_lens, made[2].max_tokens) == ((1,), 50)
    later = Workload.from_trace(trace.records(since=1))
    assert later.num_left_out == 3  # sequences; the cancelled one has no decision after step 0
    assert [r.request_id for r in later] == ["r4"]
