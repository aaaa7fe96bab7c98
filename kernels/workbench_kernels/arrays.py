"""A tensor's memory as numpy sees it: no copy, bfloat16 and float8 as bit patterns."""

from typing import Any

import numpy as np
import torch

Array = np.ndarray[Any, np.dtype[Any]]


def as_array(tensor: torch.Tensor) -> Array:
    """The CPU tensor's own memory; float32 and int8 as they are, bfloat16 as uint16, float8_e4m3fn as uint8."""
    if tensor.dtype is torch.bfloat16:
        tensor = tensor.view(torch.uint16)
    elif tensor.dtype is torch.float8_e4m3fn:
        tensor = tensor.view(torch.uint8)
    return tensor.numpy()
