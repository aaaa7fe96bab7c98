"""The widget over a fake comm: what a page receives rebuilds the engine's state; commands and errors come back."""

import gc
import json
import threading
import time
import weakref

import pytest

from tests.engine.helpers import Engine, wait_until
from workbench.core.errors import ConfigError, EngineClosedError
from workbench.engine.client import EngineClient
from workbench.trace import Replay
from workbench.trace.wire import RecordReader, snapshot_from_json, snapshot_to_json
from workbench.widgets import feed as feed_module
from workbench.widgets.engine_widget import EngineWidget


class Page:
    """What a browser does: subscribe, acknowledge, rebuild."""

    def __init__(self, widget: EngineWidget, acknowledge: bool = True) -> None:
        self.widget = widget
        self.acknowledging = acknowledge
        self.hello = None
        self.frames, self.replies = [], {}
        self.replay = None
        self.texts = {}
        widget.send = self.receive

    def tell(self, **content):
        self.widget.receive(content)

    def tell_on_a_subshell(self, **content):
        """As where messages come while a cell runs: not on the main thread."""
        thread = threading.Thread(target=self.tell, kwargs=content)
        thread.start()
        thread.join()

    def command(self, name, **args):
        self.tell(type="command", id=name, name=name, args=args)
        wait_until(lambda: name in self.replies)
        return self.replies.pop(name)

    def receive(self, content, buffers=()):
        if content["type"] == "hello":
            self.hello = content["engine"]
        elif content["type"] == "reply":
            self.replies[content["id"]] = json.loads(json.dumps(content))
        else:
            payload = json.loads(buffers[0])
            self.apply(payload)
            self.frames.append((content, payload))
            if self.acknowledging:
                self.tell(type="ack", seq=content["seq"])

    def apply(self, payload):
        if "snapshot" in payload:
            self.replay = Replay(snapshot_from_json(payload["snapshot"]))
        for record in map(RecordReader().from_json, payload["records"]):
            self.replay.apply(record)
        self.texts.update(payload["texts"])


@pytest.fixture
def engine():
    with Engine(num_blocks=12) as made:
        yield made


def make_widget(engine, view="dashboard"):
    client = EngineClient(engine.loop, engine.tokenizer)
    widget = EngineWidget(client, view)
    widget.keep = client  # stands for the LLM
    return widget


def test_what_a_page_rebuilds_equals_the_engine(engine):
    page = Page(make_widget(engine))
    engine.submit([1] * 9, max_tokens=30)
    page.tell(type="subscribe")
    handles = [engine.submit([i] * 7, max_tokens=20) for i in range(6)]
    for handle in handles:
        handle.result(30)
    wait_until(lambda: page.replay is not None and page.replay.step == engine.core.trace.last_step)
    engine.loop.pause()
    wait_until(lambda: page.frames[-1][1]["status"]["state"] == "paused")
    state = engine.loop.call(engine.core.scheduler.snapshot)
    assert page.replay.snapshot() == state
    assert any(d.action == "preempt" for r in engine.core.trace for d in r.decisions)
    assert page.frames[0][0]["keyframe"]
    assert [content["seq"] for content, _ in page.frames] == list(range(1, len(page.frames) + 1))
    assert page.texts["1"] == "b"


def test_hello_tells_what_never_changes(engine):
    page = Page(make_widget(engine))
    page.tell(type="subscribe")
    wait_until(lambda: page.hello)
    assert page.hello["max_model_len"] == 128
    assert page.hello["settings"]["max_num_seqs"] == ["64", "8"]
    assert page.hello["starters"] == [{"title": "t", "text": "x"}]


def test_a_late_page_starts_from_a_keyframe_and_a_second_subscription_begins_anew(engine):
    engine.submit([1, 2, 3], max_tokens=20).result(10)
    page = Page(make_widget(engine))
    page.tell(type="subscribe")
    wait_until(lambda: page.replay is not None and page.replay.step == engine.core.trace.last_step)
    page.tell(type="subscribe")
    wait_until(lambda: [content["keyframe"] for content, _ in page.frames].count(True) == 2)
    assert page.replay.snapshot() == engine.core.trace.at()


def test_a_page_that_does_not_acknowledge_gets_no_more_than_its_credit(engine, monkeypatch):
    monkeypatch.setattr(feed_module, "FRAME_SECONDS", 0.001)
    monkeypatch.setattr(feed_module, "HEARTBEAT_SECONDS", 0.001)
    page = Page(make_widget(engine), acknowledge=False)
    page.tell_on_a_subshell(type="subscribe")
    wait_until(lambda: len(page.frames) == feed_module.MAX_UNACKNOWLEDGED)
    engine.submit([1], max_tokens=40).result(10)
    time.sleep(0.1)
    assert len(page.frames) == feed_module.MAX_UNACKNOWLEDGED
    page.acknowledging = True
    page.tell_on_a_subshell(type="ack", seq=page.frames[-1][0]["seq"])
    wait_until(lambda: page.replay.step == engine.core.trace.last_step)
    assert page.replay.snapshot() == engine.core.trace.at()


