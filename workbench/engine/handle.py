"""A submitted request as its owner sees it: wait, iterate, cancel."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator

from workbench.core.errors import EngineClosedError, ResultTimeoutError
from workbench.core.scheduler_output import SampledToken
from workbench.engine.outputs import CompletionOutput, Logprob, RequestMetrics, RequestOutput, StreamOutput
from workbench.engine.request_stream import RequestStream, SequenceResult, StreamEvent
from workbench.engine.text_stream import TextStream

NOTICE_SECONDS = 1.0


class RequestHandle:
    """A request on its way. Iterate for pieces as they come (`for piece in handle`, `async for piece in handle`),
    `result()` for the whole, `cancel()` to end it early. Every iteration starts at the first token.

    Waiting happens in the caller's thread; an interrupted wait leaves the request running. The handle keeps its
    engine alive (`owner`), as someone may still wait for the result.
    """

    def __init__(
        self,
        stream: RequestStream,
        cancel: Callable[[str], None],
        notice: Callable[[], str | None],
        owner: object,
    ) -> None:
        self._stream = stream
        self._cancel = cancel
        self._notice = notice
        self._owner = owner

    def __repr__(self) -> str:
        state = "finished" if self.done() else "running"
        tokens = sum(len(sequence.tokens) for sequence in self._stream.sequences)
        return f"RequestHandle({self.request_id!r}, {state}, {tokens} tokens)"

    @property
    def request_id(self) -> str:
        """The name under which views and records know it."""
        return self._stream.request_id

    def done(self) -> bool:
        """True once every completion has ended."""
        return self._stream.done()

    def cancel(self) -> None:
        """End the request; it finishes with finish_reason "abort". No effect on a finished one."""
        if not self.done():
            self._cancel(self.request_id)

    def result(self, timeout: float | None = None) -> RequestOutput:
        """Wait for the end. Raises ResultTimeoutError after `timeout` seconds, EngineClosedError after a shutdown."""
        self._wait(self.done, timeout)
        return self.output()

    def output(self) -> RequestOutput:
        """What there is so far, without waiting."""
        stream = self._stream
        return RequestOutput(
            request_id=stream.request_id,
            prompt=stream.prompt,
            prompt_token_ids=stream.prompt_token_ids,
            outputs=tuple(self._completion(sequence) for sequence in stream.sequences),
            finished=stream.done(),
            metrics=RequestMetrics(
                stream.arrival_time,
                stream.first_scheduled_time,
                stream.first_token_time,
                stream.last_token_time,
                stream.finished_time,
            ),
            num_cached_tokens=stream.num_cached_tokens,
            num_preemptions=stream.num_preemptions,
        )

    def __iter__(self) -> Iterator[StreamOutput]:
        decoder, events = _PieceDecoder(self._stream), self._stream.events
        position = 0
        while True:
            if position == len(events):
                self._wait_for_event(position)
            if position == len(events):
                return
            yield decoder.piece(events[position])
            position += 1

    async def __aiter__(self) -> AsyncIterator[StreamOutput]:
        stream, decoder = self._stream, _PieceDecoder(self._stream)
        loop, ready = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(ready.set)

        end = stream.listen(wake)
        position = 0
        try:
            while True:
                ready.clear()
                while position < len(stream.events):
                    yield decoder.piece(stream.events[position])
                    position += 1
                if stream.done() and position == len(stream.events):
                    return
                self._check_open()
                await ready.wait()
        finally:
            end()

    def _wait_for_event(self, position: int) -> None:
        end = self._stream.listen()
        try:
            self._wait(lambda: len(self._stream.events) > position or self.done(), None)
        finally:
            end()

    def _wait(self, ready: Callable[[], bool], timeout: float | None) -> None:
        """Wait in this thread. A notice, such as that the engine is paused, is printed, and again when it changes."""
        deadline = None if timeout is None else time.monotonic() + timeout
        told = None
        while True:
            with self._stream.condition:
                left = NOTICE_SECONDS if deadline is None else min(NOTICE_SECONDS, deadline - time.monotonic())
                if ready() or self._stream.condition.wait_for(lambda: ready() or self._stream.closed, max(0.0, left)):
                    if ready():
                        return
                    self._check_open()
            if deadline is not None and time.monotonic() >= deadline:
                raise ResultTimeoutError(
                    f"{self.request_id} did not finish within {timeout} s; it goes on, ask again or cancel() it"
                )
            notice = self._notice()
            if notice is not None and notice != told:
                print(notice, flush=True)
            told = notice

    def _check_open(self) -> None:
        if self._stream.closed:
            raise EngineClosedError(
                f"the engine was shut down before {self.request_id} finished; make a new LLM and submit again"
            )

    def _completion(self, sequence: SequenceResult) -> CompletionOutput:
        stream, tokens = self._stream, list(sequence.tokens)
        if sequence.text_stream is not None:
            text = sequence.text_stream.text
        elif stream.tokenizer is not None:
            decoder = stream.new_text_stream(stream.tokenizer)
            text = "".join(decoder.push(token.token_id, False) for token in tokens)
        else:
            text = ""
        logprobs = cumulative = None
        if stream.params.logprobs is not None:
            logprobs = tuple(_logprobs_of(stream, token) for token in tokens)
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


class _PieceDecoder:
    """Turns events into pieces for one iteration; decoding costs the reader's thread, not the engine's."""

    def __init__(self, stream: RequestStream) -> None:
        self._stream = stream
        self._decoders: dict[int, TextStream] = {}

    def piece(self, event: StreamEvent) -> StreamOutput:
        stream, token = self._stream, event.token
        wants_logprobs = token is not None and stream.params.logprobs is not None
        return StreamOutput(
            request_id=stream.request_id,
            index=event.sequence,
            text=self._text(event),
            token_ids=() if token is None else (token.token_id,),
            logprobs=(_logprobs_of(stream, token),) if token is not None and wants_logprobs else None,
            finish_reason=event.finish_reason,
            stop_reason=None if event.finish_reason is None else stream.sequences[event.sequence].stop_reason,
        )

    def _text(self, event: StreamEvent) -> str:
        if event.text is not None:
            return event.text
        if event.token is None or self._stream.tokenizer is None:
            return ""
        if event.sequence not in self._decoders:
            self._decoders[event.sequence] = self._stream.new_text_stream(self._stream.tokenizer)
        return self._decoders[event.sequence].push(event.token.token_id, False)


def _logprobs_of(stream: RequestStream, token: SampledToken) -> dict[int, Logprob]:
    """vLLM's shape: token id -> Logprob, the sampled token first and then the likeliest ones."""

    def text_of(token_id: int) -> str | None:
        return None if stream.tokenizer is None else stream.tokenizer.token_text(token_id)

    ranks = {token_id: rank for rank, (token_id, _) in enumerate(token.alternatives, start=1)}
    found: dict[int, Logprob] = {}
    if token.logprob is not None:
        found[token.token_id] = Logprob(token.logprob, ranks.get(token.token_id), text_of(token.token_id))
    for token_id, logprob in token.alternatives:
        found.setdefault(token_id, Logprob(logprob, ranks[token_id], text_of(token_id)))
    return found
