"""The picture under a view: written at the end of a cell, and soon after the engine comes to rest outside one."""

import re
import threading

import comm
import pytest
from IPython.core.events import EventManager, available_events

from tests.engine.helpers import Engine, wait_until
from tests.widgets.test_lab_pages import Comm
from workbench import compare
from workbench.engine.client import EngineClient
from workbench.trace import Trace
from workbench.widgets import still as still_module
from workbench.widgets import view_widget as view_module
from workbench.widgets.engine_widget import EngineWidget
from workbench.widgets.lab_pages import TARGET, LabPages
from workbench.widgets.trace_widget import TraceWidget


class Notebook:
    """As much of IPython as a picture sees: cells that begin and end, and what is displayed."""

    def __init__(self) -> None:
        self.events = EventManager(self, available_events)
        self.written = []

    def publish(self, data, metadata=None, *, transient=None, update=False):
        if transient:
            self.written.append((transient["display_id"], update, data["text/html"]))

    def cell(self, run=lambda: None):
        self.events.trigger("pre_run_cell", None)
        try:
            return run()
        finally:
            self.events.trigger("post_run_cell", None)

    @property
    def pictures(self):
        return [html for _, _, html in self.written]


@pytest.fixture
def notebook(monkeypatch):
    made = Notebook()
    monkeypatch.setattr(still_module, "get_ipython", lambda: made)
    monkeypatch.setattr(still_module, "publish_display_data", made.publish)
    monkeypatch.setattr(view_module, "publish_display_data", made.publish)
    monkeypatch.setattr(still_module, "SETTLE_SECONDS", 0.05)
    monkeypatch.setattr(still_module, "MOST_OF_THE_TIME", 1.0)
    return made


@pytest.fixture
def engine():
    with Engine(num_blocks=12) as made:
        yield made


@pytest.fixture
def widget(engine, notebook):
    client = EngineClient(engine.loop, engine.tokenizer)
    made = EngineWidget(client, "dashboard")
    made.keep = client  # stands for the LLM
    notebook.cell(made._ipython_display_)
    yield made
    made.close()


def after_step(engine):
    return f"state after step {engine.core.trace.last_step}<"


def test_steps_after_the_last_cell_are_in_the_picture(engine, widget, notebook):
    assert len(notebook.pictures) == 1
    engine.submit([1] * 5, max_tokens=6).result(30)
    wait_until(lambda: after_step(engine) in notebook.pictures[-1])
    engine.loop.pause()
    engine.submit([2] * 5, max_tokens=9)
    engine.loop.step(3).result(30)
    wait_until(lambda: after_step(engine) in notebook.pictures[-1])
    assert {name for name, _, _ in notebook.written} == {notebook.written[0][0]}, "one output, written anew"
    assert [update for _, update, _ in notebook.written] == [False] + [True] * (len(notebook.written) - 1)


def test_a_picture_is_written_when_the_engine_stands_still_and_not_at_every_step(engine, widget, notebook):
    engine.loop.pause()
    engine.submit([1] * 5, max_tokens=40)
    for _ in range(20):
        engine.loop.step(1).result(30)
    wait_until(lambda: after_step(engine) in notebook.pictures[-1])
    assert engine.core.trace.last_step >= 19
    assert len(notebook.pictures) < 10


def test_while_a_cell_runs_nothing_is_written_until_its_end(engine, widget, notebook):
    def run():
        before = len(notebook.written)
        engine.submit([1] * 5, max_tokens=6).result(30)
        wait_until(lambda: engine.loop.status().state == "idle")
        wait_until(lambda: "workbench-still" not in {thread.name for thread in threading.enumerate()})
        return len(notebook.written) - before

    assert notebook.cell(run) == 0
    assert after_step(engine) in notebook.pictures[-1]


def test_a_closed_view_is_drawn_no_more(engine, widget, notebook):
    widget.close()
    engine.submit([1] * 5, max_tokens=6).result(30)
    wait_until(lambda: engine.loop.status().state == "idle")
    engine.loop.call(lambda: None)  # by now the engine has come to rest
    assert "workbench-still" not in {thread.name for thread in threading.enumerate()}
    assert len(notebook.pictures) == 1


