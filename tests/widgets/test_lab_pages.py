"""The engines of a kernel as JupyterLab's extension is told of them, over a fake comm."""

import gc
import json
import subprocess
import sys
import threading

import pytest

from tests.engine.helpers import Engine, wait_until
from workbench.engine.client import EngineClient
from workbench.trace import Replay
from workbench.trace.wire import RecordReader, snapshot_from_json
from workbench.widgets import lab_pages
from workbench.widgets.engine_summary import engine_summary, tokens_per_second
from workbench.widgets.lab_pages import LabPages


class Comm:
    """What ipykernel hands to a target: it keeps what is sent, as JSON would carry it."""

    def __init__(self, target_name="", data=None):
        self.target_name, self.opened_with = target_name, data
        self.sent = []

    def on_msg(self, callback):
        self.take = callback

    def on_close(self, callback):
        self.end = callback

    def send(self, data, buffers=()):
        self.sent.append((json.loads(json.dumps(data)), [json.loads(b) for b in buffers]))

    def tell(self, **content):
        self.take({"content": {"data": content}})

    def lists(self):
        return [data["engines"] for data, _ in self.sent if data["type"] == "engines"]

    def messages(self, engine_id, kind):
        wrapped = [(d, b) for d, b in self.sent if d["type"] == "engine" and d["engine_id"] == engine_id]
        return [(d["message"], b) for d, b in wrapped if d["message"]["type"] == kind]


@pytest.fixture
def made():
    return []


@pytest.fixture
def pages(made):
    def create(**arguments):
        made.append(Comm(**arguments))
        return made[-1]

    return LabPages(create)


@pytest.fixture
def engine():
    with Engine(num_blocks=12) as made:
        yield made


def connect(pages):
    comm = Comm()
    pages(comm, {})
    return comm


def test_the_first_engine_is_announced_once_and_again_if_nobody_knew_it(pages, made, engine):
    client = EngineClient(engine.loop, engine.tokenizer)
    pages.add(client)
    pages.add(client)
    assert [comm.target_name for comm in made] == [lab_pages.TARGET]
    made[0].end({})
    pages.add(client)
    assert len(made) == 2


def test_a_page_hears_of_engines_that_are_there_and_of_new_ones_and_forgets_those_that_went(pages, engine):
    client = EngineClient(engine.loop, engine.tokenizer)
    pages.add(client)
    comm = connect(pages)
    assert [e["ordinal"] for e in comm.lists()[-1]] == [1]
    with Engine() as second:
        other = EngineClient(second.loop, None)
        pages.add(other)
        assert [e["ordinal"] for e in comm.lists()[-1]] == [1, 2]
        del client
        gc.collect()
        assert [e["ordinal"] for e in pages.summaries()] == [2]


def test_a_summary_says_what_the_engine_says(pages, engine):
    client = EngineClient(engine.loop, engine.tokenizer)
    handle = engine.submit([1] * 9, max_tokens=30)
    engine.submit([2] * 7, max_tokens=30)
    records = engine.loop.step(12).result()
    summary = engine_summary(client, 3)
    state = engine.loop.call(engine.core.scheduler.snapshot)
    assert summary["state"] == "paused"
    assert summary["step"] == state.step
    assert summary["num_used_blocks"] == sum(count > 0 for count in state.ref_counts) > 0
    assert summary["num_blocks"] == 12
    assert (summary["num_running"], summary["num_waiting"]) == (len(state.running), len(state.waiting))
    assert summary["tokens_per_second"] == 0.0
    # Counted by hand over a window that holds exactly the last five steps.
    now = records[-1].time + 1.0
    since = now - records[-5].time
    expected = sum(len(r.sampled) for r in records[-5:])
    assert tokens_per_second(engine.core.trace, now, since) * since == pytest.approx(expected)
    assert expected > 0
    handle.cancel()


def test_what_a_page_rebuilds_over_the_shared_comm_equals_the_engine(pages, engine):
    client = EngineClient(engine.loop, engine.tokenizer)
    pages.add(client)
    comm = connect(pages)
    comm.tell(type="engine", engine_id="test", message={"type": "subscribe", "updates_per_second": 5})
    for i in range(6):
        engine.submit([i] * 7, max_tokens=20).result(30)
    comm.tell(type="engine", engine_id="test", message={"type": "command", "id": "c", "name": "pause", "args": {}})
    wait_until(lambda: comm.messages("test", "reply"))
    assert comm.messages("test", "reply")[0][0]["ok"]
    assert engine.loop.status().state == "paused"
    last = engine.core.trace.last_step

    def rebuilt():
        frames = [buffers[0] for _, buffers in comm.messages("test", "frame")]
        replay = Replay(snapshot_from_json(frames[0]["snapshot"]))
        for frame in frames:
            for record in map(RecordReader().from_json, frame["records"]):
                replay.apply(record)
        return replay

    wait_until(lambda: comm.messages("test", "frame") and rebuilt().step == last)
    assert rebuilt().snapshot() == engine.core.trace.at()
    assert comm.messages("test", "hello")[0][0]["engine"]["max_model_len"] == 128
    comm.end({})


def test_messages_for_nobody_and_nonsense_are_ignored(pages, engine):
    comm = connect(pages)
    comm.tell(type="engine", engine_id="gone", message={"type": "subscribe"})
    comm.tell(type="something else")
    comm.take({"content": {"data": None}})
    assert [data["type"] for data, _ in comm.sent] == ["engines"]


def test_a_watched_list_follows_the_engine_and_ends_when_the_page_is_silent_or_closes(pages, engine, monkeypatch):
    monkeypatch.setattr(lab_pages, "MIN_SECONDS", 0.01)
    client = EngineClient(engine.loop, engine.tokenizer)
    pages.add(client)
    comm = connect(pages)
    comm.tell(type="watch", seconds=0.01)
    engine.loop.pause()
    wait_until(lambda: comm.lists()[-1][0]["state"] == "paused")
    comm.tell(type="watch", seconds=None)
    wait_until(lambda: watchers() == 0)
    comm.tell(type="watch", seconds=0.01)
    monkeypatch.setattr(lab_pages, "SILENCE_SECONDS", 0.0)
    wait_until(lambda: watchers() == 0)
    monkeypatch.setattr(lab_pages, "SILENCE_SECONDS", 60.0)
    comm.tell(type="watch", seconds=0.01)
    wait_until(lambda: watchers() == 1)
    comm.end({})
    wait_until(lambda: watchers() == 0)
    pages.add(client)
    assert len(comm.lists()[-1]) == 1, "a page that has gone is told nothing"


def test_a_page_that_never_said_goodbye_is_dropped_when_another_comes(pages, engine, monkeypatch):
    old = connect(pages)
    monkeypatch.setattr(lab_pages, "SILENCE_SECONDS", 0.0)
    connect(pages)
    heard = len(old.sent)
    pages.add(EngineClient(engine.loop, engine.tokenizer))
    assert len(old.sent) == heard


def test_outside_a_kernel_nothing_is_announced_or_loaded():
    code = """
import sys
import threading
from workbench.widgets.lab_pages import announce
announce(None)
print([name for name in ("comm", "ipykernel", "ipywidgets", "anywidget", "torch") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "[]"


def watchers():
    return sum(thread.name == "workbench-list" for thread in threading.enumerate())
