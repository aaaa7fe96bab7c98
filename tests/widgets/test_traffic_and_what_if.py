"""A view sends traffic, measures the machine, swaps the policy and asks what would have been; nobody waits for it."""

import threading

import pytest

from tests.engine.helpers import VOCAB, Engine, wait_until
from tests.widgets.test_engine_widget import Page, make_widget
from workbench import what_if
from workbench.core.errors import ConfigError
from workbench.core.machine import MachineLimits
from workbench.core.policy import Policy
from workbench.sim.recipe import preview, workload_from_recipe
from workbench.simulate import compare, simulate
from workbench.trace import Trace
from workbench.widgets.trace_widget import TraceWidget

RECIPE = {"arrivals": "bursts", "num_bursts": 2, "burst_size": 4, "interval": 0.02, "prompt_len": [4, 9], "seed": 5}
LIMITS = MachineLimits("cpu", "float32", 2, 2e10, 1e11)
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


class HeldSimulation:
    """Stands for a long one: the real simulation, which waits at its first record until it is let go."""

    def __init__(self):
        self.begun, self.go = threading.Event(), threading.Event()

    def __call__(self, what, *, on_progress, **settings):
        def held(finished):
            self.begun.set()
            self.go.wait(30)
            on_progress(finished)

        return simulate(what, on_progress=held, **settings)


@pytest.fixture
def held(monkeypatch):
    made = HeldSimulation()
    monkeypatch.setattr(what_if, "simulate", made)
    yield made
    made.go.set()
    wait_until(lambda: "workbench-what-if" not in threads())


def ask(page, held):
    """A question whose answer does not come before it is let go."""
    page.tell(type="command", id="asked", name="what_if", args={"settings": {"max_num_seqs": 1}})
    held.begun.wait(30)
    assert "asked" not in page.replies


def answer(page, held):
    held.go.set()
    wait_until(lambda: "asked" in page.replies)
    return page.replies["asked"]


def pages(engine, kind, tmp_path):
    if kind == "live":
        return Page(make_widget(engine))
    page = Page(TraceWidget(Trace.load(engine.core.trace.save(tmp_path / "run.trace"))))
    page.tell(type="subscribe")
    return page


@pytest.mark.parametrize("kind", ["live", "saved"])
def test_a_second_simulation_is_refused_and_the_first_can_be_stopped(engine, held, kind, tmp_path):
    run_something(engine)
    page = pages(engine, kind, tmp_path)
    ask(page, held)
    refused = page.command("what_if", settings={"max_num_seqs": 2})
    assert not refused["ok"]
    assert "a simulation is going on already" in refused["error"]["message"]
    assert page.command("what_if_stop")["ok"]
    stopped = answer(page, held)
    assert not stopped["ok"]
    assert stopped["error"]["message"] == "the simulation was stopped"
    assert page.command("what_if", settings={"max_num_seqs": 2})["ok"]


@pytest.mark.parametrize("kind", ["live", "saved"])
def test_a_simulation_ends_with_its_view(engine, held, kind, tmp_path):
    run_something(engine)
    page = pages(engine, kind, tmp_path)
    if kind == "live":
        page.tell(type="subscribe")
    ask(page, held)
    page.widget.close()
    if kind == "live":
        wait_until(lambda: "workbench-feed" not in threads())
    assert "stopped" in answer(page, held)["error"]["message"]


def test_a_simulation_ends_with_its_engine(held):
    with Engine() as engine:
        run_something(engine)
        page = Page(make_widget(engine))
        ask(page, held)
    assert "its engine or its view is gone" in answer(page, held)["error"]["message"]


def test_the_page_of_a_saved_trace_is_told_how_far_a_simulation_is(engine, held, tmp_path, monkeypatch):
    monkeypatch.setattr(what_if, "TELL_SECONDS", 0.0)
    run_something(engine)
    page = pages(engine, "saved", tmp_path)
    steps = page.replay.step
    assert page.frames[-1][1]["status"]["jobs"] == {}
    ask(page, held)
    assert answer(page, held)["ok"]
    wait_until(lambda: page.frames[-1][1]["status"]["jobs"]["what_if"]["state"] == "done")
    told = [frame["status"]["jobs"]["what_if"] for _, frame in page.frames if frame["status"]["jobs"]]
    assert all(job["total"] == 6 for job in told)
    counts = [job["finished"] for job in told]
    assert counts == sorted(counts)
    assert {0, 6} < set(counts)
    assert page.replay.step == steps


class LongestFirst(Policy):
    """The reader's own, without a name of its own."""

    def key(self, request):
        return (-request.max_tokens, request.arrival_seq)


