"""Penalties and draws from torch's own operations, for any device. Sorts whole rows, which only a GPU does quickly."""

import torch

from workbench_kernels.arrays import Array


def apply_penalties(
    logits: torch.Tensor, counts: Array, in_prompt: Array, repetition: float, presence: float, frequency: float
) -> None:
    """As reference.apply_penalties, in place."""
    count = torch.from_numpy(counts).to(logits.device)
    if repetition != 1.0:
        seen = torch.from_numpy(in_prompt).to(logits.device) | (count > 0)
        penalised = torch.where(logits > 0, logits / repetition, logits * repetition)
        torch.where(seen, penalised, logits, out=logits)
    logits -= frequency * count + presence * (count > 0)


def draw(
    logits: torch.Tensor,
    uniform: list[float],
    temperature: list[float],
    top_k: list[int],
    top_p: list[float],
    min_p: list[float],
) -> list[int]:
    """As reference.draw, for each row of logits [rows, vocab]. A row's token depends on that row alone."""
    device, vocab = logits.device, logits.shape[1]
    numbers = torch.tensor(uniform, dtype=torch.float64, device=device)
    probs = torch.softmax(logits / torch.tensor(temperature, device=device)[:, None], -1)
    if any(min_p):
        least = torch.tensor(min_p, device=device)[:, None] * probs.amax(-1, keepdim=True)
        probs = torch.where(probs < least, 0.0, probs)
    ranked = [row for row in range(len(uniform)) if top_p[row] < 1.0 or 0 < top_k[row] < vocab]
    in_order = [row for row in range(len(uniform)) if row not in set(ranked)]
    tokens = torch.empty(len(uniform), dtype=torch.int64, device=device)
    if in_order:
        tokens[in_order] = _invert(probs[in_order], numbers[in_order])
    if ranked:
        values, ids = probs[ranked].sort(dim=-1, descending=True, stable=True)
        rank = torch.arange(vocab, device=device)
        most = torch.tensor([top_k[row] if top_k[row] > 0 else vocab for row in ranked], device=device)
        values = torch.where(rank < most[:, None], values, 0.0)
        sums = values.double().cumsum(-1)
        share = torch.tensor([top_p[row] for row in ranked], dtype=torch.float64, device=device)
        keep = (sums - values < share[:, None] * sums[:, -1:]) | (rank == 0)
        places = _invert(torch.where(keep, values, 0.0), numbers[ranked])
        tokens[ranked] = ids.gather(1, places[:, None])[:, 0]
    return tokens.tolist()  # type: ignore[no-any-return]


def _invert(weights: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """First entry of each row whose running sum exceeds uniform * total; entries of weight 0 are never taken."""
    sums = weights.double().cumsum(-1)
    total = sums[:, -1:]
    target = torch.minimum(uniform[:, None] * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(sums, target, right=True).clamp_(max=weights.shape[1] - 1)[:, 0]
