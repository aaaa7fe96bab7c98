"""The simulator: a clock that goes by the plan, closed loops, static batching, memory by scheme."""

import pytest

from workbench.core.config import SchedulerConfig
from workbench.core.policy import make_policy
from workbench.core.scheduler_output import Action, Reason
from workbench.sim import Simulator, Workload, WorkloadRequest
from workbench.sim.batching import make_batching
from workbench.sim.memory_account import next_power_of_two
from workbench.trace.metrics import measure, percentile

CONFIG = SchedulerConfig(
    num_blocks=64, block_size=4, max_num_seqs=4, max_num_batched_tokens=64, max_model_len=64, vocab_size=100
)
STEP = 0.01


def simulated(workload, batching="continuous", gap=0.0, **changes):
    config = CONFIG.with_changes(**changes)
    simulator = Simulator(
        workload,
        config,
        make_policy("fcfs"),
        lambda plan: STEP,
        gap=gap,
        static=make_batching(batching, config.max_num_seqs),
    )
    records = []
    for record in simulator.run():
        simulator.scheduler.check_invariants()
        records.append(record)
    return simulator, records


def ids(count, start=0):
    return tuple((start * 31 + i) % 100 for i in range(count))


def test_the_clock_and_the_lengths():
    work = Workload([WorkloadRequest(0.0, ids(5), (3,)), WorkloadRequest(1.0, ids(5, 1), (2,), max_tokens=9)])
    _, records = simulated(work, gap=0.001)
    assert [r.time for r in records] == pytest.approx([0.0, 0.011, 0.022, 1.0, 1.011])
    got = measure(records)
    assert {name: m.num_output_tokens for name, m in got.items()} == {"r1": 3, "r2": 2}
    assert {name: m.finish_reason for name, m in got.items()} == {"r1": "length", "r2": "stop"}
    assert got["r1"].ttft == pytest.approx(STEP)
    assert got["r1"].itl == pytest.approx([STEP + 0.001] * 2)
    assert got["r1"].e2e == pytest.approx(3 * STEP + 0.002)
    assert got["r2"].queue_time == pytest.approx(0.0)


def test_who_arrives_during_a_step_joins_the_next_one():
    work = Workload([WorkloadRequest(0.0, ids(5), (4,)), WorkloadRequest(0.015, ids(5, 1), (1,))])
    _, records = simulated(work)
    assert [len(r.arrivals) for r in records] == [1, 0, 1, 0]
    assert measure(records)["r2"].queue_time == pytest.approx(0.005)


def test_a_closed_loop_waits_for_the_answer():
    work = Workload.closed_loop(num_users=2, requests_per_user=3, prompt_len=5, output_len=4, seed=0, vocab_size=100)
    _, records = simulated(work)
    got = list(measure(records).values())
    assert [m.arrival_time for m in got] == pytest.approx([0, 0, 0.04, 0.04, 0.08, 0.08])
    assert len(records) == 12


def test_a_refused_request_does_not_stop_the_run():
    rows = [WorkloadRequest(0.0, ids(80), (4,)), WorkloadRequest(0.5, ids(5), (2,), after=0)]
    simulator, records = simulated(Workload(rows))
    assert "max_model_len=64" in simulator.refused["r1"]
    assert measure(records)["r2"].arrival_time == pytest.approx(0.5)


def test_static_batching_lets_nobody_join():
    lengths = [3, 9, 5, 2, 7, 4, 8, 1, 6, 2]
    work = Workload(WorkloadRequest(0.0, ids(6, i), (n,)) for i, n in enumerate(lengths))
    _, static = simulated(work, "static")
    _, continuous = simulated(work)
    starts = [r.step for r in static if any(d.reason is Reason.ADMITTED for d in r.decisions)]
    batches = [sum(d.reason is Reason.ADMITTED for d in static[step].decisions) for step in starts]
    assert batches == [4, 4, 2]
    assert starts == [0, 9, 17]  # each begins when the longest of the batch before has ended
    assert len(static) == 9 + 8 + 6 > len(continuous)
    assert {n: m.num_output_tokens for n, m in measure(static).items()} == {
        n: m.num_output_tokens for n, m in measure(continuous).items()
    }


def test_a_static_batch_may_take_steps_to_start_and_survives_a_small_pool():
    work = Workload(WorkloadRequest(0.0, ids(30, i), (12,)) for i in range(6))
    _, records = simulated(work, "static", max_num_batched_tokens=16)
    first_end = next(r.step for r in records if r.finished)
    admitted = [d.request_id for r in records[: first_end + 1] for d in r.decisions if d.reason is Reason.ADMITTED]
    assert admitted == ["r1", "r2", "r3", "r4"]
    _, cramped = simulated(work, "static", num_blocks=18)
    assert len(measure(cramped)) == 6
    assert all(m.finish_reason == "length" for m in measure(cramped).values())


def test_several_sequences_of_one_prompt():
    work = Workload([WorkloadRequest(0.0, ids(10), (5, 2, 3), max_tokens=5)])
    for batching in ("continuous", "static"):
        _, records = simulated(work, batching)
        got = measure(records)
        assert {n: m.num_output_tokens for n, m in got.items()} == {"r1.0": 5, "r1.1": 2, "r1.2": 3}


def test_memory_by_scheme():
    simulator, records = simulated(Workload([WorkloadRequest(0.0, ids(6), (5,))]))
    samples = simulator.memory.samples
    assert [s.paged_held for s in samples] == [8, 8, 8, 12, 12]
    assert [s.paged_used for s in samples] == [s.used for s in samples] == [6, 7, 8, 9, 10]
    assert {s.contiguous_exact for s in samples} == {11}
    assert {s.contiguous_pow2 for s in samples} == {14}
    assert {s.contiguous_max for s in samples} == {64}
    waste = simulator.memory.waste()
    assert waste["paged"] == pytest.approx(1 - 40 / 48)
    assert waste["contiguous_max"] == pytest.approx(1 - 40 / (5 * 64))
    assert waste["paged"] < waste["contiguous_exact"] < waste["contiguous_pow2"] < waste["contiguous_max"]
    assert len(records) == 5


def test_shared_blocks_count_once():
    prompt = ids(16)
    rows = [WorkloadRequest(0.0, prompt, (6,)), WorkloadRequest(0.015, prompt, (3,))]
    simulator, records = simulated(Workload(rows))
    both = [s for s, r in zip(simulator.memory.samples, records, strict=True) if len(r.decisions) == 2]
    assert any(d.num_cached == 12 for r in records for d in r.decisions)
    assert all(s.paged_used < s.used for s in both)
    assert all(s.paged_used <= s.paged_held for s in simulator.memory.samples)


def test_powers_of_two():
    assert [next_power_of_two(n) for n in (1, 2, 3, 4, 5, 64, 65)] == [1, 2, 4, 4, 8, 64, 128]


def test_preemption_is_counted():
    work = Workload(WorkloadRequest(0.0, ids(10, i), (20,)) for i in range(3))
    _, records = simulated(work, num_blocks=16)
    preempted = sum(d.action is Action.PREEMPT for r in records for d in r.decisions)
    assert preempted == sum(m.num_preemptions for m in measure(records).values()) > 0


def test_percentiles_lie_between_neighbours():
    assert percentile([4.0, 1.0, 2.0, 3.0], 50) == 2.5
    assert percentile([1.0], 99) == 1.0
    assert percentile([], 50) != percentile([], 50)
