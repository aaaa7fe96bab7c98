"""Penalties and draws in the plainest form, in float64: what every other implementation is held to."""

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


def apply_penalties(
    logits: Array, counts: Array, in_prompt: Array, repetition: float, presence: float, frequency: float
) -> Array:
    """One row's logits [vocab] after penalties. counts [vocab]: how often each token is among the outputs.

    Tokens of the prompt or the outputs: positive logits are divided by repetition, others multiplied by it. Tokens of
    the outputs: minus frequency times the count, minus presence.
    """
    out = logits.astype(np.float64)
    for token in range(len(out)):
        if in_prompt[token] or counts[token]:
            out[token] = out[token] / repetition if out[token] > 0 else out[token] * repetition
        out[token] -= frequency * counts[token] + presence * (counts[token] > 0)
    return out


def distribution(logits: Array, temperature: float, top_k: int, top_p: float, min_p: float) -> Array:
    """Probabilities [vocab]: softmax at that temperature, then min_p, top_k and top_p, renormalised after each.

    min_p drops what is less likely than min_p times the likeliest. top_k keeps the k likeliest (0 or below: all),
    equals in order of id. top_p keeps the likeliest ones until their sum reaches top_p, at least one.
    """
    scaled = logits.astype(np.float64) / temperature
    probs = np.exp(scaled - scaled.max())
    probs[probs < min_p] = 0.0
    order = np.argsort(-probs, kind="stable")
    if top_k > 0:
        probs[order[top_k:]] = 0.0
    probs /= probs.sum()
    before = np.cumsum(probs[order]) - probs[order]
    dropped = before >= top_p
    dropped[0] = False
    probs[order[dropped]] = 0.0
    return probs / probs.sum()


def draw(logits: Array, uniform: float, temperature: float, top_k: int, top_p: float, min_p: float) -> int:
    """The token at which the running sum of the distribution first exceeds uniform, a number in [0, 1).

    The sum runs in order of token id or, where top_k or top_p are in force, from the likeliest down.
    """
    probs = distribution(logits, temperature, top_k, top_p, min_p)
    ranked = 0 < top_k < len(probs) or top_p < 1.0
    order = np.argsort(-probs, kind="stable") if ranked else np.arange(len(probs))
    place = int(np.searchsorted(np.cumsum(probs[order]), uniform, side="right"))
    return int(order[min(place, np.flatnonzero(probs[order])[-1])])
