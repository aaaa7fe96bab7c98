"""Saved traces: they say the same as the live ones, refuse what is no trace, and need no engine."""

import gzip
import json
import subprocess
import sys

import pytest

from tests.core.helpers import make_scheduler, record_of
from workbench.core.records import SCHEMA_VERSION
from workbench.core.sampling_params import SamplingParams
from workbench.core.scheduler_output import SampledToken
from workbench.trace import Trace, TraceFileError


@pytest.fixture
def trace():
    scheduler = make_scheduler(num_blocks=12)
    made = Trace(scheduler.snapshot(), 30, {"model": "<fake> & co", "engine_id": "x"}, lambda token: f"t{token}é")
    for step in range(50):
        if step % 5 == 0:
            params = SamplingParams(max_tokens=7, n=1 + step % 2)
            scheduler.add_request(f"r{step}", [step % 7] * 9, params, arrival_time=float(step), label="a\nb")
        plan = scheduler.schedule()
        sampled = {
            item.request_id: SampledToken(step, -0.5, ((step, -0.5), (1, float("-inf"))))
            for item in plan.scheduled
            if item.sample
        }
        scheduler.update(plan, sampled, {}, {})
        made.append(record_of(scheduler, plan))
    return made


def test_a_loaded_file_equals_the_live_trace(trace, tmp_path):
    loaded = Trace.load(trace.save(tmp_path / "run.trace"))
    assert (loaded.first_step, loaded.last_step, loaded.num_dropped) == (20, 49, 20)
    for step in range(19, 50):
        assert loaded.at(step) == trace.at(step)
    for ours, theirs in zip(loaded, trace, strict=True):
        assert ours.decisions == theirs.decisions
        assert ours.block_events == theirs.block_events
        assert ours.arrivals == theirs.arrivals
        assert type(ours.decisions[0].action) is type(theirs.decisions[0].action)
    assert loaded.info == trace.info
    assert loaded.token_text(6) == "t6é"
    again = Trace.load(loaded.save(tmp_path / "again.trace"))
    assert again.records() == loaded.records()


@pytest.mark.parametrize("version", [1, 2])
def test_a_file_of_an_older_schema_still_opens(trace, tmp_path, version):
    path = trace.save(tmp_path / "run.trace")
    lines = gzip.decompress(path.read_bytes()).decode().split("\n")
    header, base, *records = map(json.loads, lines[:-2])
    header["schema_version"] = version
    for record, live in zip(records, trace, strict=True):
        record["decisions"], record["sampled"] = list(live.decisions), list(live.sampled)
    if version == 1:
        base["num_blocks"], base["block_size"] = base.pop("pool")[:2]
        for record in records:
            del record["pool"]
    write(
        path,
        "\n".join(map(json.dumps, [header, base, *records, {"end": True}])).replace('{"end": true}', '{"end":true}'),
    )
    loaded = Trace.load(path)
    assert loaded.at(49).block_tables == trace.at(49).block_tables
    assert [list(record.decisions) for record in loaded] == [list(record.decisions) for record in trace]
    assert [len(record.sampled) for record in loaded] == [len(record.sampled) for record in trace]
    assert loaded.record(49).pool[:3] == (12, 4, "auto" if version == 1 else trace.record(49).pool.kv_cache_dtype)


def test_an_empty_trace_can_be_saved(tmp_path):
    trace = Trace(make_scheduler().snapshot(), 5)
    loaded = Trace.load(trace.save(tmp_path / "empty.trace"))
    assert len(loaded) == 0
    assert loaded.at() == trace.at()


def write(path, text):
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.write(text)
    return path


def lines_of(path):
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return file.read().split("\n")


def test_what_is_no_trace_is_refused(trace, tmp_path):
    good = trace.save(tmp_path / "run.trace")
    lines = lines_of(good)
    header = json.loads(lines[0])
    newer = json.dumps({**header, "schema_version": SCHEMA_VERSION + 1})
    half = tmp_path / "half.trace"
    half.write_bytes(good.read_bytes()[:2000])
    text = tmp_path / "notes.txt"
    text.write_text("hello")
    wrong_record = [*lines[:5], '{"step": "x"}', *lines[6:]]
    cases = [
        (half, "damaged"),
        (text, "no trace"),
        (write(tmp_path / "a", "[1, 2]\n"), "not a trace"),
        (write(tmp_path / "b", '{"format": "another"}\n'), "not a trace"),
        (write(tmp_path / "c", "\n".join([newer, *lines[1:]])), "upgrade"),
        (write(tmp_path / "d", "\n".join(lines[:10])), "cut off: 8 of 30"),
        (write(tmp_path / "e", "\n".join(wrong_record)), "damaged in line 6"),
    ]
    for path, message in cases:
        with pytest.raises(TraceFileError, match=message):
            Trace.load(path)
    with pytest.raises(FileNotFoundError):
        Trace.load(tmp_path / "nowhere.trace")


def test_an_interrupted_save_leaves_the_old_file(trace, tmp_path, monkeypatch):
    path = trace.save(tmp_path / "run.trace")
    before = path.read_bytes()
    monkeypatch.setattr("workbench.trace.files.RecordWriter.to_json", lambda writer, record: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        trace.save(path)
    assert path.read_bytes() == before


def test_opening_a_trace_needs_no_torch(trace, tmp_path):
    path = trace.save(tmp_path / "run.trace")
    script = (
        f"import sys; from workbench import Trace; t = Trace.load({str(path)!r}); print(len(t), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.split() == ["30", "False"]


def test_perfetto_json_has_every_step_and_nests_its_parts(trace, tmp_path):
    events = json.loads(trace.to_perfetto(tmp_path / "run.json").read_text())["traceEvents"]
    steps = [e for e in events if e["ph"] == "X" and e["name"].startswith("step ")]
    assert [e["name"] for e in steps] == [f"step {step}" for step in range(20, 50)]
    decisions = sum(len(r.decisions) for r in trace)
    preempted = sum(d.action == "preempt" for r in trace for d in r.decisions)
    assert sum(e["ph"] == "X" and e["pid"] == 2 for e in events) == decisions - preempted
    assert sum(e["name"] == "preempted" for e in events) == preempted
    assert {"KV blocks free", "requests waiting", "tokens in the step"} <= {e["name"] for e in events if e["ph"] == "C"}


def test_the_html_page_carries_the_trace_and_escapes_its_title(trace, tmp_path):
    page = trace.to_html(tmp_path / "run.html").read_text()
    assert "&lt;fake> &amp; co" in page
    assert "renderTrace" in page
    assert "http" not in page.split("<script")[0]
