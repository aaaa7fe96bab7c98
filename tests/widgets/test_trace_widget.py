"""A saved trace on a page: all of it, in frames, and commands are refused by name."""

import json

import pytest

from tests.engine.helpers import Engine
from workbench.core.errors import ConfigError
from workbench.trace import Replay, Trace
from workbench.trace.wire import RecordReader, snapshot_from_json
from workbench.widgets import trace_widget
from workbench.widgets.trace_widget import TraceWidget


def test_a_page_rebuilds_the_saved_trace(tmp_path, monkeypatch):
    monkeypatch.setattr(trace_widget, "FRAME_STEPS", 7)
    with Engine(num_blocks=12) as engine:
        for handle in [engine.submit([i] * 7, max_tokens=20) for i in range(4)]:
            handle.result(30)
        saved = Trace.load(engine.core.trace.save(tmp_path / "run.trace"))
    widget, sent = TraceWidget(saved), []
    widget.send = lambda content, buffers=(): sent.append((content, [json.loads(b) for b in buffers]))
    widget.receive({"type": "subscribe"})
    widget.receive({"type": "command", "id": "c", "name": "pause", "args": {}})
    assert sent[0][0]["engine"] == saved.info
    frames = [payload for content, [payload] in sent[1:-1]]
    assert len(frames) > 2
    replay = Replay(snapshot_from_json(frames[0]["snapshot"]))
    for frame in frames:
        for record in map(RecordReader().from_json, frame["records"]):
            replay.apply(record)
    assert replay.snapshot() == saved.at()
    assert sent[0][0]["saved"] is True
    assert sent[-1][0]["error"]["kind"] == "SavedTraceError"
    widget.receive({"type": "command", "id": "w", "name": "why", "args": {"request_id": "r2"}})
    told = json.loads(json.dumps(sent[-1][0]["result"]))
    assert told == json.loads(json.dumps(saved.why("r2").to_json()))
    with pytest.raises(ConfigError, match="dashboard, blocks"):
        TraceWidget(saved, "nonsense")
