"""What a request gives back. Field names and meaning as in vLLM's outputs."""

from dataclasses import dataclass
from typing import Any

from workbench.core.units import time_text


@dataclass(frozen=True, slots=True)
class Logprob:
    """A token's natural-log probability, its rank (1 is the likeliest; None if not among those asked for), its text."""

    logprob: float
    rank: int | None
    decoded_token: str | None


@dataclass(frozen=True, slots=True)
class RequestMetrics:
    """Moments of a request's life, in seconds on the engine's clock; None until they happen."""

    arrival_time: float
    first_scheduled_time: float | None
    first_token_time: float | None
    last_token_time: float | None
    finished_time: float | None

    @property
    def time_in_queue(self) -> float | None:
        """Seconds from arrival to the first scheduled step."""
        return None if self.first_scheduled_time is None else self.first_scheduled_time - self.arrival_time

    @property
    def time_to_first_token(self) -> float | None:
        """Seconds from arrival to the first token (TTFT)."""
        return None if self.first_token_time is None else self.first_token_time - self.arrival_time

    def __repr__(self) -> str:
        moments = {
            "scheduled": self.first_scheduled_time,
            "first token": self.first_token_time,
            "last token": self.last_token_time,
            "finished": self.finished_time,
        }
        told = [f"{name} after {time_text(at - self.arrival_time)}" for name, at in moments.items() if at is not None]
        return f"RequestMetrics({', '.join(told) or 'arrived, not scheduled yet'})"


@dataclass(frozen=True, slots=True)
class CompletionOutput:
    """One completion. finish_reason: "stop", "length", "abort" or "error"; stop_reason: the stop string or token id
    that ended it (None for end-of-sequence and length), or the message of an error."""

    index: int
    text: str
    token_ids: tuple[int, ...]
    cumulative_logprob: float | None
    logprobs: tuple[dict[int, Logprob], ...] | None
    finish_reason: str | None
    stop_reason: int | str | None

    def finished(self) -> bool:
        """True once it has ended."""
        return self.finish_reason is not None


@dataclass(frozen=True, slots=True)
class RequestOutput:
    """A request's prompt and completions. prompt is None if token ids were given."""

    request_id: str
    prompt: str | None
    prompt_token_ids: tuple[int, ...]
    outputs: tuple[CompletionOutput, ...]
    finished: bool
    metrics: RequestMetrics
    num_cached_tokens: int
    num_preemptions: int

    def __str__(self) -> str:
        return "\n".join(completion.text for completion in self.outputs)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        shown = [f"{self.request_id}: {self.prompt if self.prompt is not None else list(self.prompt_token_ids)}"]
        for completion in self.outputs:
            ttft = self.metrics.time_to_first_token
            note = f"{len(completion.token_ids)} tokens, finish_reason={completion.finish_reason}"
            shown.append(f"  → {completion.text!r}")
            shown.append(f"    {note}" + ("" if ttft is None else f", first token after {ttft * 1e3:.1f} ms"))
        return {"text/plain": "\n".join(shown)}


@dataclass(frozen=True, slots=True)
class StreamOutput:
    """A piece of one completion as it comes: the new text and tokens only. str() of it is the new text."""

    request_id: str
    index: int
    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[dict[int, Logprob], ...] | None
    finish_reason: str | None
    stop_reason: int | str | None

    def __str__(self) -> str:
        return self.text
