"""Requests to measure with: token ids, so that no tokenizer is timed."""

import random
from typing import NamedTuple

from workbench.core.errors import ConfigError


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


WORKLOADS = ("S1", "S16", "W1", "W2", "W3", "W4")


def workload(name: str, vocab_size: int) -> list[Item]:
    """S1: one request, 32 in, 64 out. S16: sixteen of them. W1: one, 32 in, 128 out. W2: sixteen with lengths uniform
    from 16 to 256. W3: 64 such. W4: one prompt of 1,024 and its first token: its time is the time to that.

    Raises ConfigError for another name.
    """
    if name in ("W2", "W3"):
        return mixed(16 if name == "W2" else 64, 16, 256, vocab_size)
    sizes = {"S1": (1, 32, 64), "S16": (16, 32, 64), "W1": (1, 32, 128), "W4": (1, 1024, 1)}
    if name not in sizes:
        raise ConfigError(f"no workload {name!r}; there are {', '.join(WORKLOADS)}")
    return fixed(*sizes[name], vocab_size)
