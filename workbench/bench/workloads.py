"""Requests to measure with: token ids, so that no tokenizer is timed."""

import random
from typing import NamedTuple


class Item(NamedTuple):
    """A prompt and how many tokens to make of it."""

    prompt_token_ids: list[int]
    num_tokens: int


def fixed(count: int, prompt: int, output: int, vocab_size: int, seed: int = 0) -> list[Item]:
    """`count` requests of one size."""
    rng = random.Random(seed)
    return [Item([rng.randrange(3, vocab_size) for _ in range(prompt)], output) for _ in range(count)]


def mixed(count: int, low: int, high: int, vocab_size: int, seed: int = 0) -> list[Item]:
    """`count` requests with prompt and output lengths uniform from low to high."""
    rng = random.Random(seed)
    return [
        Item([rng.randrange(3, vocab_size) for _ in range(rng.randint(low, high))], rng.randint(low, high))
        for _ in range(count)
    ]


WORKLOADS = ("S1", "S16", "W2")


def workload(name: str, vocab_size: int) -> list[Item]:
    """S1: one request, 32 in, 64 out. S16: sixteen of them. W2: sixteen with lengths uniform from 16 to 256."""
    if name == "W2":
        return mixed(16, 16, 256, vocab_size)
    return fixed(1 if name == "S1" else 16, 32, 64, vocab_size)
