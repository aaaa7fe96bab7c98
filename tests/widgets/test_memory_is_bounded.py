"""A long run with a page that watches holds no more than a short one: what is kept has bounds."""

import gc
import sys
from types import BuiltinFunctionType, FrameType, FunctionType, ModuleType

from tests.engine.helpers import Engine, wait_until
from workbench.engine.client import EngineClient
from workbench.widgets.engine_channel import EngineChannel

TRACE_STEPS = 60
ELSEWHERE = (type, ModuleType, FunctionType, BuiltinFunctionType, FrameType)


def bytes_held(*roots: object) -> int:
    """What these objects and all that they refer to take, code and modules apart."""
    seen, todo, total = set(), list(roots), 0
    while todo:
        found = todo.pop()
        if id(found) in seen or isinstance(found, ELSEWHERE):
            continue
        seen.add(id(found))
        total += sys.getsizeof(found)
        todo += gc.get_referents(found)
    return total


def test_what_engine_and_feed_hold_stops_growing_at_the_trace_s_bound():
    with Engine(num_blocks=12, trace_steps=TRACE_STEPS) as engine:
        client = EngineClient(engine.loop, engine.tokenizer)
        frames = [0]

        def send(content, buffers):
            if content["type"] == "frame":
                frames[0] += 1
                channel.receive({"type": "ack", "seq": content["seq"]})

        channel = EngineChannel(client, send)
        channel.receive({"type": "subscribe"})

        def held_after(steps: int) -> int:
            while engine.core.trace.last_step < steps:
                for handle in [engine.submit([i, i + 1] * 4, max_tokens=20) for i in range(8)]:
                    handle.result(30)
            wait_until(lambda: engine.loop.status().state == "idle")
            seen = frames[0]
            wait_until(lambda: frames[0] > seen + 1)  # the page has had all of it
            gc.collect()
            return bytes_held(engine.loop, client, channel)

        early = held_after(250 * TRACE_STEPS)  # keyframes, too, have reached their bound
        late = held_after(500 * TRACE_STEPS)
        assert len(engine.core.trace) == TRACE_STEPS
        assert engine.core.trace.num_dropped >= 499 * TRACE_STEPS
        assert early > engine.core.trace.num_bytes, "it sees the trace"
        assert late < 1.1 * early  # a leak of two bytes a step would be more
