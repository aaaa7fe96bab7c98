"""Two engines on the same prompts, for a page: in a thread of its own, while this engine goes on with the rest."""

import threading
import uuid
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from workbench.assembly import make_engine, small_copy
from workbench.core.config import EngineArgs
from workbench.core.errors import ConfigError, EngineClosedError, InvalidRequestError, WorkbenchError
from workbench.core.sampling_params import SamplingParams
from workbench.engine.client import EngineClient
from workbench.quality.lockstep import Lockstep, Row, Side, check_vocabulary
from workbench.quality.outputs import ALTERNATIVES, OutputComparison, comparison, side_name

POLL_SECONDS = 0.03
MAX_PROMPTS = 8


class LockstepJob:
    """Begins at once. `rows` grows by each place that both engines have reached; `head` tells what they are rows of.

    against: {"engine": id} for a live engine out of `client.others`, or {"quantization": name or None} for a copy of
    this engine's model, stored that way, None being full precision. A copy is made for the comparison and ends with it.
    The job refers to both engines weakly and ends with either.

    Raises ConfigError, InvalidRequestError or SamplingParamsError for what cannot be asked.
    """

    def __init__(
        self, client: EngineClient, prompts: Sequence[str], max_tokens: int, against: Mapping[str, Any]
    ) -> None:
        if not 0 < len(prompts) <= MAX_PROMPTS:
            raise InvalidRequestError(f"give 1 to {MAX_PROMPTS} prompts, not {len(prompts)}")
        if not all(isinstance(prompt, str) and prompt for prompt in prompts):
            raise InvalidRequestError("a prompt to compare is a text with at least one letter")
        self._params = SamplingParams(temperature=0.0, max_tokens=max_tokens, logprobs=ALTERNATIVES)
        longest = self._check(client, prompts)
        self._client = weakref.ref(client)
        self._prompts = list(prompts)
        self._other: weakref.ref[EngineClient] | None = None
        if "engine" in against:
            other = client.other(str(against["engine"]))
            check_vocabulary(client, other)
            self._other = weakref.ref(other)
            self._kind = "other"
        else:
            self._kind = "copy"
            self._copy = _copy_settings(client, len(prompts), longest + max_tokens, against)
        self.run = uuid.uuid4().hex[:8]
        self.head: dict[str, Any] | None = None
        self.rows: list[Row] = []
        self._names = ("", "")
        self._state = "loading" if self._other is None else "running"
        self._paused: int | None = None
        self._message: str | None = None
        self._stopping = threading.Event()
        self._text = client.loop.core.trace.token_text or (lambda token: f"{token} ")
        threading.Thread(target=self._run, name="workbench-lockstep", daemon=True).start()

    @property
    def running(self) -> bool:
        """False once it is done, stopped or failed."""
        return self._state in ("loading", "running")

    def progress(self) -> dict[str, Any]:
        """For views. done: places told of at most total. paused: which engine, 0 or 1, has to be resumed first."""
        return {
            "state": self._state,
            "run": self.run,
            "stopping": self.running and self._stopping.is_set(),
            "paused": self._paused,
            "done": len(self.rows),
            "total": len(self._prompts) * (self._params.max_tokens or 0),
            "message": self._message,
        }

    def stop(self) -> None:
        """End early; what was compared stays. Returns at once; a model that is being loaded is loaded first."""
        self._stopping.set()

    def result(self) -> OutputComparison | None:
        """What has been compared so far; None before there is anything."""
        return comparison(self._names, self._prompts, list(self.rows), self._text) if self.rows else None

    def _check(self, client: EngineClient, prompts: Sequence[str]) -> int:
        """The longest prompt, in tokens. Raises as the engine would for a prompt that it would refuse."""
        tokens = [client.need_tokenizer().encode(prompt) for prompt in prompts]
        for token_ids in tokens:
            client.loop.core.scheduler.check_request(token_ids, self._params)
        return max(map(len, tokens))

    def _run(self) -> None:
        state, message = self._ended()
        self._message, self._state = message, state
        client = self._client()
        if client is not None:
            client.loop.core.hooks.emit_rest()  # the pictures in saved notebooks show what was compared

    def _ended(self) -> tuple[str, str | None]:
        """Do it all; returns how it ended, and why if not by itself."""
        try:
            with self._second() as second:
                self._compare(second)
        except _Gone as error:
            return "stopped", str(error) or None
        except Exception as error:
            client = self._client()
            if client is None or client.loop.status().state == "closed":
                return "stopped", None
            return "failed", str(error) if isinstance(error, WorkbenchError) else f"{type(error).__name__}: {error}"
        return "done", None

    @contextmanager
    def _second(self) -> Iterator[EngineClient]:
        """The engine to compare with: the one that was given, or a copy for as long as it takes."""
        if self._other is not None:
            other = self._other()
            if other is None:
                raise EngineClosedError("the other engine is gone; make it again and compare anew")
            yield other
            return
        copy = make_engine(self._copy)
        try:
            yield copy
        finally:
            copy.loop.shutdown()

    def _compare(self, second: EngineClient) -> None:
        first = self._first()
        if self._stopping.is_set():
            raise _Gone
        lockstep = Lockstep(first, second, self._prompts, self._params)
        try:
            self._names = (_name(first), _name(second))
            names = [stream.request_id for stream in lockstep.streams[0]]
            self.head = {
                "sides": [
                    {"name": name, "kind": kind, "model": client.loop.core.runner.spec.name}
                    for name, kind, client in zip(self._names, ("this", self._kind), (first, second), strict=True)
                ],
                "max_tokens": self._params.max_tokens,
                "prompts": [list(pair) for pair in zip(self._prompts, names, strict=True)],
            }
            self._state = "running"
            del first
            while True:
                self.rows.extend(lockstep.advance())
                if lockstep.done:
                    break
                self._look(second)
                if self._stopping.wait(POLL_SECONDS):
                    raise _Gone
            self._look(second)
            _check_ends(lockstep, (self._first(), second))
            self._paused = None
        finally:
            lockstep.cancel()

    def _first(self) -> EngineClient:
        client = self._client()
        if client is None or client.loop.status().state == "closed":
            raise _Gone
        return client

    def _look(self, second: EngineClient) -> None:
        """See that both engines are there, are what they were, and whether one of them waits for its reader."""
        first = self._first()
        for name, client, which in zip(self._names, (first, second), ("this", "the other"), strict=True):
            if (now := _name(client)) != name:
                raise ConfigError(
                    f"{which} engine went from {name} to {now} while the two were compared; compare them again"
                )
        states = [client.loop.status().state for client in (first, second)]
        self._paused = states.index("paused") if "paused" in states else None


