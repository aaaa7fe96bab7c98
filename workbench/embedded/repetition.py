"""Teach a small model to leave a loop: passages repeated on purpose, each repeat to be less likely than the one before.

A model that sees a passage twice finds a third time likelier still, which is why greedy text runs in circles. The cure
is DITTO (Xu et al. 2022, "Learning to Break the Loop", arXiv 2206.02369): rows that repeat a passage until they are
full, and a loss that wants every token of a repeat at ``DAMPING`` times the probability it had one repeat earlier.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

DAMPING = 0.5
SHORTEST, LONGEST = 3, 40
LEAD = 48


@dataclass(frozen=True)
class RepeatedRows:
    """Rows that end in repeats of one passage.

    ``ids`` int64 [rows, length + 1]; ``period`` int64 [rows], the passage's length in tokens; ``begin`` int64 [rows],
    where the passage stands for the first time.
    """

    ids: Tensor
    period: Tensor
    begin: Tensor


def repeated_rows(stories: list[np.ndarray], rows: int, length: int, rng: np.random.Generator) -> RepeatedRows:
    """``rows`` rows: the start of a passage's own story, at most LEAD tokens, then the passage over and over."""
    ids = np.empty((rows, length + 1), dtype=np.int64)
    periods, begins = np.empty(rows, dtype=np.int64), np.empty(rows, dtype=np.int64)
    for row in range(rows):
        story = stories[rng.integers(len(stories))]
        period = int(rng.integers(SHORTEST, min(LONGEST, len(story) - 1) + 1))
        at = int(rng.integers(0, len(story) - period))
        lead = story[max(0, at - LEAD) : at]
        passage = story[at : at + period]
        times = -(-(length + 1 - len(lead)) // period)
        ids[row] = np.concatenate([lead, *[passage] * times])[: length + 1]
        periods[row], begins[row] = period, len(lead)
    return RepeatedRows(torch.from_numpy(ids), torch.from_numpy(periods), torch.from_numpy(begins))


def repetition_loss(logits: Tensor, rows: RepeatedRows) -> Tensor:
    """Mean of -log(1 - |p - DAMPING x p one repeat earlier|) over the tokens of every repeat.

    ``logits`` float [rows, length, vocabulary] for ``rows.ids`` without the last token. The earlier probability is
    taken as it is: no gradient flows through it.
    """
    targets = rows.ids[:, 1:]
    likelihood = torch.log_softmax(logits.float(), -1).gather(-1, targets[..., None])[..., 0].exp()
    position = torch.arange(targets.shape[1])[None, :]
    earlier_at = position - rows.period[:, None]
    earlier = likelihood.detach().gather(1, earlier_at.clamp(min=0))
    # Targets are one token ahead of their position: the first repeat begins at position begin + period - 1.
    is_repeat = earlier_at >= rows.begin[:, None] - 1
    is_repeat &= earlier_at >= 0
    distance = (likelihood - DAMPING * earlier).abs()
    return -torch.log1p(-distance.clamp(max=1 - 1e-6))[is_repeat].mean()
