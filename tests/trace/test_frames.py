"""Trace.to_pandas(): the tables say what the records say, and pandas is optional."""

import subprocess
import sys

import pytest

from tests.core.helpers import make_scheduler, record_of
from workbench.core.errors import MissingPackageError
from workbench.core.records import SettingChange, StepTimes
from workbench.core.sampling_params import SamplingParams
from workbench.core.scheduler_output import SampledToken
from workbench.trace import Trace
from workbench.trace.frames import COLUMNS
from workbench.trace.metrics import measure


@pytest.fixture
def trace():
    """Four requests in a pool that is too small for them, a step every second that takes half of it."""
    scheduler = make_scheduler(num_blocks=8, max_num_seqs=3)
    made = Trace(scheduler.snapshot(), 100, {"model": "fake"}, lambda token: f"t{token}")
    for index in range(4):
        scheduler.add_request(f"r{index}", [index] * 7, SamplingParams(max_tokens=12), arrival_time=0.25, label="text")
    while scheduler.has_unfinished():
        plan = scheduler.schedule()
        sampled = {item.request_id: SampledToken(7, -0.5) for item in plan.scheduled if item.sample}
        scheduler.update(plan, sampled, {}, {})
        changes = (SettingChange("max_num_seqs", "3"),) if plan.step == 2 else ()
        made.append(scheduler.record(plan, plan.step + 1.0, StepTimes(0.1, 0.1, 0.1, 0.1, 0.1), changes))
    return made


def test_the_tables_have_a_row_for_everything_in_the_records(trace):
    frames, records = trace.to_pandas(), trace.records()
    assert len(frames.steps) == len(records)
    for name, field in [("decisions", "decisions"), ("tokens", "sampled"), ("block_events", "block_events")]:
        assert len(getattr(frames, name)) == sum(len(getattr(r, field)) for r in records) > 0
    assert list(frames.changes.itertuples(index=False, name=None)) == [(2, "max_num_seqs", "3", "")]
    for name, columns in COLUMNS.items():
        assert tuple(getattr(frames, name).columns) == columns
    assert f"steps: {len(records)} rows" in repr(frames)


def test_steps_and_decisions_hold_the_records_numbers(trace):
    frames, records = trace.to_pandas(), trace.records()
    assert frames.steps["num_scheduled_tokens"].tolist() == [r.num_scheduled_tokens for r in records]
    assert frames.steps["duration_s"].tolist() == [r.duration for r in records]
    both = frames.steps["num_scheduled_requests"] + frames.steps["num_waiting_requests"]
    assert both.tolist() == [len(r.decisions) for r in records]
    preempted = frames.decisions.query("action == 'preempt'")
    assert preempted["step"].tolist() == [r.step for r in records for d in r.decisions if d.action == "preempt"] != []
    assert preempted["text"].str.startswith("preempted: ").all()
    assert type(frames.decisions["action"].iloc[0]) is str


def test_requests_hold_what_the_metrics_say(trace):
    requests = trace.to_pandas().requests.set_index("request_id")
    for name, metrics in measure(trace).items():
        row = requests.loc[name]
        assert row["ttft_s"] == metrics.ttft
        assert row["e2e_s"] == metrics.e2e
        assert row["num_preemptions"] == metrics.num_preemptions
        assert row["finish_reason"] == "length"
    assert requests["num_preemptions"].sum() > 0
    assert requests["itl_mean_s"].min() >= 1.0


def test_a_loaded_trace_gives_the_same_tables(trace, tmp_path):
    live, loaded = trace.to_pandas(), Trace.load(trace.save(tmp_path / "run.trace")).to_pandas()
    for name in COLUMNS:
        assert getattr(loaded, name).equals(getattr(live, name)), name


def test_an_empty_trace_has_empty_tables_with_their_columns():
    frames = Trace(make_scheduler().snapshot(), 5).to_pandas()
    assert all(len(getattr(frames, name)) == 0 for name in COLUMNS)
    assert tuple(frames.steps.columns) == COLUMNS["steps"]


def test_a_trace_without_texts_names_tokens_by_number():
    scheduler = make_scheduler()
    trace = Trace(scheduler.snapshot(), 5)
    scheduler.add_request("r", [1], SamplingParams(max_tokens=1), arrival_time=0.0)
    plan = scheduler.schedule()
    scheduler.update(plan, {"r": SampledToken(9)}, {}, {})
    trace.append(record_of(scheduler, plan))
    assert trace.to_pandas().tokens["text"].tolist() == ["<9>"]


def test_without_pandas_the_error_names_the_extra(trace, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)  # what Python does for an import that must fail
    with pytest.raises(MissingPackageError, match=r"inference-workbench\[pandas\]"):
        trace.to_pandas()


def test_opening_a_file_loads_neither_pandas_nor_torch(trace, tmp_path):
    path = trace.save(tmp_path / "run.trace")
    code = "import sys, workbench; workbench.Trace.load(sys.argv[1]).at()"
    code += "; print({'pandas', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.strip() == "set()", done.stderr
