"""RMS norm in float32: what every other implementation is held to."""

import torch


def rms_norm(x: torch.Tensor, gain: torch.Tensor, eps: float) -> torch.Tensor:
    """x / sqrt(mean(x ** 2) + eps) * gain over the last axis of x [T, width]."""
    rows = [row * torch.rsqrt((row * row).sum() / row.numel() + eps) * gain.float() for row in x.float()]
    return torch.stack(rows).to(x.dtype)


def add_rms_norm(x: torch.Tensor, residual: torch.Tensor, gain: torch.Tensor, eps: float) -> torch.Tensor:
    """Add x to residual in place, and return the norm of the sum."""
    residual += x
    return rms_norm(residual, gain, eps)
