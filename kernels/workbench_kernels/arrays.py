"""A tensor's memory as numpy sees it: no copy, bfloat16 as uint16 bit patterns."""

from typing import Any

import numpy as np
import torch

Array = np.ndarray[Any, np.dtype[Any]]


def as_array(tensor: torch.Tensor) -> Array:
    """The CPU tensor's own memory; float32 as it is, bfloat16 as uint16."""
    if tensor.dtype is torch.bfloat16:
        tensor = tensor.view(torch.uint16)
    return tensor.numpy()
