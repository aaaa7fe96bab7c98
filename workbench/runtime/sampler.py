"""Chooses each request's next token from its logits, as its own SamplingParams say and independent of its neighbours.

Order as in vLLM: log-probabilities of the model's own distribution; then min_tokens, penalties, temperature, min_p,
top_k, top_p; then one uniform number per token from the request's own stream picks by the inverse of the distribution
function.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from workbench.core.scheduler_output import SampledToken
from workbench.runtime.request_row import RequestRow
from workbench_kernels.dispatch import KernelSet

_NOT_FINITE = "the model's logits for this request are not finite (NaN or infinite), so no token can be chosen"


class SamplerOutput(NamedTuple):
    """Request id -> token, and request id -> what went wrong with that request alone."""

    sampled: dict[str, SampledToken]
    errors: dict[str, str]


def sample(
    logits: torch.Tensor, rows: Sequence[RequestRow], eos_token_ids: tuple[int, ...], kernels: KernelSet
) -> SamplerOutput:
    """Sample one token per row of logits [len(rows), vocab] float32, which is changed in place."""
    reported = [index for index, row in enumerate(rows) if row.params.logprobs is not None]
    logprobs = _Logprobs(logits, rows, reported) if reported else None
    changed = [index for index, row in enumerate(rows) if not row.plain]
    good = _finite_rows(logits) if changed else None
    for index in changed:
        _shape_row(logits[index], rows[index], eos_token_ids, kernels)
    tokens, top = _argmax(logits)
    drawn = [index for index in changed if not rows[index].params.greedy]
    if drawn:
        params = [rows[index].params for index in drawn]
        chosen = kernels.draw(
            logits if len(drawn) == len(rows) else logits[drawn],
            [rows[index].stream.random() for index in drawn],
            [p.temperature for p in params],
            [p.top_k for p in params],
            [p.top_p for p in params],
            [p.min_p for p in params],
        )
        for index, token in zip(drawn, chosen, strict=True):
            tokens[index] = token
    good = [abs(value) < float("inf") for value in top] if good is None else good
    sampled, errors = {}, {}
    for index, row in enumerate(rows):
        if not good[index]:
            errors[row.request_id] = _NOT_FINITE
        elif logprobs is not None and row.params.logprobs is not None:
            sampled[row.request_id] = logprobs.token(index, tokens[index], row.params.logprobs)
        else:
            sampled[row.request_id] = SampledToken(tokens[index])
    return SamplerOutput(sampled, errors)


def _argmax(logits: torch.Tensor) -> tuple[list[int], list[float]]:
    """The first largest entry of each row (a NaN counts as the largest), and its value."""
    if logits.device.type == "cpu":  # numpy's is several times faster than torch's here
        array = logits.numpy()
        best = array.argmax(-1)
        return best.tolist(), array[np.arange(len(best)), best].tolist()
    top = logits.max(-1)
    values, indices = torch.stack((top.values.double(), top.indices.double())).tolist()  # one wait for the device
    return [int(index) for index in indices], values


def _finite_rows(logits: torch.Tensor) -> list[bool]:
    return [bool(abs(value) < float("inf")) for value in logits.amax(-1).tolist()]


def _shape_row(logits: torch.Tensor, row: RequestRow, eos_token_ids: tuple[int, ...], kernels: KernelSet) -> None:
    params = row.params
    if row.num_output_tokens < params.min_tokens:
        stops = (*params.stop_token_ids, *(() if params.ignore_eos else eos_token_ids))
        logits[[token for token in stops if 0 <= token < logits.shape[0]]] = float("-inf")
    if row.counts is not None:
        penalties = (params.repetition_penalty, params.presence_penalty, params.frequency_penalty)
        kernels.apply_penalties(logits, row.counts, row.in_prompt, *penalties)


class _Logprobs:
    """Log-probabilities of the rows that asked for them, under the model's own distribution."""

    def __init__(self, logits: torch.Tensor, rows: Sequence[RequestRow], reported: list[int]) -> None:
        self._values = torch.log_softmax(logits[reported], -1)
        self._place = {index: place for place, index in enumerate(reported)}
        most = min(max(rows[index].params.logprobs or 0 for index in reported), logits.shape[1])
        top = self._values.topk(most, -1)
        self._best = [
            list(zip(ids, values, strict=True))
            for ids, values in zip(top.indices.tolist(), top.values.tolist(), strict=True)
        ]

    def token(self, index: int, token_id: int, count: int) -> SampledToken:
        """What to report of a row's token."""
        place = self._place[index]
        return SampledToken(token_id, float(self._values[place, token_id]), tuple(self._best[place][:count]))
