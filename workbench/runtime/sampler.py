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

_NOT_FINITE = "the model's logits for this request are not finite (NaN or infinite), so no token can be chosen"


class SamplerOutput(NamedTuple):
    """Request id -> token, and request id -> what went wrong with that request alone."""

    sampled: dict[str, SampledToken]
    errors: dict[str, str]


def sample(logits: torch.Tensor, rows: Sequence[RequestRow], eos_token_ids: tuple[int, ...]) -> SamplerOutput:
    """Sample one token per row of logits [len(rows), vocab] float32, which is changed in place."""
    reported = [index for index, row in enumerate(rows) if row.params.logprobs is not None]
    raw = torch.log_softmax(logits[reported], -1) if reported else None
    changed = [index for index, row in enumerate(rows) if not row.plain]
    finite = _finite_rows(logits) if changed else None
    for index in changed:
        _forbid_stop(logits[index], rows[index], eos_token_ids)
        _apply_penalties(logits[index], rows[index])
    best, top = _argmax(logits)
    tokens = best
    random_rows = [index for index in changed if not rows[index].params.greedy]
    if random_rows:
        chosen = _draw(logits[random_rows], [rows[index] for index in random_rows])
        for index, token in zip(random_rows, chosen, strict=True):
            tokens[index] = token
    good = finite if finite is not None else [abs(value) < float("inf") for value in top]
    sampled, errors = {}, {}
    position = {index: place for place, index in enumerate(reported)}
    for index, row in enumerate(rows):
        if not good[index]:
            errors[row.request_id] = _NOT_FINITE
        elif raw is not None and index in position:
            sampled[row.request_id] = _with_logprobs(tokens[index], raw[position[index]], row.params.logprobs or 0)
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
    return top.indices.tolist(), top.values.tolist()


def _finite_rows(logits: torch.Tensor) -> list[bool]:
    return [bool(abs(value) < float("inf")) for value in logits.amax(-1).tolist()]


def _forbid_stop(logits: torch.Tensor, row: RequestRow, eos_token_ids: tuple[int, ...]) -> None:
    if row.num_output_tokens >= row.params.min_tokens:
        return
    stops = list(row.params.stop_token_ids) + ([] if row.params.ignore_eos else list(eos_token_ids))
    logits[[token for token in stops if 0 <= token < logits.shape[0]]] = float("-inf")


def _apply_penalties(logits: torch.Tensor, row: RequestRow) -> None:
    if row.counts is None:
        return
    params = row.params
    counts = torch.from_numpy(row.counts).to(logits.device)
    seen = torch.from_numpy(row.in_prompt).to(logits.device) | (counts > 0)
    if params.repetition_penalty != 1.0:
        penalised = torch.where(logits > 0, logits / params.repetition_penalty, logits * params.repetition_penalty)
        torch.where(seen, penalised, logits, out=logits)
    logits -= params.frequency_penalty * counts
    logits -= params.presence_penalty * (counts > 0)


def _draw(logits: torch.Tensor, rows: Sequence[RequestRow]) -> list[int]:
    """One token for each row [len(rows), vocab] by temperature, min_p, top_k, top_p and the row's next random number.

    A row's own settings alone decide whether its distribution is walked in order of token id or of probability, as the
    same random number means another token in another order.
    """
    device = logits.device
    vocab = logits.shape[1]
    uniform = torch.tensor([row.stream.random() for row in rows], dtype=torch.float64, device=device)
    temperature = torch.tensor([row.params.temperature for row in rows], device=device)
    probs = torch.softmax(logits / temperature[:, None], -1)
    min_p = torch.tensor([row.params.min_p for row in rows], device=device)
    if any(row.params.min_p for row in rows):
        probs = torch.where(probs < min_p[:, None] * probs.amax(-1, keepdim=True), 0.0, probs)
    ranked = [index for index, row in enumerate(rows) if row.params.top_p < 1.0 or 0 < row.params.top_k < vocab]
    in_order = [index for index in range(len(rows)) if index not in set(ranked)]
    tokens = torch.empty(len(rows), dtype=torch.int64, device=device)
    if in_order:
        tokens[in_order] = _invert(probs[in_order], uniform[in_order])
    if ranked:
        values, ids = probs[ranked].sort(-1, descending=True, stable=True)
        top_k = torch.tensor(
            [rows[i].params.top_k if rows[i].params.top_k > 0 else vocab for i in ranked], device=device
        )
        rank = torch.arange(vocab, device=device)
        values = torch.where(rank < top_k[:, None], values, 0.0)
        before = values.double().cumsum(-1)
        total = before[:, -1:].clone()
        before -= values
        top_p = torch.tensor([rows[i].params.top_p for i in ranked], dtype=torch.float64, device=device)
        keep = (before < top_p[:, None] * total) | (rank == 0)
        places = _invert(torch.where(keep, values, 0.0), uniform[ranked])
        tokens[ranked] = ids.gather(1, places[:, None])[:, 0]
    return tokens.tolist()


def _invert(weights: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """First entry of each row whose running sum exceeds uniform * total; entries of weight 0 are never taken."""
    sums = weights.double().cumsum(-1)
    total = sums[:, -1:]
    target = torch.minimum(uniform[:, None] * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(sums, target, right=True).clamp_(max=weights.shape[1] - 1)[:, 0]


def _with_logprobs(token: int, raw: torch.Tensor, count: int) -> SampledToken:
    if not count:
        return SampledToken(token, float(raw[token]))
    top = raw.topk(min(count, raw.shape[0]))
    return SampledToken(token, float(raw[token]), tuple(zip(top.indices.tolist(), top.values.tolist(), strict=True)))
