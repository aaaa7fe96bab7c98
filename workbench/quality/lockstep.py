"""The same prompts on two engines at once, greedily, compared place by place while they are written."""

from collections.abc import Sequence
from typing import NamedTuple

from workbench.core.errors import ConfigError, EngineClosedError, InvalidRequestError
from workbench.core.sampling_params import SamplingParams
from workbench.core.scheduler_output import SampledToken
from workbench.engine.client import EngineClient
from workbench.engine.request_stream import RequestStream

Prompt = str | Sequence[int]
# What a side has at a place: a token, or after its last one the finish_reason.
Side = SampledToken | str


class Row(NamedTuple):
    """One place of one prompt's answers, as both engines have it. Two words (finish_reason) end the prompt."""

    prompt: int
    first: Side
    second: Side


class Lockstep:
    """Submits each prompt to both engines; `advance` gives the places that both have reached since the last call.

    Neither engine is held up for the other: the one that is ahead is shown as far as the other has come. The engines
    may be one and the same. Raises ConfigError where the two vocabularies differ, and as the engines do for a prompt
    that either of them would refuse, with nothing submitted.
    """

    def __init__(
        self, first: EngineClient, second: EngineClient, prompts: Sequence[Prompt], params: SamplingParams
    ) -> None:
        check_vocabulary(first, second)
        if not prompts:
            raise InvalidRequestError("there is no prompt; give at least one")
        self.prompts = [_tokens(first, second, prompt) for prompt in prompts]
        for client in (first, second):
            for token_ids in self.prompts:
                client.loop.core.scheduler.check_request(token_ids, params)
        self._clients = (first, second)
        asked = [{"prompt_token_ids": token_ids} for token_ids in self.prompts]
        self.streams: tuple[list[RequestStream], ...] = ()
        try:
            for client in self._clients:
                self.streams += (client.submit(asked, [params] * len(asked), [0] * len(asked)),)
        except BaseException:
            self.cancel()
            raise
        self._next = [0] * len(asked)
        self._ended = [False] * len(asked)

    @property
    def done(self) -> bool:
        """True once both sides of every prompt have been told to their end."""
        return all(self._ended)

    def advance(self) -> list[Row]:
        """The rows that have become known, prompt by prompt. Raises EngineClosedError if one of the engines ended."""
        rows = []
        for index, both in enumerate(zip(*self.streams, strict=True)):
            while not self._ended[index]:
                first, second = (_at(stream, self._next[index]) for stream in both)
                if first is None or second is None:
                    break
                rows.append(Row(index, first, second))
                self._next[index] += 1
                self._ended[index] = isinstance(first, str) and isinstance(second, str)
        if not rows and any(stream.closed and not stream.done() for side in self.streams for stream in side):
            raise EngineClosedError("one of the two engines was shut down before it had answered")
        return rows

    def cancel(self) -> None:
        """End what is on its way, on both engines."""
        for client, streams in zip(self._clients, self.streams, strict=False):
            if client.loop.status().state != "closed":
                for stream in streams:
                    if not stream.done():
                        client.cancel(stream.request_id)


def check_vocabulary(first: EngineClient, second: EngineClient) -> None:
    """Raise ConfigError unless both have the same number of tokens; what they mean is checked with each prompt."""
    a, b = (client.loop.core.runner.spec.vocab_size for client in (first, second))
    if a != b:
        raise ConfigError(
            f"the two models have {a} and {b} tokens; only answers in the same vocabulary can be compared token by "
            "token"
        )


def _tokens(first: EngineClient, second: EngineClient, prompt: Prompt) -> list[int]:
    if not isinstance(prompt, str):
        return list(prompt)
    if not prompt:
        raise InvalidRequestError("a prompt is empty; type at least one word")
    a, b = (client.need_tokenizer().encode(prompt) for client in (first, second))
    if a != b:
        raise ConfigError(
            "the two models cut a prompt into different tokens, so their answers cannot be compared token by token; "
            "compare engines that share a tokenizer"
        )
    return a


def _at(stream: RequestStream, place: int) -> Side | None:
    """What there is at a place: a token, how the answer ended, or None while it is not known."""
    sequence = stream.sequences[0]
    reason = sequence.finish_reason  # read first: once it is there, all tokens are
    if place < len(sequence.tokens):
        return sequence.tokens[place]
    return reason
