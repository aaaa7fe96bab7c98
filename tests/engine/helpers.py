"""An engine without a model, for tests."""

import time
from typing import Any

from workbench.core.config import EngineArgs, SchedulerConfig
from workbench.core.policy import make_policy
from workbench.core.sampling_params import SamplingParams
from workbench.core.settings import resolved_settings
from workbench.engine.engine_core import EngineCore
from workbench.engine.engine_loop import EngineLoop
from workbench.engine.handle import RequestHandle
from workbench.engine.info import engine_info
from workbench.engine.request_stream import RequestStream
from workbench.sim import FakeRunner

VOCAB = 50


class LetterTokenizer:
    """Token i is the i-th letter from "a" on; good enough for stop strings."""

    def encode(self, text):
        return [ord(c) - 97 for c in text]

    def decode(self, token_ids):
        return "".join(self.token_text(t) for t in token_ids)

    def detokenizer(self, prompt_token_ids, skip_special_tokens):
        return self

    def step(self, token_id):
        return self.token_text(token_id)

    def token_text(self, token_id):
        return chr(97 + token_id)


class Engine:
    """A loop over a FakeRunner with the few things that LLM adds."""

    def __init__(self, runner: dict[str, Any] | None = None, trace_steps: int = 1000, **changes: Any) -> None:
        settings: dict[str, Any] = {
            "num_blocks": 64,
            "block_size": 4,
            "max_num_seqs": 8,
            "max_num_batched_tokens": 64,
            "max_model_len": 128,
            "vocab_size": VOCAB,
            **changes,
        }
        config = SchedulerConfig(**settings, kv_bytes_per_block=8 * settings["block_size"])
        self.runner = FakeRunner(config, **(runner or {}))
        self.tokenizer = LetterTokenizer()
        settings_table = resolved_settings(EngineArgs(), self.runner.spec, config, "fcfs")
        starters = [{"title": "t", "text": "x"}]
        info = engine_info("test", self.runner.spec, config, settings_table, starters)
        self.core = EngineCore(
            self.runner, config, make_policy("fcfs"), trace_steps, info=info, token_text=self.tokenizer.token_text
        )
        self.loop = EngineLoop(self.core)
        self.count = 0

    def submit(self, prompt: list[int], priority: int = 0, **params: Any) -> RequestHandle:
        self.count += 1
        stream = RequestStream(
            f"r{self.count}", None, tuple(prompt), SamplingParams(**params), self.tokenizer, self.core.now()
        )
        self.core.scheduler.check_request(prompt, stream.params)
        self.loop.post(lambda: self.core.add_request(stream, priority, ""))
        cancel = lambda name: self.loop.post(lambda: self.core.abort(name))  # noqa: E731
        return RequestHandle(stream, cancel, self.notice, self)

    def notice(self) -> str | None:
        return "paused" if self.loop.status().state == "paused" else None

    def __enter__(self) -> "Engine":
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.shutdown()


def wait_until(ready, seconds=10.0):
    """Wait for another thread, not for a time."""
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)
