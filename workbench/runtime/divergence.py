"""How far one model's next-token distributions are from another's, token by token."""

from typing import NamedTuple

import numpy as np
import torch

from workbench_kernels.arrays import Array

ROWS_AT_ONCE = 64  # in double precision over the whole vocabulary


class TokenScores(NamedTuple):
    """One entry per scored token, float64 or int64.

    nll and base_nll: minus the log of the probability of the token that came, in nats. kld: KL divergence of the
    model's distribution from the base's, sum of p_base (ln p_base - ln p), in nats. top and base_top: each one's most
    probable token.
    """

    nll: Array
    base_nll: Array
    kld: Array
    top: Array
    base_top: Array


def score_tokens(logits: torch.Tensor, base_logits: torch.Tensor, targets: torch.Tensor) -> TokenScores:
    """Compare logits [rows, vocab] with the base's, both for the tokens that came, targets [rows] int64."""
    parts = []
    for first in range(0, len(targets), ROWS_AT_ONCE):
        rows = slice(first, first + ROWS_AT_ONCE)
        came = targets[rows, None].cpu()
        own, base = (x[rows].cpu().double().log_softmax(-1) for x in (logits, base_logits))
        # A token that the base rules out adds nothing, and 0 times infinity is no number.
        terms = torch.where(base > -torch.inf, base.exp() * (base - own), 0.0)
        parts.append(
            (
                -own.gather(1, came)[:, 0],
                -base.gather(1, came)[:, 0],
                terms.sum(-1),
                own.argmax(-1),
                base.argmax(-1),
            )
        )
    return TokenScores(*(torch.cat(column).numpy() for column in zip(*parts, strict=True)))


def joined(parts: list[TokenScores]) -> TokenScores:
    """One after another."""
    return TokenScores(*(np.concatenate(column) for column in zip(*parts, strict=True)))
