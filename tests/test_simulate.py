"""simulate, compare and drive as a user meets them."""

import json

import pytest

from tests.engine.helpers import Engine
from workbench import CostModel, Trace, Workload, compare, drive, simulate
from workbench.core.errors import ConfigError
from workbench.core.policy import Policy
from workbench.sim.cost_model import FitError
from workbench.trace.metrics import percentile

COSTS = CostModel((1e-3, 1e-5, 1e-4, 0.0))


@pytest.fixture(scope="module")
def recorded():
    """The trace of an engine without a model under traffic of all kinds."""
    with Engine(num_blocks=24) as engine:
        drive(Submitter(engine), traffic(), progress=False)
        return engine.core.trace


def traffic():
    """Arrivals that are the same each time; those of `recorded` depend on how busy the machine was."""
    work = Workload.poisson(rate=2000, count=30, prompt_len=(3, 40), output_len=(2, 20), seed=0, vocab_size=50)
    return work.with_shared_prefix(fraction=0.3, prefix_len=12, seed=1, vocab_size=50)


class Submitter:
    """An engine of the tests under the name that LLM has for it."""

    def __init__(self, engine):
        self.engine = engine

    def submit(self, prompt, sampling_params=None, *, priority=0):
        values = {name: getattr(sampling_params, name) for name in ("n", "temperature", "max_tokens", "ignore_eos")}
        return self.engine.submit(prompt["prompt_token_ids"], priority, **values)


def test_settings_and_arrivals_are_the_trace_s(recorded):
    made = simulate(recorded, cost_model=COSTS)
    assert (made.config.num_blocks, made.config.block_size, made.config.max_num_seqs) == (24, 4, 8)
    assert set(made.metrics) == {f"r{i}" for i in range(1, 31)}
    real = Workload.from_trace(recorded)
    assert {m.request_id: (m.num_output_tokens,) for m in made.metrics.values()} == {
        r.request_id: r.output_lens for r in real
    }
    assert made.trace.at().num_blocks == 24
    assert "simulated" in made.trace.info["model"]


def test_other_settings(recorded):
    made = simulate(
        recorded, cost_model=COSTS, max_num_seqs=2, num_gpu_blocks_override=50, block_size=8, scheduling_policy="sjf"
    )
    assert (made.config.max_num_seqs, made.config.num_blocks, made.config.block_size) == (2, 50, 8)
    assert all(len(made.trace.at(step).running) <= 2 for step in range(0, made.trace.last_step, 10))
    assert made.trace.info["settings"]["max_num_seqs"][1] == "2"
    assert made.trace.info["settings"]["scheduling_policy"][1] == "sjf"
    assert "max_num_seqs=2" in repr(made)


def test_a_policy_of_one_s_own(recorded):
    class LastFirst(Policy):
        name = "last first"

        def key(self, request):
            return (-request.arrival_seq,)

    class Broken(Policy):
        name = "broken"

        def share(self, request, wanted, left):
            return 0

    assert "last first" in simulate(recorded, cost_model=COSTS, scheduling_policy=LastFirst()).name
    broken = simulate(recorded, cost_model=COSTS, scheduling_policy=Broken())
    assert any("was taken off" in message for message in broken.messages)


def test_the_cost_model_is_fitted_to_the_trace_and_never_invented(recorded):
    made = simulate(recorded)
    assert made.cost_model.fit_error.num_steps == len([r for r in recorded if r.num_scheduled_tokens])
    work = Workload.from_trace(recorded)
    with pytest.raises(ConfigError, match=r"like=llm\.trace"):
        simulate(work, num_gpu_blocks_override=8, max_model_len=128)
    with pytest.raises(ConfigError, match="num_gpu_blocks_override and max_model_len"):
        simulate(work, cost_model=COSTS)
    alone = simulate(work, cost_model=COSTS, num_gpu_blocks_override=24, max_model_len=128, block_size=4)
    assert alone.config.max_num_batched_tokens == 512
    assert simulate(work, like=recorded).config == made.config


@pytest.mark.parametrize(
    "settings",
    [
        {"max_num_seq": 3},
        {"max_num_seqs": "3"},
        {"max_num_seqs": 0},
        {"enable_prefix_caching": 1},
        {"scheduling_policy": "lifo"},
        {"batching": "sometimes"},
        {"step_times": "none"},
        {"step_times": "recorded", "max_num_seqs": 3},
        {"enable_chunked_prefill": False},
    ],
)
def test_wrong_settings_are_refused(recorded, settings):
    with pytest.raises(ConfigError):
        simulate(recorded, **{"cost_model": COSTS, **settings})
    with pytest.raises(ConfigError, match="did you mean 'max_num_seqs'"):
        simulate(recorded, cost_model=COSTS, max_num_seq=3)


def test_recorded_step_times_repeat_the_run(recorded):
    again = simulate(recorded, step_times="recorded")
    assert again.trace.records() == recorded.records()
    assert again.cost_model is None
    found = compare(recorded, again)
    assert (found.gained, found.lost, set(found.same)) == ((), (), set(again.metrics))
    with pytest.raises(ConfigError, match="give its trace"):
        simulate(Workload.from_trace(recorded), step_times="recorded")


def test_a_trace_that_lost_its_beginning_cannot_be_repeated():
    with Engine(trace_steps=5) as engine:
        engine.submit([1, 2], max_tokens=20).result()
        with pytest.raises(ConfigError, match="trace_steps"):
            simulate(engine.core.trace, step_times="recorded")
        with pytest.raises(ConfigError, match="at least 8"):
            simulate(engine.core.trace)