def run_lengths(engine):
    for handle in [engine.submit([i] * 7, max_tokens=3 + 3 * i) for i in range(6)]:
        handle.result(30)


def test_a_policy_of_the_readers_own_is_simulated_where_it_is_in_force_and_by_its_name(engine):
    engine.loop.configure({"scheduling_policy": LongestFirst()})
    run_lengths(engine)
    page = Page(make_widget(engine))
    answer = page.command("what_if", settings={"max_num_seqs": 1})["result"]
    trace = engine.core.trace
    assert answer["settings"] == [["max_num_seqs", "8", "1"]]
    expected = compare(trace, simulate(trace, max_num_seqs=1, scheduling_policy=LongestFirst())).to_json()
    assert [row[:5] for row in answer["requests"]] == [list(row[:5]) for row in expected["requests"]]
    engine.loop.configure({"scheduling_policy": "fcfs"})
    engine.submit([1, 2], max_tokens=2).result(30)
    named = page.command("what_if", settings={"max_num_seqs": 1, "scheduling_policy": "LongestFirst"})["result"]
    assert ["scheduling_policy", "fcfs", "LongestFirst"] in named["settings"]
    assert simulate(trace, scheduling_policy="fcfs").trace.info["settings"]["scheduling_policy"][1] == "fcfs"


def test_a_trace_of_a_readers_own_policy_says_that_the_policy_must_come_with_it(engine, tmp_path):
    engine.loop.configure({"scheduling_policy": LongestFirst()})
    run_lengths(engine)
    page = pages(engine, "saved", tmp_path)
    refused = page.command("what_if", settings={"max_num_seqs": 1})
    assert "used the policy 'LongestFirst', and a trace holds only its name; pass that" in refused["error"]["message"]
    assert page.command("what_if", settings={"max_num_seqs": 1, "scheduling_policy": "sjf"})["ok"]
    with pytest.raises(ConfigError, match="cannot be repeated"):
        simulate(engine.core.trace, step_times="recorded")


def test_a_policy_that_cannot_be_copied_is_said_to_be_so(engine):
    class Locked(Policy):
        def __init__(self):
            self.lock = threading.Lock()

    engine.loop.configure({"scheduling_policy": Locked()})
    run_something(engine)
    refused = Page(make_widget(engine)).command("what_if", settings={"max_num_seqs": 1})
    assert "policy 'Locked' cannot be copied for a simulation" in refused["error"]["message"]


@pytest.mark.parametrize("kind", ["live", "saved"])
def test_the_still_of_what_if_is_the_last_answer_s_own_picture(engine, held, kind, tmp_path):
    run_something(engine)
    page = pages(engine, kind, tmp_path)
    page.widget.view = "what_if"
    key, before = page.widget._draw_still()
    assert "what if: state after step" in before()
    ask(page, held)
    meanwhile, drawn = page.widget._draw_still()
    assert (meanwhile, drawn()) == (key, before())
    assert answer(page, held)["ok"]
    later, after = page.widget._draw_still()
    assert later != key
    assert "<svg" in after()
    assert "max_num_seqs: 8 → 1" in after()


def test_the_machine_is_measured_beside_the_engine_once_at_a_time(engine, monkeypatch):
    told, go_on = threading.Event(), threading.Event()

    def measure_limits(progress):
        progress(1, 2)
        told.set()
        assert go_on.wait(10)
        progress(2, 2)
        return LIMITS

    monkeypatch.setattr(engine.core.runner, "measure_limits", measure_limits)
    widget = make_widget(engine)
    page, client = Page(widget), widget.keep
    assert page.command("measure_machine")["ok"]
    job = client.jobs["limits"]
    assert told.wait(10)
    assert job.progress() == {"state": "running", "done": 1, "total": 2, "message": None}
    assert "being measured already" in page.command("measure_machine")["error"]["message"]
    assert client.limits is None
    go_on.set()
    wait_until(lambda: not job.running)
    assert client.limits is LIMITS
    assert job.progress() == {"state": "done", "done": 2, "total": 2, "message": None}

    told.clear()
    go_on.clear()
    page.command("measure_machine")
    assert told.wait(10)
    page.command("measure_machine_stop")
    go_on.set()
    wait_until(lambda: client.jobs["limits"].progress()["state"] == "stopped")
    assert client.jobs["limits"].progress()["done"] == 1


def test_an_engine_without_a_model_says_that_there_is_nothing_to_measure(engine):
    widget = make_widget(engine)
    Page(widget).command("measure_machine")
    wait_until(lambda: widget.keep.jobs["limits"].progress()["state"] == "failed")
    assert "no machine to measure" in widget.keep.jobs["limits"].progress()["message"]
