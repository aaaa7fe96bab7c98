"""A view sends traffic, swaps the policy and asks what would have been; the engine and its page stay free meanwhile."""

import threading

import pytest

from tests.engine.helpers import VOCAB, Engine, wait_until
from tests.widgets.test_engine_widget import Page, make_widget
from workbench.core.policy import Policy
from workbench.sim.recipe import preview, workload_from_recipe
from workbench.simulate import compare, simulate
from workbench.trace import Trace
from workbench.widgets.trace_widget import TraceWidget

RECIPE = {"arrivals": "bursts", "num_bursts": 2, "burst_size": 4, "interval": 0.02, "prompt_len": [4, 9], "seed": 5}
RECIPE = {**RECIPE, "output_len": [3, 6]}


@pytest.fixture
def engine():
    with Engine(num_blocks=24) as made:
        yield made


def threads():
    return [t.name for t in threading.enumerate()]


def test_what_is_previewed_is_what_arrives(engine):
    widget = make_widget(engine)
    page = Page(widget)
    shown = page.command("traffic_preview", recipe=RECIPE)["result"]
    assert shown == preview(workload_from_recipe(RECIPE, VOCAB))
    assert page.command("traffic_start", recipe=RECIPE)["ok"]
    job = widget.keep.jobs["traffic"]
    wait_until(lambda: not job.running)
    assert job.progress() == {
        "state": "done",
        "name": "bursts of 4",
        "total": 8,
        "sent": 8,
        "finished": 8,
        "message": None,
    }
    arrivals = [arrival for record in engine.core.trace for arrival in record.arrivals]
    assert [len(a.prompt_token_ids) for a in arrivals] == [row[2] for row in shown["requests"]]
    sampled = sum(len(record.sampled) for record in engine.core.trace)
    assert sampled == shown["num_output_tokens"]


def test_one_traffic_at_a_time_and_stopping_cancels_what_is_on_its_way(engine):
    widget = make_widget(engine)
    page = Page(widget)
    engine.loop.pause()
    page.command("traffic_start", recipe=RECIPE)
    job = widget.keep.jobs["traffic"]
    wait_until(lambda: job.progress()["sent"] == 8)
    again = page.command("traffic_start", recipe=RECIPE)
    assert not again["ok"]
    assert "on its way to this engine already" in again["error"]["message"]
    page.command("traffic_stop")
    wait_until(lambda: not job.running)
    assert job.progress()["state"] == "stopped"
    engine.loop.resume()
    wait_until(lambda: not engine.core.has_work())
    assert {f.finish_reason for record in engine.core.trace for f in record.finished} == {"abort"}
    assert page.command("traffic_start", recipe=RECIPE)["ok"]


def test_a_request_that_can_never_fit_is_refused_before_anything_is_sent(engine):
    page = Page(make_widget(engine))
    refused = page.command("traffic_start", recipe={**RECIPE, "prompt_len": [120, 120], "output_len": [60, 60]})
    assert not refused["ok"]
    assert "120 prompt tokens" in refused["error"]["message"]
    assert not engine.core.has_work()


def test_traffic_ends_with_its_engine():
    with Engine() as engine:
        widget = make_widget(engine)
        Page(widget).command("traffic_start", recipe={**RECIPE, "interval": 30.0})
        job = widget.keep.jobs["traffic"]
        wait_until(lambda: job.progress()["finished"] == 4)
        assert job.running
    wait_until(lambda: not job.running)
    assert job.progress()["state"] == "stopped"
    wait_until(lambda: "workbench-traffic" not in threads())


def test_closed_loop_users_wait_for_their_answer(engine):
    widget = make_widget(engine)
    recipe = {"arrivals": "closed_loop", "num_users": 2, "requests_per_user": 3, "think_time": 0.0}
    Page(widget).command("traffic_start", recipe={**recipe, "prompt_len": [4, 4], "output_len": [4, 4]})
    wait_until(lambda: not widget.keep.jobs["traffic"].running)
    assert widget.keep.jobs["traffic"].progress()["finished"] == 6
    assert max(len(record.decisions) for record in engine.core.trace) == 2


def test_the_policy_is_swapped_and_a_refused_one_leaves_the_other(engine):
    class Latest(Policy):
        name = "latest"

        def key(self, request):
            return (-request.arrival_seq,)

    class Broken(Policy):
        name = "broken"

        def key(self, request):
            raise RuntimeError("oh no")

    page = Page(make_widget(engine))
    page.tell(type="subscribe")
    wait_until(lambda: page.frames)
    status = page.frames[-1][1]["status"]
    assert status["scheduling_policy"] == "fcfs"
    assert status["policies"] == ["fcfs", "priority", "sjf", "fair"]
    engine.loop.configure({"scheduling_policy": Latest()})
    assert page.command("configure", scheduling_policy="sjf")["ok"]
    wait_until(lambda: page.frames[-1][1]["status"]["scheduling_policy"] == "sjf")
    # What the reader wrote can be gone back to by its name.
    assert page.frames[-1][1]["status"]["policies"][-1] == "latest"
    assert page.command("configure", scheduling_policy="latest")["ok"]
    assert isinstance(engine.core.scheduler.policy, Latest)
    refused = page.command("configure", scheduling_policy="nonsense")
    assert "scheduling_policy must be one of" in refused["error"]["message"]
    engine.loop.pause()
    engine.submit([1, 2])
    with pytest.raises(Exception, match="oh no"):
        engine.loop.configure({"scheduling_policy": Broken()})
    assert engine.core.scheduler.policy.name == "latest"
    wait_until(lambda: page.frames[-1][1]["status"]["scheduling_policy"] == "latest")
    assert "broken" not in page.frames[-1][1]["status"]["policies"]


def run_something(engine):
    for handle in [engine.submit([i] * 7, max_tokens=12) for i in range(6)]:
        handle.result(30)


def test_what_if_gives_what_python_gives(engine, tmp_path):
    run_something(engine)
    page = Page(make_widget(engine))
    answer = page.command("what_if", settings={"max_num_seqs": 1})["result"]
    trace = engine.core.trace
    expected = compare(trace, simulate(trace, max_num_seqs=1)).to_json()
    assert [row[:5] for row in answer["requests"]] == [list(row[:5]) for row in expected["requests"]]
    assert answer["settings"] == [["max_num_seqs", "8", "1"]]
    assert answer["sides"][1]["fit"]["steps"] > 0
    # A saved trace has no engine and can be asked all the same.
    saved = Page(TraceWidget(Trace.load(trace.save(tmp_path / "run.trace"))))
    again = saved.command("what_if", settings={"max_num_seqs": 1})["result"]
    # A file keeps times to the microsecond.
    times = [{row[0]: row[1:5] for row in found["requests"]} for found in (again, answer)]
    assert times[0].keys() == times[1].keys()
    for name in times[0]:
        assert times[0][name] == pytest.approx(times[1][name], abs=5e-4)


def test_what_the_simulator_says_of_traffic_that_was_not_sent(engine):
    run_something(engine)
    steps = engine.core.trace.last_step
    page = Page(make_widget(engine))
    answer = page.command("what_if", recipe=RECIPE, settings={"scheduling_policy": "sjf"})["result"]
    assert [side["simulated"] for side in answer["sides"]] == [True, True]
    assert len(answer["requests"]) == 8
    assert engine.core.trace.last_step == steps


def test_what_if_without_enough_steps_says_what_is_missing(engine):
    page = Page(make_widget(engine))
    refused = page.command("what_if", settings={"max_num_seqs": 1})
    assert not refused["ok"]
    assert "run something first" in refused["error"]["message"]
