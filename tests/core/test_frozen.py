"""Frozen states: equal to the live one whatever happened, unchanged by what comes later, and cheap."""

import random

import pytest

from tests.core.helpers import make_scheduler, record_of
from workbench.core.block_pool import BlockPool
from workbench.core.config import PoolShape
from workbench.core.frozen import PAGE
from workbench.core.sampling_params import SamplingParams
from workbench.core.scheduler_output import SampledToken
from workbench.trace import Trace
from workbench.trace.keyframes import PAGE_BYTES, Keyframes


def columns(pool):
    return tuple(pool.ref_counts), tuple(found or "" for found in pool.hashes), tuple(pool.free_blocks())


def written(frozen):
    return frozen.ref_counts(), frozen.hashes(), frozen.free()


@pytest.mark.parametrize("seed", range(6))
def test_every_frozen_state_stays_what_the_pool_was(seed, monkeypatch):
    monkeypatch.setattr("workbench.core.block_pool.PAGE", 3)
    draw = random.Random(seed)
    scheduler = make_scheduler(num_blocks=31, block_size=2, max_num_seqs=6, max_num_batched_tokens=40)
    pool, frozen = scheduler.kv.pool, []
    for step in range(200):
        if draw.random() < 0.3:
            prompt = [draw.randrange(2) for _ in range(draw.randint(1, 14))]
            params = SamplingParams(max_tokens=draw.randint(1, 12), n=draw.randint(1, 2))
            scheduler.add_request(f"r{step}", prompt, params, arrival_time=0.0)
        if draw.random() < 0.05:
            shape = PoolShape(draw.randint(26, 40), 2, "auto", 8)
            scheduler.change_pool(scheduler.config.with_pool(shape), "a knob", recompute=False)
            plan = scheduler.hold()
        else:
            plan = scheduler.schedule()
            scheduler.update(plan, {s.request_id: SampledToken(1) for s in plan.scheduled if s.sample}, {}, {})
        if draw.random() < 0.05:
            pool.reset_cache()
        record_of(scheduler, plan)
        if draw.random() < 0.5:
            frozen.append((pool.freeze(), columns(pool)))
    assert len(frozen) > 50
    assert all(written(state) == expected for state, expected in frozen)


def test_only_pages_that_changed_are_copied():
    pool = BlockPool(40 * PAGE)
    before = pool.freeze()
    taken = [pool.allocate("r") for _ in range(3)]
    after = pool.freeze()
    fresh = [page for page in after.pages if all(page is not other for other in before.pages)]
    assert len(after.pages) == 41
    assert len(fresh) == 2  # the page of the blocks, and the one with the head of the free list
    assert written(after) == columns(pool)
    assert before.free()[:3] == tuple(taken)


def test_pages_that_keyframes_share_are_counted_once(monkeypatch):
    monkeypatch.setattr("workbench.trace.keyframes.KEYFRAME_STEPS", 1)
    scheduler = make_scheduler(num_blocks=8 * PAGE)
    scheduler.add_request("r", [1] * 9, SamplingParams(max_tokens=30), arrival_time=0.0)
    keyframes = Keyframes()
    for step in range(20):
        plan = scheduler.schedule()
        scheduler.update(plan, {"r": SampledToken(1)}, {}, {})
        keyframes.keep(scheduler.freeze())
        assert set(keyframes.frames) == set(range(step + 1))
    assert 9 * PAGE_BYTES < keyframes.num_bytes < 30 * PAGE_BYTES  # 20 whole pools would be 180 pages
    for step in range(19):
        keyframes.drop(step)
    assert 9 * PAGE_BYTES < keyframes.num_bytes < 10 * PAGE_BYTES


def test_a_trace_opens_a_frozen_keyframe():
    scheduler = make_scheduler(num_blocks=3 * PAGE, max_model_len=2048)
    trace, states = Trace(scheduler.snapshot(), 1000), {}
    scheduler.add_request("r", [1] * 9, SamplingParams(max_tokens=600), arrival_time=0.0)
    for step in range(520):
        plan = scheduler.schedule()
        scheduler.update(plan, {"r": SampledToken(step % 5)}, {}, {})
        trace.append(record_of(scheduler, plan), scheduler.freeze)
        states[step] = scheduler.snapshot()
    for step in (256, 300, 512, 519, 0, 255):
        assert trace.at(step) == states[step]