class _Gone(Exception):
    """Nobody waits for the rest any more, or it will not come."""


def _check_ends(lockstep: Lockstep, clients: Sequence[EngineClient]) -> None:
    """Raise if an answer ended otherwise than by itself."""
    for client, streams in zip(clients, lockstep.streams, strict=True):
        for stream in streams:
            name, sequence = stream.request_id, stream.sequences[0]
            if sequence.finish_reason == "error":
                raise InvalidRequestError(f"{name} failed: {sequence.stop_reason}")
            if sequence.finish_reason == "abort":
                message = client.loop.status().message
                raise _Gone(f"{name} was cancelled" + ("" if message is None else f": {message}"))


def _name(client: EngineClient) -> str:
    core = client.loop.core
    return side_name(core.runner.spec, core.args.kv_cache_dtype)


def _copy_settings(client: EngineClient, num_seqs: int, num_tokens: int, against: Mapping[str, Any]) -> EngineArgs:
    unknown = sorted(set(against) - {"quantization"})
    if unknown:
        raise ConfigError(f"compare with an engine or with a quantization, not with {', '.join(unknown)}")
    wanted, core = against.get("quantization"), client.loop.core
    stored = core.runner.spec.quantization
    if wanted is None and stored is not None and core.args.quantization is None:
        raise ConfigError(
            f"the checkpoint is quantized itself ({stored}), so its folder holds no full precision to compare with; "
            "load that model as another LLM and give it: llm.playground(compare_with=other)"
        )
    limit = core.scheduler.config.max_model_len
    return small_copy(core.args, num_seqs, min(num_tokens, limit), wanted)


def lockstep_rows(rows: Sequence[Row]) -> list[Any]:
    """Rows as plain values: [prompt, side, side], a side being [token, logprob, alternatives] or a finish_reason."""
    return [[row.prompt, _plain(row.first), _plain(row.second)] for row in rows]


def _plain(side: Side) -> Any:
    return side if isinstance(side, str) else [side.token_id, side.logprob, [list(pair) for pair in side.alternatives]]
