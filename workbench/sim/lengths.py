"""Lengths of prompts and outputs as distributions. A plain number or a pair is one too."""

import math
import random
from dataclasses import dataclass
from typing import Protocol

from workbench.core.errors import ConfigError


class LengthDistribution(Protocol):
    """Anything with `draw`: a length in tokens, at least 1."""

    def draw(self, rng: random.Random) -> int:
        """The next length."""
        ...


@dataclass(frozen=True, slots=True)
class Uniform:
    """Every length from low to high equally likely, both included."""

    low: int
    high: int

    def __post_init__(self) -> None:
        _check_range(self.low, self.high)

    def draw(self, rng: random.Random) -> int:
        """The next length."""
        return rng.randint(self.low, self.high)


@dataclass(frozen=True, slots=True)
class LogNormal:
    """Many short ones and a long tail, as real traffic has. median in tokens, sigma of the logarithm, cut to
    low..high."""

    median: float
    sigma: float
    low: int
    high: int

    def __post_init__(self) -> None:
        _check_range(self.low, self.high)
        if not (self.median > 0 and self.sigma >= 0 and math.isfinite(self.median + self.sigma)):
            raise ConfigError(f"median must be above 0 and sigma at least 0, not {self.median} and {self.sigma}")

    def draw(self, rng: random.Random) -> int:
        """The next length."""
        return min(self.high, max(self.low, round(rng.lognormvariate(math.log(self.median), self.sigma))))


Lengths = int | tuple[int, int] | LengthDistribution


def as_distribution(lengths: Lengths) -> LengthDistribution:
    """A number means always that length, a pair the range from which lengths are drawn uniformly."""
    if isinstance(lengths, int):
        return Uniform(lengths, lengths)
    if isinstance(lengths, tuple):
        if len(lengths) != 2:
            raise ConfigError(f"a range of lengths is a pair (low, high), not {lengths!r}")
        return Uniform(*lengths)
    if not hasattr(lengths, "draw"):
        raise ConfigError(f"a length is a whole number, a pair (low, high) or a distribution, not {lengths!r}")
    return lengths


def _check_range(low: int, high: int) -> None:
    for value in (low, high):
        if isinstance(value, bool) or not isinstance(value, int):
            raise ConfigError(f"a length must be a whole number of tokens, not {value!r}")
    if not 1 <= low <= high:
        raise ConfigError(f"lengths run from low to high with 1 <= low <= high, not from {low} to {high}")
