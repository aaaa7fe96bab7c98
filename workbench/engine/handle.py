"""A submitted request, seen from outside the engine's thread."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from workbench.core.errors import EngineClosedError, ResultTimeoutError
from workbench.core.sampling_params import SamplingParams
from workbench.core.scheduler_output import SampledToken
from workbench.engine.interfaces import Tokenizer
from workbench.engine.outputs import CompletionOutput, Logprob, RequestMetrics, RequestOutput, StreamOutput
from workbench.engine.text_stream import TextStream

NOTICE_SECONDS = 1.0


@dataclass(slots=True)
class SequenceResult:
    """What one sequence has produced so far. Written by the engine's thread, lists only ever grow."""

    index: int
    tokens: list[SampledToken] = field(default_factory=list)
    text_stream: TextStream | None = None  # only with stop strings: the engine must see the text then
    finish_reason: str | None = None
    stop_reason: int | str | None = None


@dataclass(frozen=True, slots=True)
class _Event:
    sequence: int
    token: SampledToken | None
    text: str | None  # given if the engine decoded it
    finish_reason: str | None


class RequestHandle:
    """A request on its way. Iterate for pieces as they come (`for piece in handle`, `async for piece in handle`),
    `result()` for the whole, `cancel()` to end it early. Every iteration starts at the first token.

    Waiting happens in the caller's thread; an interrupted wait leaves the request running.
    """

    def __init__(
        self,
        request_id: str,
        prompt: str | None,
        prompt_token_ids: tuple[int, ...],
        params: SamplingParams,
        tokenizer: Tokenizer | None,
        arrival_time: float,
        cancel: Callable[[str], None],
        notice: Callable[[], str | None],
        owner: object,
    ) -> None:
        self.request_id = request_id
        self.prompt = prompt
        self.prompt_token_ids = prompt_token_ids
        self.params = params
        self.arrival_time = arrival_time
        self.first_scheduled_time: float | None = None
        self.first_token_time: float | None = None
        self.last_token_time: float | None = None
        self.finished_time: float | None = None
        self.num_cached_tokens = 0
        self.num_preemptions = 0
        self._tokenizer = tokenizer
        self._cancel = cancel
        self._notice = notice
        self._owner = owner  # whoever waits for a result keeps the engine alive
        self._sequences = [SequenceResult(i) for i in range(params.n)]
        self._num_live = params.n
        self._events: list[_Event] = []
        self._condition = threading.Condition()
        self._wakers: tuple[Callable[[], None], ...] = ()
        self._num_listeners = 0  # threads that want every piece; those that want only the end are not woken for tokens
        self._closed = False
        if params.stop and tokenizer is not None:
            for sequence in self._sequences:
                sequence.text_stream = self._text_stream(tokenizer, params.stop)

    def __repr__(self) -> str:
        state = "finished" if self.done() else "running"
        return f"RequestHandle({self.request_id!r}, {state}, {sum(len(s.tokens) for s in self._sequences)} tokens)"

    def done(self) -> bool:
        """True once every completion has ended."""
        return self._num_live == 0

    def cancel(self) -> None:
        """End the request; it finishes with finish_reason "abort". No effect on a finished one."""
        self._cancel(self.request_id)

    def result(self, timeout: float | None = None) -> RequestOutput:
        """Wait for the end. Raises ResultTimeoutError after `timeout` seconds, EngineClosedError after a shutdown."""
        self._wait(self.done, timeout)
        return self.output()

    def output(self) -> RequestOutput:
        """What there is so far, without waiting."""
        return RequestOutput(
            request_id=self.request_id,
            prompt=self.prompt,
            prompt_token_ids=self.prompt_token_ids,
            outputs=tuple(self._completion(sequence) for sequence in self._sequences),
            finished=self.done(),
            metrics=RequestMetrics(
                self.arrival_time,
                self.first_scheduled_time,
                self.first_token_time,
                self.last_token_time,
                self.finished_time,
            ),
            num_cached_tokens=self.num_cached_tokens,
            num_preemptions=self.num_preemptions,
        )

    def __iter__(self) -> Iterator[StreamOutput]:
        decoder = _PieceDecoder(self)
        position = 0
        while True:
            if position == len(self._events):
                self._wait_for_piece(position)
            if position == len(self._events):
                return
            yield decoder.piece(self._events[position])
            position += 1

    async def __aiter__(self) -> AsyncIterator[StreamOutput]:
        decoder = _PieceDecoder(self)
        loop, ready = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(ready.set)

        with self._condition:
            self._wakers = (*self._wakers, wake)
        position = 0
        try:
            while True:
                ready.clear()
                while position < len(self._events):
                    yield decoder.piece(self._events[position])
                    position += 1
                if self.done() and position == len(self._events):
                    return
                if self._closed:
                    raise EngineClosedError(f"the engine was shut down before {self.request_id} finished")
                await ready.wait()
        finally:
            with self._condition:
                self._wakers = tuple(w for w in self._wakers if w is not wake)

    # The methods below are called by the engine's thread.

    def add_token(self, index: int, token: SampledToken, now: float, may_stop: bool) -> str | None:
        """Take a sampled token; returns the stop string that it completes, if any."""
        sequence = self._sequences[index]
        if self.first_token_time is None:
            self.first_token_time = now
        self.last_token_time = now
        sequence.tokens.append(token)
        text = None
        if sequence.text_stream is not None:
            text = sequence.text_stream.push(token.token_id, may_stop)
        self._events.append(_Event(index, token, text, None))
        if self._num_listeners or self._wakers:
            self._wake()
        return None if sequence.text_stream is None else sequence.text_stream.stopped_by

    def finish(self, index: int, finish_reason: str, stop_reason: int | str | None, now: float) -> None:
        """End one sequence."""
        sequence = self._sequences[index]
        sequence.finish_reason, sequence.stop_reason = finish_reason, stop_reason
        rest = sequence.text_stream.finish() if sequence.text_stream is not None else None
        self.finished_time = now
        self._num_live -= 1
        self._events.append(_Event(index, None, rest, finish_reason))
        self._wake()

    def close(self) -> None:
        """The engine is gone: wake everybody who waits."""
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        with self._condition:
            self._condition.notify_all()
            for wake in self._wakers:
                wake()

    def _wait_for_piece(self, position: int) -> None:
        with self._condition:
            self._num_listeners += 1
        try:
            self._wait(lambda: len(self._events) > position or self.done(), None)
        finally:
            with self._condition:
                self._num_listeners -= 1

    def _wait(self, ready: Callable[[], bool], timeout: float | None) -> None:
        """Wait in this thread. A notice, such as that the engine is paused, is printed once per wait."""
        deadline = None if timeout is None else time.monotonic() + timeout
        noticed = False
        with self._condition:
            while not ready():
                if self._closed:
                    raise EngineClosedError(
                        f"the engine was shut down before {self.request_id} finished; make a new LLM and submit again"
                    )
                left = NOTICE_SECONDS if deadline is None else min(NOTICE_SECONDS, deadline - time.monotonic())
                if left <= 0:
                    raise ResultTimeoutError(
                        f"{self.request_id} did not finish within {timeout} s; it goes on, ask again or cancel() it"
                    )
                if not self._condition.wait(left) and not noticed:
                    notice = self._notice()
                    noticed = notice is not None
                    if notice is not None:
                        print(notice, flush=True)

    def _text_stream(self, tokenizer: Tokenizer, stop: tuple[str, ...]) -> TextStream:
        detokenizer = tokenizer.detokenizer(self.prompt_token_ids, self.params.skip_special_tokens)
        return TextStream(detokenizer, stop, self.params.include_stop_str_in_output)

    def _completion(self, sequence: SequenceResult) -> CompletionOutput:
        tokens = list(sequence.tokens)
        if sequence.text_stream is not None:
            text = sequence.text_stream.text
        elif self._tokenizer is not None:
            stream = self._text_stream(self._tokenizer, ())
            text = "".join(stream.push(token.token_id, False) for token in tokens)
        else:
            text = ""
        logprobs = cumulative = None
        if self.params.logprobs is not None:
            logprobs = tuple(self.logprobs_of(token) for token in tokens)
            cumulative = sum(token.logprob for token in tokens if token.logprob is not None)
        return CompletionOutput(
            index=sequence.index,
            text=text,
            token_ids=tuple(token.token_id for token in tokens),
            cumulative_logprob=cumulative,
            logprobs=logprobs,
            finish_reason=sequence.finish_reason,
            stop_reason=sequence.stop_reason,
        )

    def logprobs_of(self, token: SampledToken) -> dict[int, Logprob]:
        """vLLM's shape: token id -> Logprob, the sampled token first and then the likeliest ones."""

        def text_of(token_id: int) -> str | None:
            return None if self._tokenizer is None else self._tokenizer.token_text(token_id)

        ranks = {token_id: rank for rank, (token_id, _) in enumerate(token.alternatives, start=1)}
        found: dict[int, Logprob] = {}
        if token.logprob is not None:
            found[token.token_id] = Logprob(token.logprob, ranks.get(token.token_id), text_of(token.token_id))
        for token_id, logprob in token.alternatives:
            found.setdefault(token_id, Logprob(logprob, ranks[token_id], text_of(token_id)))
        return found


class _PieceDecoder:
    """Turns events into pieces for one iteration; decoding costs the reader's thread, not the engine's."""

    def __init__(self, handle: RequestHandle) -> None:
        self._handle = handle
        self._streams: dict[int, Any] = {}

    def piece(self, event: _Event) -> StreamOutput:
        handle, token = self._handle, event.token
        sequence = handle._sequences[event.sequence]
        return StreamOutput(
            request_id=handle.request_id,
            index=event.sequence,
            text=self._text(event),
            token_ids=() if token is None else (token.token_id,),
            logprobs=None if token is None or handle.params.logprobs is None else (handle.logprobs_of(token),),
            finish_reason=event.finish_reason,
            stop_reason=None if event.finish_reason is None else sequence.stop_reason,
        )

    def _text(self, event: _Event) -> str:
        if event.text is not None:
            return event.text
        tokenizer = self._handle._tokenizer
        if event.token is None or tokenizer is None:
            return ""
        if event.sequence not in self._streams:
            self._streams[event.sequence] = self._handle._text_stream(tokenizer, ())
        text: str = self._streams[event.sequence].push(event.token.token_id, False)
        return text
