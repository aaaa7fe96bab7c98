"""How well a model predicts stories: one definition, used while training and for the model card."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from workbench.embedded.data import CONTEXT, END_ID


@dataclass(frozen=True)
class Score:
    """Total loss over some stories, with what it can be divided by.

    ``nats`` sums over every token of each story and the end token after it; ``characters`` and ``bytes`` (UTF-8) count
    the text alone.
    """

    nats: float
    tokens: int
    characters: int
    bytes: int

    def figures(self) -> dict[str, float]:
        """The usual figures, rounded for print: nats per token, perplexities, bits per character."""
        return {
            "loss_per_token": round(self.nats / self.tokens, 4),
            "perplexity_per_token": round(math.exp(self.nats / self.tokens), 3),
            "perplexity_per_byte": round(math.exp(self.nats / self.bytes), 4),
            "bits_per_character": round(self.nats / self.characters / math.log(2), 4),
            "tokens": self.tokens,
            "characters": self.characters,
            "bytes": self.bytes,
        }


@torch.no_grad()
def total_loss(logits: Callable[[Tensor], Tensor], stories: list[np.ndarray], rows: int = 8) -> tuple[float, int]:
    """Summed loss in nats, and the number of tokens, of stories that end with the end token.

    Each story stands on its own behind one start token and is cut at the context's end. ``logits`` maps ids
    [rows, length] to scores [rows, length, vocab]; rows of one batch are padded on the right, which a causal model
    cannot see.
    """
    nats, count = 0.0, 0
    ordered = sorted(stories, key=len)
    for first in range(0, len(ordered), rows):
        group = [torch.from_numpy(story[:CONTEXT].astype(np.int64)) for story in ordered[first : first + rows]]
        targets = torch.nn.utils.rnn.pad_sequence(group, batch_first=True, padding_value=-100)
        ids = F.pad(targets[:, :-1], (1, 0), value=END_ID).clamp(min=0)
        scores = logits(ids).flatten(0, 1)
        nats += F.cross_entropy(scores, targets.flatten(), ignore_index=-100, reduction="sum").item()
        count += sum(map(len, group))
    return nats, count
