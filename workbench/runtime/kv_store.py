"""The KV pool's memory: one tensor per layer, [2, num_blocks, block_size, num_kv_heads, head_size], K first, then V."""

from collections.abc import Sequence

import numpy as np
import torch

from workbench.core.config import ModelSpec
from workbench.core.errors import KVCacheTooSmallError
from workbench.core.scheduler_output import BlockCopy
from workbench_kernels.metadata import to_device


def kv_bytes_per_block(spec: ModelSpec, block_size: int) -> int:
    """Bytes of one block over all layers."""
    return spec.kv_bytes_per_token * block_size


class KVStore:
    """Allocated whole at construction, and touched, so that no step waits for the system to find the pages.

    Raises KVCacheTooSmallError where the device has not that much memory.
    """

    def __init__(
        self, spec: ModelSpec, num_blocks: int, block_size: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        shape = (2, num_blocks, block_size, spec.num_kv_heads, spec.head_size)
        self.num_bytes = num_blocks * kv_bytes_per_block(spec, block_size)
        try:
            self.layers = [torch.empty(shape, dtype=dtype, device=device).zero_() for _ in range(spec.num_layers)]
        except (RuntimeError, MemoryError) as error:  # torch raises RuntimeError where a CPU allocation fails
            raise KVCacheTooSmallError(
                f"a KV pool of {num_blocks} blocks needs {self.num_bytes / 2**20:,.0f} MiB and {device} has not that "
                "much left; lower num_gpu_blocks_override, kv_cache_memory_bytes or gpu_memory_utilization"
            ) from error

    def copy(self, copies: Sequence[BlockCopy]) -> None:
        """Copy whole blocks in every layer, all read before any is written."""
        if not copies:
            return
        device = self.layers[0].device
        source = to_device(np.array([copy.src for copy in copies]), device)
        target = to_device(np.array([copy.dst for copy in copies]), device)
        for layer in self.layers:
            layer.index_copy_(1, target, layer.index_select(1, source))
