"""Puts requests into a running engine from any thread: for LLM, for widgets, for servers."""

import itertools
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from workbench.core.errors import ConfigError, EngineClosedError, InvalidRequestError, SamplingParamsError
from workbench.core.machine import MachineLimits
from workbench.core.sampling_params import SamplingParams
from workbench.engine.change import Change
from workbench.engine.engine_loop import EngineLoop
from workbench.engine.interfaces import Tokenizer
from workbench.engine.knobs import WEIGHTS
from workbench.engine.request_stream import RequestStream

Prompt = str | Sequence[int] | Mapping[str, Any]

LABEL_CHARACTERS = 60


class Job(Protocol):
    """Something that goes on beside an engine for a view, in a thread of its own."""

    @property
    def running(self) -> bool:
        """False once it has ended."""
        ...

    def progress(self) -> dict[str, Any]:
        """How far it is, for views."""
        ...

    def stop(self) -> None:
        """End it early; returns at once."""
        ...


class EngineClient:
    """Turns prompts into tokens, checks them, names them and queues them. Nothing here touches engine state."""

    def __init__(self, loop: EngineLoop, tokenizer: Tokenizer | None) -> None:
        self.loop = loop
        self.tokenizer = tokenizer
        self.jobs: dict[str, Job] = {}  # the newest of each kind
        self.limits: MachineLimits | None = None  # of the machine, once somebody had them measured
        # Engines that a view may compare this one with, by engine id; kept alive by whoever made them.
        self._others: dict[str, weakref.ref[EngineClient]] = {}
        self._ids = itertools.count(1)

    @property
    def engine_id(self) -> str:
        """The name of the engine, the same for all its views."""
        return str(self.loop.core.trace.info["engine_id"])

    @property
    def others(self) -> "list[EngineClient]":
        """The engines to compare with that are still there, the newest last."""
        found = (ref() for ref in self._others.values())
        return [client for client in found if client is not None and client.loop.status().state != "closed"]

    def other(self, engine_id: str) -> "EngineClient":
        """One of `others`. Raises EngineClosedError if it is gone."""
        for client in self.others:
            if client.engine_id == engine_id:
                return client
        raise EngineClosedError("the engine to compare with is gone; make it again and give it as compare_with=")

    def offer(self, other: "EngineClient") -> None:
        """Let views compare this engine with another one, as long as somebody keeps that one alive.

        Raises ConfigError for this engine itself, EngineClosedError for one that was shut down.
        """
        if other is self:
            raise ConfigError("an engine cannot be compared with itself: its answers are the same; give another one")
        if other.loop.status().state == "closed":
            raise EngineClosedError("the engine to compare with was shut down; make it again")
        self._others.pop(other.engine_id, None)
        self._others[other.engine_id] = weakref.ref(other)

    def submit(
        self, prompts: Sequence[Prompt], params: Sequence[SamplingParams], priorities: Sequence[int]
    ) -> list[RequestStream]:
        """Check everything, then queue everything, so that a refused prompt leaves nothing behind.

        Raises InvalidRequestError, SamplingParamsError or, after a shutdown, EngineClosedError.
        """
        core = self.loop.core
        made: list[tuple[RequestStream, int, str]] = []
        for prompt, param, priority in zip(prompts, params, priorities, strict=True):
            text, token_ids = self._tokens_of(prompt)
            if param.stop and self.tokenizer is None:
                raise SamplingParamsError("stop strings need a tokenizer, and this model has none; use stop_token_ids")
            core.scheduler.check_request(token_ids, param)
            name = f"r{next(self._ids)}"
            stream = RequestStream(name, text, tuple(token_ids), param, self.tokenizer, core.now())
            made.append((stream, priority, self._label(text, token_ids)))

        def add() -> None:
            for stream, priority, label in made:
                try:
                    core.add_request(stream, priority, label)
                except InvalidRequestError as error:  # a setting was changed after the check
                    for index in range(stream.params.n):
                        stream.finish(index, "error", str(error), core.now())

        self.loop.post(add)
        return [stream for stream, _, _ in made]

    def cancel(self, request_id: str) -> None:
        """End a request early."""
        self.loop.post(lambda: self.loop.core.abort(request_id))

    def configure(self, changes: Mapping[str, Any]) -> Change:
        """Turn knobs and wait for the answer; see EngineCore.configure. New weights are read in the caller's thread.

        Raises ConfigError or PolicyError, with the engine as it was.
        """
        core, weights = self.loop.core, None
        asked = {name: changes[name] for name in WEIGHTS if name in changes}
        if asked and (wanted := replace(core.args, **asked).weight_format) != core.args.weight_format:
            self.loop.call(lambda: core.check(changes))
            weights = core.runner.load_weights(wanted)
        return self.loop.call(lambda: core.configure(changes, weights))

    def need_tokenizer(self) -> Tokenizer:
        """The tokenizer; InvalidRequestError if the model has none."""
        if self.tokenizer is None:
            raise InvalidRequestError(
                "this model has no tokenizer, so prompts must be token ids: {'prompt_token_ids': [...]}; or give "
                "LLM(tokenizer=...)"
            )
        return self.tokenizer

    def _tokens_of(self, prompt: Prompt) -> tuple[str | None, Sequence[int]]:
        if isinstance(prompt, Mapping):
            known = [key for key in ("prompt_token_ids", "prompt") if key in prompt]
            extra = sorted(map(str, set(prompt) - {"prompt_token_ids", "prompt"}))
            if not known or extra:
                raise InvalidRequestError(
                    f"a prompt mapping has 'prompt' or 'prompt_token_ids', not {sorted(map(str, prompt))}"
                )
            if known[0] == "prompt_token_ids":
                return prompt.get("prompt"), _token_list(prompt["prompt_token_ids"])
            prompt = prompt["prompt"]
        if isinstance(prompt, str):
            # An empty text stays empty even if the tokenizer would add a token of its own to it.
            return prompt, self.need_tokenizer().encode(prompt) if prompt else []
        return None, _token_list(prompt)

    def _label(self, text: str | None, token_ids: Sequence[int]) -> str:
        if text is None and self.tokenizer is not None:
            text = self.tokenizer.decode(list(token_ids[:LABEL_CHARACTERS]))
        return " ".join((text if text is not None else str(list(token_ids[:12]))).split())[:LABEL_CHARACTERS]


def _token_list(value: Any) -> Sequence[int]:
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence):
        raise InvalidRequestError(f"prompt_token_ids must be a list of whole numbers, not {type(value).__name__}")
    return value
