"""Alternating rounds and the ratio that comes out of each."""

import statistics
from collections.abc import Sequence
from typing import NamedTuple

from tqdm import tqdm

from workbench.bench.peers import Peer
from workbench.bench.workloads import Item


class Comparison(NamedTuple):
    """Two peers on one workload, round by round. speeds in tokens/s; first: every request's seconds to its first token.

    Ratios are ours / theirs, of the speeds and of each round's mean time to the first token.
    """

    what: str
    workload: str
    ours: str
    theirs: str
    our_speeds: list[float]
    their_speeds: list[float]
    ratios: list[float]
    our_first: list[float]
    their_first: list[float]
    first_ratios: list[float]

    @property
    def ratio(self) -> float:
        """The median ratio of the speeds."""
        return statistics.median(self.ratios)


def compare(what: str, name: str, items: Sequence[Item], ours: Peer, theirs: Peer, rounds: int) -> Comparison:
    """Run both in turn, A B A B ..., after one round that is not counted.

    Each ratio is of two runs back to back, so that a machine whose speed drifts still gives a true one.
    """
    tokens = sum(item.num_tokens for item in items)
    speeds: tuple[list[float], list[float]] = ([], [])
    firsts: tuple[list[list[float]], list[list[float]]] = ([], [])
    for count in tqdm(range(rounds + 1), desc=f"{what} {name}", unit="round", delay=1.0, leave=False):
        order = (0, 1) if count % 2 == 0 else (1, 0)
        for which in order:
            timed = (ours, theirs)[which].run(items)
            if count > 0:
                speeds[which].append(tokens / timed.seconds)
                firsts[which].append(timed.first)
    ratios = [a / b for a, b in zip(*speeds, strict=True)]
    first_ratios = [sum(a) / sum(b) for a, b in zip(*firsts, strict=True)]
    our_first, their_first = ([seconds for each in all_rounds for seconds in each] for all_rounds in firsts)
    return Comparison(
        what, name, ours.name, theirs.name, speeds[0], speeds[1], ratios, our_first, their_first, first_ratios
    )
