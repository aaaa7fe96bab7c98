"""RMS norm from torch's own operations, for any device and dtype."""

import torch


def rms_norm(x: torch.Tensor, gain: torch.Tensor, eps: float) -> torch.Tensor:
    """As reference.rms_norm."""
    wide = x.float()
    return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps) * gain).to(x.dtype)


def add_rms_norm(x: torch.Tensor, residual: torch.Tensor, gain: torch.Tensor, eps: float) -> torch.Tensor:
    """As reference.add_rms_norm."""
    residual += x
    return rms_norm(residual, gain, eps)
