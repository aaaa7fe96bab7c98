"""Penalties and draws on a CPU, row by row, without sorting the vocabulary.

For top_k and top_p a row's probabilities are counted into buckets by the leading bits of their float32 pattern, which
order them. Only the buckets in which k, p or the drawn number fall are sorted.
"""

import numpy as np
import torch

from workbench_kernels.arrays import Array, as_array
from workbench_kernels.jit import kernel
from workbench_kernels.simd import exp_nonpositive, float_bits

# Probabilities relative to the likeliest are at most 1.0; its pattern's leading 13 bits number the last bucket.
_SHIFT = 19
_BUCKETS = (0x3F800000 >> _SHIFT) + 1
_BLOCK = 256


@kernel
def _penalise(
    logits: Array, counts: Array, in_prompt: Array, repetition: np.float32, presence: np.float32, frequency: np.float32
) -> None:
    for token in range(logits.shape[0]):
        count = counts[token]
        if in_prompt[token] or count > 0:
            if logits[token] > 0:
                logits[token] /= repetition
            else:
                logits[token] *= repetition
        if count > 0:
            logits[token] -= frequency * np.float32(count) + presence


@kernel
def _first(probs: Array, bucket: int, count: int) -> Array:
    """Ids of the count likeliest tokens of a bucket, likeliest first, equals by id. The bucket may hold more."""
    ids = np.empty(probs.shape[0], np.int64)
    size = 0
    for token in range(probs.shape[0]):
        if probs[token] > 0 and float_bits(probs[token]) >> _SHIFT == bucket:
            ids[size] = token
            size += 1
    members = ids[:size]
    return members[np.argsort(-probs[members], kind="mergesort")][:count]


@kernel
def _draw_in_order(probs: Array, uniform: float) -> int:
    """Inverse of the distribution function in order of id; sums are taken block by block, so that they vectorise."""
    vocab = probs.shape[0]
    blocks = (vocab + _BLOCK - 1) // _BLOCK
    sums = np.empty(blocks, np.float64)
    total = 0.0
    for block in range(blocks):
        part = np.float32(0.0)
        for token in range(block * _BLOCK, min(vocab, (block + 1) * _BLOCK)):
            part += probs[token]
        sums[block] = part
        total += part
    target = uniform * total
    running = 0.0
    last = 0
    for block in range(blocks):
        if running + sums[block] <= target and block + 1 < blocks:
            running += sums[block]
            continue
        for token in range(block * _BLOCK, min(vocab, (block + 1) * _BLOCK)):
            if probs[token] > 0:
                last = token
                running += probs[token]
                if running > target:
                    return token
    return last


@kernel
def _draw_ranked(probs: Array, uniform: float, top_k: int, top_p: float) -> int:
    """Inverse of the distribution function from the likeliest token down, cut off by top_k and then top_p."""
    counts = np.zeros(_BUCKETS, np.int64)
    masses = np.zeros(_BUCKETS, np.float64)
    for token in range(probs.shape[0]):
        if probs[token] > 0:
            bucket = float_bits(probs[token]) >> _SHIFT
            counts[bucket] += 1
            masses[bucket] += probs[token]
    if top_k > 0:
        taken = 0
        for bucket in range(_BUCKETS - 1, -1, -1):
            if taken + counts[bucket] > top_k:  # k ends in this bucket: drop its tail and all below
                keep = top_k - taken
                mass = 0.0
                for token in _first(probs, bucket, keep):
                    mass += probs[token]
                counts[bucket] = keep
                masses[bucket] = mass
                counts[:bucket] = 0
                masses[:bucket] = 0.0
                break
            taken += counts[bucket]
    total = masses.sum()
    if top_p < 1.0:
        running = 0.0
        for bucket in range(_BUCKETS - 1, -1, -1):
            if counts[bucket] > 0 and running + masses[bucket] >= top_p * total:
                mass = 0.0
                keep = 0
                for token in _first(probs, bucket, counts[bucket]):
                    if running + mass >= top_p * total and (running > 0 or keep > 0):
                        break
                    mass += probs[token]
                    keep += 1
                counts[bucket] = keep
                masses[bucket] = mass
                counts[:bucket] = 0
                masses[:bucket] = 0.0
                break
            running += masses[bucket]
        total = masses.sum()
    target = uniform * total
    running = 0.0
    last = -1
    for bucket in range(_BUCKETS - 1, -1, -1):
        if counts[bucket] == 0:
            continue
        if running + masses[bucket] <= target:
            last = bucket
            running += masses[bucket]
            continue
        for token in _first(probs, bucket, counts[bucket]):
            running += probs[token]
            chosen = token
            if running > target:
                break
        return chosen
    return _first(probs, last, counts[last])[-1]  # rounding: the number lay above the sum of all


@kernel
def _draw(
    logits: Array, uniform: Array, temperature: Array, top_k: Array, top_p: Array, min_p: Array, tokens: Array
) -> None:
    vocab = logits.shape[1]
    probs = np.empty(vocab, np.float32)
    for row in range(logits.shape[0]):
        top = np.float32(-np.inf)
        for token in range(vocab):
            top = max(top, logits[row, token])
        if not abs(top) < np.inf:
            tokens[row] = 0  # the caller reports such rows
            continue
        inverse = np.float32(1.0) / temperature[row]
        for token in range(vocab):
            p = exp_nonpositive((logits[row, token] - top) * inverse)
            probs[token] = p if p >= min_p[row] else np.float32(0.0)
        if 0 < top_k[row] < vocab or top_p[row] < 1.0:
            tokens[row] = _draw_ranked(probs, uniform[row], top_k[row], top_p[row])
        else:
            tokens[row] = _draw_in_order(probs, uniform[row])


def apply_penalties(
    logits: torch.Tensor, counts: Array, in_prompt: Array, repetition: float, presence: float, frequency: float
) -> None:
    """As reference.apply_penalties, in place."""
    _penalise(as_array(logits), counts, in_prompt, np.float32(repetition), np.float32(presence), np.float32(frequency))


def draw(
    logits: torch.Tensor,
    uniform: list[float],
    temperature: list[float],
    top_k: list[int],
    top_p: list[float],
    min_p: list[float],
) -> list[int]:
    """As reference.draw, for each row of logits [rows, vocab] float32. Rows that are not finite give token 0."""
    tokens = np.empty(len(uniform), np.int64)
    _draw(
        as_array(logits),
        np.array(uniform),
        np.array(temperature, np.float32),
        np.array(top_k, np.int64),
        np.array(top_p),
        np.array(min_p, np.float32),
        tokens,
    )
    return tokens.tolist()  # type: ignore[no-any-return]
