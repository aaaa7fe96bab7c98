"""The loss that teaches the bundled model to leave a loop."""

from __future__ import annotations

import numpy as np
import torch

from workbench.embedded.repetition import DAMPING, RepeatedRows, repeated_rows, repetition_loss

VOCABULARY = 11


def logits_for(ids: torch.Tensor, likelihood: torch.Tensor) -> torch.Tensor:
    """Logits that give each next token of ``ids`` the wanted likelihood, the rest sharing what is left."""
    rest = ((1 - likelihood) / (VOCABULARY - 1)).log()[..., None].expand(*likelihood.shape, VOCABULARY).clone()
    return rest.scatter(-1, ids[:, 1:, None], likelihood.log()[..., None])


def test_rows_repeat_one_passage_of_a_story_after_its_own_beginning() -> None:
    stories = [np.arange(1, 400, dtype=np.uint16), np.arange(1000, 1100, dtype=np.uint16)]
    rows = repeated_rows(stories, rows=50, length=128, rng=np.random.default_rng(0))
    for ids, period, begin in zip(rows.ids.tolist(), rows.period.tolist(), rows.begin.tolist(), strict=True):
        # The stories count upwards, so everything until the first repeat does too.
        once = ids[: begin + period]
        assert once == list(range(once[0], once[0] + len(once)))
        assert ids[begin + period :] == ids[begin:-period]


def test_no_loss_when_each_repeat_is_as_much_less_likely_as_wanted() -> None:
    ids = torch.tensor([[7, 1, 2, 1, 2, 1, 2, 1]])
    rows = RepeatedRows(ids, period=torch.tensor([2]), begin=torch.tensor([1]))
    #                           passage     repeated with DAMPING, and again
    likelihood = torch.tensor([[0.8, 0.6, 0.4, 0.3, 0.2, 0.15, 0.1]])
    assert DAMPING == 0.5
    assert repetition_loss(logits_for(ids, likelihood), rows).item() < 1e-6
    louder = torch.tensor([[0.8, 0.6, 0.9, 0.9, 0.95, 0.95, 0.99]])
    assert repetition_loss(logits_for(ids, louder), rows).item() > 0.5


def test_tokens_before_the_first_repeat_do_not_count() -> None:
    ids = torch.tensor([[7, 1, 2, 1, 2, 1, 2, 1]])
    rows = RepeatedRows(ids, period=torch.tensor([2]), begin=torch.tensor([1]))
    logits = logits_for(ids, torch.full((1, 7), 0.5)).requires_grad_()
    repetition_loss(logits, rows).backward()
    moved = logits.grad.abs().sum(-1)[0] > 0
    assert moved.tolist() == [False, False, True, True, True, True, True]
