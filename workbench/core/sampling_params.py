"""How one request's tokens are chosen. Names, defaults and meaning as in vLLM's SamplingParams."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from workbench.core.errors import SamplingParamsError


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """Sampling settings of a request. Values are checked when the object is made.

    n: completions per prompt; they share the prompt's KV blocks.
    temperature: 0 means greedy. top_p, top_k (0 or -1: all), min_p: what may be sampled.
    max_tokens: most new tokens (None: up to max_model_len or what the KV pool can hold).
    min_tokens: no stop before this many new tokens.
    seed: makes this request's tokens independent of what else runs (None: from the engine's seed).
    stop: strings that end the text; include_stop_str_in_output keeps them in it.
    stop_token_ids: extra ending tokens. ignore_eos: go on past the end-of-sequence token.
    repetition_penalty (> 0, 1 is off), presence_penalty, frequency_penalty (-2 to 2, 0 is off).
    logprobs: how many alternatives to report per token (0: only the sampled token's; None: none).

    Raises SamplingParamsError for a value out of range or a contradiction.
    """

    n: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    max_tokens: int | None = 16
    min_tokens: int = 0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    include_stop_str_in_output: bool = False
    ignore_eos: bool = False
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logprobs: int | None = None
    skip_special_tokens: bool = True

    def __post_init__(self) -> None:
        # A frozen object still normalises its inputs once, so that a list or a lone string is accepted as in vLLM.
        object.__setattr__(self, "stop", _as_tuple("stop", self.stop, str))
        object.__setattr__(self, "stop_token_ids", _as_tuple("stop_token_ids", self.stop_token_ids, int))
        _check_int("n", self.n, low=1)
        _check_number("temperature", self.temperature, low=0.0)
        _check_number("top_p", self.top_p, low=0.0, high=1.0, low_open=True)
        _check_int("top_k", self.top_k, low=-1)
        _check_number("min_p", self.min_p, low=0.0, high=1.0)
        if self.max_tokens is not None:
            _check_int("max_tokens", self.max_tokens, low=1)
        _check_int("min_tokens", self.min_tokens, low=0)
        if self.max_tokens is not None and self.min_tokens > self.max_tokens:
            raise SamplingParamsError(
                f"min_tokens={self.min_tokens} is more than max_tokens={self.max_tokens}; lower min_tokens or raise "
                "max_tokens"
            )
        if self.seed is not None:
            _check_int("seed", self.seed, low=-(2**63), high=2**63 - 1)
        _check_number("repetition_penalty", self.repetition_penalty, low=0.0, low_open=True)
        _check_number("presence_penalty", self.presence_penalty, low=-2.0, high=2.0)
        _check_number("frequency_penalty", self.frequency_penalty, low=-2.0, high=2.0)
        if self.logprobs is not None:
            _check_int("logprobs", self.logprobs, low=0, high=100)
        if any(not s for s in self.stop):
            raise SamplingParamsError("stop holds an empty string, which would end every text at once; remove it")
        if self.n > 1 and self.temperature == 0.0:
            raise SamplingParamsError(
                f"n={self.n} with temperature=0 would give one text {self.n} times; set n=1 or a temperature above 0"
            )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "SamplingParams":
        """Make SamplingParams from a mapping (a view's message, a JSON body); unknown names raise."""
        known = {f.name for f in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise SamplingParamsError(f"unknown sampling parameters {unknown}; known ones are {sorted(known)}")
        return cls(**values)

    @property
    def greedy(self) -> bool:
        """True if the likeliest token is taken each time."""
        return self.temperature == 0.0


def _as_tuple(name: str, value: Any, kind: type) -> tuple[Any, ...]:
    if value is None:
        return ()
    items = (value,) if isinstance(value, kind) else tuple(value) if isinstance(value, Sequence) else None
    if items is None or any(not isinstance(v, kind) or isinstance(v, bool) for v in items):
        raise SamplingParamsError(f"{name} must be a list of {kind.__name__}, not {value!r}")
    return items


def _check_int(name: str, value: Any, low: int, high: int | None = None) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise SamplingParamsError(f"{name} must be a whole number, not {value!r}")
    _check_range(name, value, low, high, low_open=False)


def _check_number(name: str, value: Any, low: float, high: float | None = None, low_open: bool = False) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise SamplingParamsError(f"{name} must be a finite number, not {value!r}")
    _check_range(name, value, low, high, low_open)


def _check_range(name: str, value: float, low: float, high: float | None, low_open: bool) -> None:
    if value < low or (low_open and value == low) or (high is not None and value > high):
        wanted = f"{'above' if low_open else 'at least'} {low}" + ("" if high is None else f" and at most {high}")
        raise SamplingParamsError(f"{name} must be {wanted}, not {value}")