def test_a_page_that_a_running_cell_keeps_from_acknowledging_goes_on_at_a_lower_rate(engine, monkeypatch):
    for name in ("FRAME_SECONDS", "HEARTBEAT_SECONDS", "UNHEARD_FRAME_SECONDS"):
        monkeypatch.setattr(feed_module, name, 0.001)
    monkeypatch.setattr(feed_module, "SILENCE_SECONDS", 0.0)
    widget = make_widget(engine)
    page = Page(widget, acknowledge=False)
    page.tell(type="subscribe")  # on the main thread, where nothing comes until the cell has ended
    wait_until(lambda: len(page.frames) > 2 * feed_module.MAX_UNACKNOWLEDGED)
    engine.submit([1], max_tokens=40).result(10)
    wait_until(lambda: page.replay.step == engine.core.trace.last_step)
    assert page.replay.snapshot() == engine.core.trace.at()
    monkeypatch.setattr(feed_module, "UNHEARD_SECONDS", 0.0)
    wait_until(lambda: not widget._channel._feed._thread.is_alive())


def test_a_silent_page_is_dropped(engine, monkeypatch):
    monkeypatch.setattr(feed_module, "FRAME_SECONDS", 0.001)
    monkeypatch.setattr(feed_module, "HEARTBEAT_SECONDS", 0.001)
    monkeypatch.setattr(feed_module, "SILENCE_SECONDS", 0.05)
    widget = make_widget(engine)
    page = Page(widget, acknowledge=False)
    page.tell_on_a_subshell(type="subscribe")
    wait_until(lambda: not widget._channel._feed._thread.is_alive())
    assert engine.core.hooks._on_step == ()


def test_unsubscribing_ends_the_stream_and_the_hook(engine):
    widget = make_widget(engine)
    page = Page(widget)
    page.tell(type="subscribe")
    wait_until(lambda: page.frames)
    page.tell(type="unsubscribe")
    wait_until(lambda: not widget._channel._feed._thread.is_alive())
    assert engine.core.hooks._on_step == ()


def test_commands_reach_the_engine(engine):
    page = Page(make_widget(engine))
    page.tell(type="subscribe")
    assert page.command("pause")["ok"]
    reply = page.command("submit", prompts=["abc", "bcd"], params={"max_tokens": 3}, priority=0)
    assert reply["result"]["request_ids"] == ["r1", "r2"]
    assert page.command("step", n=1)["ok"]
    wait_until(lambda: page.replay is not None and len(page.replay.snapshot().running) == 2)
    assert page.command("configure", max_num_seqs=1)["ok"]
    assert page.command("cancel", request_id="r1")["ok"]
    assert page.command("set_speed", steps_per_second=500.0)["ok"]
    assert page.command("resume")["ok"]
    wait_until(lambda: engine.loop.status().state == "idle")
    ends = {f.request_id: f.finish_reason for r in engine.core.trace for f in r.finished}
    assert ends == {"r1": "abort", "r2": "length"}
    assert page.command("abort_all")["ok"]


def test_the_debuggers_commands(engine):
    page = Page(make_widget(engine))
    page.tell(type="subscribe")
    assert page.command("configure", scheduling_policy="priority")["ok"]
    assert page.command("break_on", event="first_token", request="r2")["ok"]
    assert page.command("break_on", free_blocks_under=2)["ok"]
    assert page.command("pause")["ok"]
    assert page.command("submit", prompts=["abc", "bcd", "cde"], params={"max_tokens": 9})["ok"]
    assert page.command("set_priority", request_id="r3", priority=-1)["ok"]
    assert page.command("move_to_front", request_id="r2")["ok"]
    wait_until(lambda: page.replay is not None and page.replay.snapshot().waiting == ("r3", "r2", "r1"))
    assert page.command("resume")["ok"]
    wait_until(lambda: page.frames[-1][1]["status"]["message"] == "first_token of r2: r2 got its first token")
    assert page.frames[-1][1]["status"]["state"] == "paused"
    assert page.frames[-1][1]["status"]["breakpoints"] == ["first_token of r2", "fewer than 2 free blocks"]
    assert page.command("clear_breakpoints")["ok"]
    assert page.command("resume")["ok"]
    wait_until(lambda: engine.loop.status().state == "idle")
    assert engine.loop.breakpoints == ()
    told = page.command("why", request_id="r1")["result"]
    assert told["request_id"] == "r1"
    assert told["causes"][-1][0] == "Finished: it reached its length."