def test_the_simulated_trace_is_like_any_other(recorded, tmp_path):
    made = simulate(recorded, cost_model=COSTS)
    loaded = Trace.load(made.trace.save(tmp_path / "run.trace"))
    assert loaded.at() == made.trace.at()
    assert "First token" in repr(made.trace.why("r7"))
    assert made.trace.to_html(tmp_path / "run.html").stat().st_size > 1000


def test_static_batching_is_no_faster(recorded):
    continuous, static = (
        simulate(traffic(), like=recorded, cost_model=COSTS, batching=batching) for batching in ("continuous", "static")
    )
    assert static.summary()["seconds"] > continuous.summary()["seconds"]
    assert static.summary()["ttft_p50"] > continuous.summary()["ttft_p50"]


def test_comparison_says_who_and_why(recorded):
    wide, narrow = (
        simulate(traffic(), like=recorded, cost_model=COSTS, **limit) for limit in ({}, {"max_num_seqs": 1})
    )
    found = wide.compare(narrow)
    assert len(found.lost) > len(found.gained)
    assert [c.gain for c in found.changes] == sorted((c.gain for c in found.changes), reverse=True)
    assert "more waiting for a place in the batch" in found.changes[-1].why
    assert sorted([*found.gained, *found.lost, *found.same]) == sorted(wide.metrics)
    for text in (repr(found), found._repr_html_()):
        assert "requests gained" in text
        assert found.changes[-1].request_id in text
    assert "<table>" in wide._repr_html_()


def test_a_comparison_as_plain_values_and_as_a_cell_s_output(recorded):
    fitted = CostModel(COSTS.coefficients, 0.0, FitError(50, 0.05, 0.2, 0.01))
    found = compare(recorded, simulate(recorded, cost_model=fitted, max_num_seqs=2, scheduling_policy="sjf"))
    plain = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert [side["simulated"] for side in plain["sides"]] == [False, True]
    assert plain["sides"][1]["fit"] == {"steps": 50, "median": 0.05, "p95": 0.2}
    assert ["max_num_seqs", "8", "2"] in plain["settings"]
    assert ["scheduling_policy", "fcfs", "sjf"] in plain["settings"]
    rows = {row[0]: row for row in plain["requests"]}
    for change in found.changes:
        assert rows[change.request_id][1:5] == [*change.ttft, *change.e2e]
        for metrics, segments in zip(found.metrics, plain["waterfalls"][change.request_id], strict=True):
            assert sum(s[4] for s in segments) == pytest.approx(metrics[change.request_id].ttft)
    totals = {row[0]: row for row in plain["totals"]}
    e2e = [metrics[c.request_id].e2e for c in found.changes for metrics in found.metrics]
    assert totals["end to end, median"][2:4] == pytest.approx([percentile(e2e[0::2], 50), percentile(e2e[1::2], 50)])
    bundle, _ = found.show()._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle
    assert bundle["text/plain"] == repr(found)
    assert "misses a recorded step by 5% in the median" in repr(found)
    assert found._repr_html_().count("<circle") == 2 + 2 * min(10, len(found.changes))


def test_progress_is_told_and_can_end_a_simulation(recorded):
    told = []
    made = simulate(recorded, cost_model=COSTS, on_progress=told.append)
    assert told == sorted(told)
    assert told[-1] == len(made.metrics)

    def stop(_):
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        simulate(recorded, cost_model=COSTS, on_progress=stop)


def test_summary_agrees_with_the_metrics(recorded):
    made = simulate(recorded, cost_model=COSTS)
    s = made.summary()
    assert s["ttft_p50"] <= s["ttft_p95"] <= s["ttft_p99"] <= max(m.ttft for m in made.metrics.values())
    tokens = sum(m.num_output_tokens for m in made.metrics.values())
    assert s["output_tokens_per_second"] == pytest.approx(tokens / s["seconds"])
    assert s["kv_waste_paged"] < s["kv_waste_contiguous_max"]


def test_drive_keeps_order_lengths_and_chains():
    work = Workload.closed_loop(
        num_users=3, requests_per_user=2, prompt_len=5, output_len=(2, 9), seed=0, vocab_size=50
    )
    with Engine() as engine:
        outputs = drive(Submitter(engine), work, progress=False)
    assert [(len(o.outputs[0].token_ids),) for o in outputs] == [r.output_lens for r in work]
    assert [o.prompt_token_ids for o in outputs] == [r.prompt_token_ids for r in work]
    for index, request in enumerate(work):
        if request.after is not None:
            before, after = outputs[request.after].metrics, outputs[index].metrics
            assert after.arrival_time >= before.finished_time


def test_an_interrupted_drive_cancels_what_is_on_its_way():
    work = Workload.bursts(num_bursts=2, burst_size=3, interval=60, prompt_len=5, output_len=100, seed=0, vocab_size=50)
    with Engine() as engine:
        engine.loop.pause()
        submitter = Submitter(engine)
        handles, submit = [], submitter.submit

        def interrupted(*args, **kwargs):
            if len(handles) == 2:
                raise KeyboardInterrupt
            handles.append(submit(*args, **kwargs))
            return handles[-1]

        submitter.submit = interrupted
        with pytest.raises(KeyboardInterrupt):
            drive(submitter, work, progress=False)
        engine.loop.resume()
        assert [h.result(10).outputs[0].finish_reason for h in handles] == ["abort", "abort"]