def test_a_page_that_comes_later_is_sent_the_picture_again_only_if_its_own_is_not_the_newest(
    engine, notebook, monkeypatch
):
    client = EngineClient(engine.loop, engine.tokenizer)
    pages = LabPages(Comm)
    monkeypatch.setitem(comm.get_comm_manager().targets, TARGET, pages)
    widget = EngineWidget(client, "blocks")
    notebook.cell(widget._ipython_display_)
    engine.submit([1] * 5, max_tokens=6).result(30)
    wait_until(lambda: after_step(engine) in notebook.pictures[-1])
    (still,) = widget._stills
    old, new = (re.search(r'data-edition="(\d+)"', notebook.pictures[i])[1] for i in (0, -1))
    assert old != new
    written = len(notebook.written)
    page = Comm()
    pages(page, {})
    page.tell(type="stills", editions={still.id: new, "of-another-kernel": "1"})
    assert "workbench-still" not in {thread.name for thread in threading.enumerate()}
    page.tell(type="stills", editions={still.id: old})
    wait_until(lambda: len(notebook.written) > written)
    name, update, picture = notebook.written[-1]
    assert (name, update) == (still.id, True)
    assert f'data-still="{still.id}"' in picture
    assert after_step(engine) in picture
    widget.close()


def test_the_pictures_of_memory_knobs_and_controls_say_what_only_the_engine_knows(engine, notebook):
    client = EngineClient(engine.loop, engine.tokenizer)
    widgets = [EngineWidget(client, view) for view in ("memory", "knobs", "controls")]
    for widget in widgets:
        notebook.cell(widget._ipython_display_)
    memory, knobs, controls = notebook.pictures
    rows = engine.core.memory(engine.core.runner.device())
    assert all(f">{row.name}</td>" in memory for row in rows)
    asked, in_force = engine.core.args.max_num_seqs, engine.core.scheduler.config.max_num_seqs
    assert f"<td>max_num_seqs</td><td>{asked}</td><td>{in_force}</td>" in knobs
    assert ">idle</td>" in controls
    # A pause and a knob need no request to be worked on; the next cell's end writes them all the same.
    engine.loop.pause()
    client.configure({"max_num_seqs": 3})
    notebook.cell()
    knobs, controls = notebook.pictures[-2:]
    assert "<td>max_num_seqs</td><td>3</td><td>3</td>" in knobs
    assert ">paused</td>" in controls
    for widget in widgets:
        widget.close()


def test_a_comparison_has_a_picture_of_its_own(notebook, engine):
    engine.submit([1] * 5, max_tokens=6).result(30)
    trace = engine.core.trace.copy()
    found = compare(trace, trace)
    notebook.cell(found._ipython_display_)
    ((_, update, picture),) = notebook.written
    assert not update
    assert found._repr_html_() in picture
    assert picture.startswith('<div class="iw-still" data-engine="compare-')


@pytest.mark.parametrize("kind", ["engine", "saved trace"])
def test_an_answer_of_the_simulator_is_in_the_picture(engine, notebook, kind):
    engine.submit([1] * 5, max_tokens=30).result(30)
    wait_until(lambda: engine.loop.status().state == "idle")
    client = EngineClient(engine.loop, engine.tokenizer)
    trace: Trace = engine.core.trace
    widget = EngineWidget(client, "what_if") if kind == "engine" else TraceWidget(trace, "what_if")
    replies = []
    widget.send = lambda content, buffers=(): replies.append(content)
    notebook.cell(widget._ipython_display_)
    assert "nothing yet" in notebook.pictures[-1]
    widget.receive({"type": "subscribe"})
    widget.receive({"type": "command", "id": "w", "name": "what_if", "args": {"settings": {"max_num_seqs": 1}}})
    wait_until(lambda: any(reply.get("id") == "w" for reply in replies))
    reply = next(reply for reply in replies if reply.get("id") == "w")
    assert reply["ok"], reply
    wait_until(lambda: widget.answer() in notebook.pictures[-1])
    assert "nothing yet" not in notebook.pictures[-1]
    widget.close()