@pytest.mark.parametrize(
    ("name", "args", "kind", "text"),
    [
        ("submit", {"prompts": [], "params": {}}, "InvalidRequestError", "1 to 64"),
        ("submit", {"prompts": [""], "params": {}}, "EmptyPromptError", "no tokens"),
        ("submit", {"prompts": [{"prompt_token_ids": ["a"]}]}, "InvalidRequestError", "whole numbers"),
        ("submit", {"prompts": [{"prompt": "abc"}]}, "InvalidRequestError", "a text or"),
        ("submit", {"prompts": ["abc"], "params": {"top_p": 2}}, "SamplingParamsError", "top_p"),
        ("submit", {"prompts": ["abc"], "params": {"tempo": 2}}, "SamplingParamsError", "unknown"),
        ("configure", {"max_num_seqs": 0}, "ConfigError", "at least 1"),
        ("set_speed", {"steps_per_second": 0}, "ConfigError", "above 0"),
        ("step", {"n": 0}, "ConfigError", "at least 1"),
        ("break_on", {"event": "explosion"}, "ConfigError", "the events are"),
        ("break_on", {"evnt": "finish"}, "ConfigError", "unknown arguments"),
        ("explode", {}, "ConfigError", "no command"),
    ],
)
def test_a_refused_command_comes_back_with_the_reason(engine, name, args, kind, text):
    page = Page(make_widget(engine))
    reply = page.command(name, **args)
    assert not reply["ok"]
    assert reply["error"]["kind"] == kind
    assert text in reply["error"]["message"]
    assert engine.loop.status().state == "idle"


def test_shutdown_is_shown(engine):
    page = Page(make_widget(engine))
    page.tell(type="subscribe")
    wait_until(lambda: page.frames)
    engine.loop.shutdown()
    wait_until(lambda: page.frames[-1][1]["status"]["state"] == "closed")
    assert page.command("pause")["error"]["kind"] == "EngineClosedError"
    with pytest.raises(EngineClosedError):
        make_widget(engine)


def test_a_view_does_not_keep_its_engine_alive(engine):
    widget = make_widget(engine)
    page = Page(widget)
    page.tell(type="subscribe")
    wait_until(lambda: page.frames)
    gone = weakref.ref(widget.keep)
    del widget.keep
    gc.collect()
    wait_until(lambda: gone() is None)
    wait_until(lambda: page.frames[-1][1]["status"]["state"] == "closed")
    assert page.command("pause")["error"]["kind"] == "EngineClosedError"


def test_unknown_views_are_refused(engine):
    with pytest.raises(ConfigError, match="dashboard, blocks"):
        make_widget(engine, "block")


def test_snapshots_survive_the_wire(engine):
    engine.submit([1, 2, 3], max_tokens=20)
    engine.loop.step(3).result(10)
    snapshot = engine.core.trace.at()
    assert snapshot_from_json(json.loads(json.dumps(snapshot_to_json(snapshot)))) == snapshot


@pytest.mark.parametrize("asked", ["at", "records"])
def test_steps_that_are_dropped_while_a_frame_is_made_are_asked_for_anew(asked):
    with Engine(num_blocks=12, trace_steps=40) as engine:
        page, trace = Page(make_widget(engine)), engine.core.trace
        for i in range(6):
            engine.submit([i] * 5, max_tokens=30).result(30)
        ask, calls = getattr(trace, asked), []

        def slowly(*args):
            if asked == "at" or args[1] - args[0] == feed_module.FRAME_STEPS:  # the feed's own call, not the trace's
                calls.append(args)
            if len(calls) == 1:  # in the middle of the page's first frame
                calls.append(None)
                for _ in range(2):
                    engine.submit([7] * 5, max_tokens=40).result(30)
            return ask(*args)

        setattr(trace, asked, slowly)
        page.tell(type="subscribe")
        wait_until(lambda: page.replay is not None and page.replay.step == trace.last_step)
        assert len(calls) > 2
        assert page.replay.snapshot() == trace.at()


def test_frames_are_rarer_where_steps_are_too_quick_to_follow():
    pause = feed_module.frame_seconds
    assert pause(1, 0.05, 0.001) == 0.05, "20 steps a second: each is a frame"
    assert pause(2, 0.1, 0.001) == 0.05, "and stays one after a late frame"
    assert pause(2, 0.05, 0.001) == 0.05, "nor does one more step than usual make it two"
    assert pause(3, 0.05, 0.0) == 0.2
    assert pause(5, 0.1, 0.25 * feed_module.FAST_SHARE) == 0.25, "so that they take a share of the interpreter's time"
    assert pause(5, 0.1, 1.0) == 1 / 3, "and no fewer than three a second, however dear"
    assert pause(feed_module.FRAME_STEPS, 0.05, 1.0) == 0.05, "a backlog is sent as quickly as may be"
    assert pause(50, float("inf"), 0.0) == 0.05, "the first frame"
