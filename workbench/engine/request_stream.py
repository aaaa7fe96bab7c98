"""A request's results as they grow: the engine's thread writes, any thread reads."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from workbench.core.sampling_params import SamplingParams
from workbench.core.scheduler_output import SampledToken
from workbench.engine.interfaces import Tokenizer
from workbench.engine.text_stream import TextStream


class StreamEvent(NamedTuple):
    """A token of one sequence, or (token None) its end. text is given if the engine had to decode it."""

    sequence: int
    token: SampledToken | None
    text: str | None
    finish_reason: str | None


@dataclass(slots=True)
class SequenceResult:
    """What one sequence has produced so far; its list only ever grows."""

    index: int
    tokens: list[SampledToken] = field(default_factory=list)
    text_stream: TextStream | None = None  # only with stop strings: the engine must see the text then
    finish_reason: str | None = None
    stop_reason: int | str | None = None


class RequestStream:
    """One request, all its sequences, and the moments of its life in seconds on the engine's clock."""

    def __init__(
        self,
        request_id: str,
        prompt: str | None,
        prompt_token_ids: tuple[int, ...],
        params: SamplingParams,
        tokenizer: Tokenizer | None,
        arrival_time: float,
    ) -> None:
        self.request_id = request_id
        self.prompt = prompt
        self.prompt_token_ids = prompt_token_ids
        self.params = params
        self.tokenizer = tokenizer
        self.arrival_time = arrival_time
        self.first_scheduled_time: float | None = None
        self.first_token_time: float | None = None
        self.last_token_time: float | None = None
        self.finished_time: float | None = None
        self.num_cached_tokens = 0
        self.num_preemptions = 0
        self.sequences = [SequenceResult(i) for i in range(params.n)]
        self.events: list[StreamEvent] = []
        self.condition = threading.Condition()
        self.closed = False
        self._num_live = params.n
        self._num_listeners = 0
        self._wakers: tuple[Callable[[], None], ...] = ()
        if params.stop and tokenizer is not None:
            for sequence in self.sequences:
                sequence.text_stream = self.new_text_stream(tokenizer, params.stop)

    def done(self) -> bool:
        """True once every sequence has ended."""
        return self._num_live == 0

    def new_text_stream(self, tokenizer: Tokenizer, stop: tuple[str, ...] = ()) -> TextStream:
        """A fresh decoder for one of the sequences."""
        detokenizer = tokenizer.detokenizer(self.prompt_token_ids, self.params.skip_special_tokens)
        return TextStream(detokenizer, stop, self.params.include_stop_str_in_output)

    def add_token(self, index: int, token: SampledToken, now: float, may_stop: bool) -> str | None:
        """Take a sampled token; returns the stop string that it completes, if any. Engine's thread."""
        sequence = self.sequences[index]
        if self.first_token_time is None:
            self.first_token_time = now
        self.last_token_time = now
        sequence.tokens.append(token)
        text = None
        if sequence.text_stream is not None:
            text = sequence.text_stream.push(token.token_id, may_stop)
        self.events.append(StreamEvent(index, token, text, None))
        if self._num_listeners or self._wakers:
            self._wake()
        return None if sequence.text_stream is None else sequence.text_stream.stopped_by

    def finish(self, index: int, finish_reason: str, stop_reason: int | str | None, now: float) -> None:
        """End one sequence. Engine's thread."""
        sequence = self.sequences[index]
        sequence.finish_reason, sequence.stop_reason = finish_reason, stop_reason
        rest = sequence.text_stream.finish() if sequence.text_stream is not None else None
        self.finished_time = now
        self.events.append(StreamEvent(index, None, rest, finish_reason))
        self._num_live -= 1  # last, so that whoever sees done() also sees the final event
        self._wake()

    def close(self) -> None:
        """The engine is gone: wake everybody who waits. Engine's thread."""
        self.closed = True
        self._wake()

    def listen(self, wake: Callable[[], None] | None = None) -> Callable[[], None]:
        """Be woken for every token, not only for the end; returns the function that ends it.

        A reader that only wants the end is not woken for tokens, as each wake-up takes the interpreter's lock from
        the engine's thread.
        """
        with self.condition:
            self._num_listeners += 1
            if wake is not None:
                self._wakers = (*self._wakers, wake)

        def end() -> None:
            with self.condition:
                self._num_listeners -= 1
                self._wakers = tuple(w for w in self._wakers if w is not wake)

        return end

    def _wake(self) -> None:
        with self.condition:
            self.condition.notify_all()
            for wake in self._wakers:
                wake()
