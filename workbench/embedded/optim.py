"""Two optimisers side by side: Muon for the matrices, AdamW for the embedding and the norms.

torch ships a Muon, but it orthogonalises in bfloat16, which on a CPU without bfloat16 arithmetic takes longer than the
training step itself. This one stays in float32 and treats all matrices of one shape as a single batch.
"""

from __future__ import annotations

from collections import defaultdict

import torch
from torch import Tensor, nn

# Coefficients of the quintic iteration published with Muon: they push singular values near 1 in five rounds.
QUINTIC = (3.4445, -4.7750, 2.0315)
ROUNDS = 5


def orthogonalise(matrices: Tensor) -> Tensor:
    """Replace every singular value of each matrix by about 1; matrices [count, rows, columns], same shape out."""
    a, b, c = QUINTIC
    tall = matrices.shape[-2] > matrices.shape[-1]
    x: Tensor = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(ROUNDS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


class Muon:
    """Momentum whose update is orthogonalised, so that every direction of a matrix learns at the same pace.

    The step is scaled by 0.2 * sqrt(longer side), which gives it the root-mean-square size an AdamW step would have,
    so both optimisers can share one learning rate.
    """

    def __init__(self, weights: list[nn.Parameter], momentum: float, weight_decay: float) -> None:
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.groups: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
        for weight in weights:
            self.groups[weight.shape].append(weight)
        self.velocity = {shape: torch.zeros(len(group), *shape) for shape, group in self.groups.items()}

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """One update with the gradients in place; lr as for AdamW."""
        for shape, group in self.groups.items():
            gradient = torch.stack([weight.grad for weight in group if weight.grad is not None])
            velocity = self.velocity[shape].lerp_(gradient, 1 - self.momentum)
            update = orthogonalise(gradient.lerp_(velocity, self.momentum)) * (0.2 * max(shape) ** 0.5)
            for weight, change in zip(group, update, strict=True):
                weight.mul_(1 - lr * self.weight_decay).sub_(change, alpha=lr)


class Optimiser:
    """Muon and AdamW under one learning rate."""

    def __init__(self, model: nn.Module, weight_decay: float = 0.1) -> None:
        self.weights = list(model.parameters())
        matrices = [w for name, w in model.named_parameters() if w.ndim == 2 and "embed" not in name]
        chosen = {id(w) for w in matrices}
        others = [w for w in self.weights if id(w) not in chosen]
        self.muon = Muon(matrices, momentum=0.95, weight_decay=weight_decay)
        self.adamw = torch.optim.AdamW(others, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.0)

    def step(self, lr: float) -> None:
        """Update every weight and forget the gradients."""
        for group in self.adamw.param_groups:
            group["lr"] = lr
        self.muon.step(lr)
        self.adamw.step()
        for weight in self.weights:
            weight.grad = None
