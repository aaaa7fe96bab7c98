"""The KV pool's memory: for each layer one cache [2, num_blocks, block_size, num_kv_heads, head_size], K first, then V.

The cache is a tensor of the activations' dtype, or a QuantizedKV of 8-bit numbers and their scales.
"""

from collections.abc import Sequence

import numpy as np
import torch

from workbench.core.config import ModelSpec, PoolShape
from workbench.core.errors import KVCacheTooSmallError
from workbench.core.scheduler_output import BlockCopy
from workbench_kernels.kv_cache import KVCache, QuantizedKV
from workbench_kernels.metadata import to_device

QUANTIZED = {"int8": torch.int8, "fp8": torch.float8_e4m3fn}
SCALE_BYTES = 4


def kv_bytes_per_token(spec: ModelSpec, kv_cache_dtype: str) -> int:
    """Bytes of one token over all layers, scales included. kv_cache_dtype: "int8", "fp8", or else the model's own."""
    if kv_cache_dtype not in QUANTIZED:
        return spec.kv_bytes_per_token
    return 2 * spec.num_layers * spec.num_kv_heads * (spec.head_size + SCALE_BYTES)


class KVStore:
    """Allocated whole at construction, and touched, so that no step waits for the system to find the pages.

    Raises KVCacheTooSmallError where the device has not that much memory.
    """

    def __init__(self, spec: ModelSpec, pool: PoolShape, device: torch.device, dtype: torch.dtype) -> None:
        self.pool = pool
        self.device = device
        places = (2, pool.num_blocks, pool.block_size, spec.num_kv_heads)
        quantized = QUANTIZED.get(pool.kv_cache_dtype)
        self.layers: list[KVCache] = []
        try:
            for _ in range(spec.num_layers):
                if quantized is None:
                    self.layers.append(_zeros((*places, spec.head_size), dtype, device))
                    continue
                data = _zeros((*places, spec.head_size), quantized, device)
                self.layers.append(QuantizedKV(data, _zeros(places, torch.float32, device)))
        except (RuntimeError, MemoryError) as error:  # torch raises RuntimeError where a CPU allocation fails
            self.layers.clear()
            raise self._too_large(pool) from error

    @property
    def num_bytes(self) -> int:
        """Bytes of all layers."""
        return sum(tensor.numel() * tensor.element_size() for layer in self.layers for tensor in _tensors(layer))

    @property
    def scale_bytes(self) -> int:
        """Of those, bytes of scales."""
        return sum(layer.scales.nbytes for layer in self.layers if isinstance(layer, QuantizedKV))

    def copy(self, copies: Sequence[BlockCopy]) -> None:
        """Copy whole blocks in every layer, all read before any is written."""
        if not copies:
            return
        source = to_device(np.array([copy.src for copy in copies]), self.device)
        target = to_device(np.array([copy.dst for copy in copies]), self.device)
        for layer in self.layers:
            for tensor in _tensors(layer):
                raw = _raw(tensor)
                raw.index_copy_(1, target, raw.index_select(1, source))

    def resize(self, pool: PoolShape) -> None:
        """Grow or shrink, layer by layer, so that at most one layer is held twice; what fits is kept.

        Raises KVCacheTooSmallError where memory runs out, with the old pool in place.
        """
        before = self.pool
        self.pool = pool
        for index, layer in enumerate(self.layers):
            try:
                self.layers[index] = _resized(layer, pool.num_blocks)
            except (RuntimeError, MemoryError) as error:
                for done in range(index):
                    self.layers[done] = _resized(self.layers[done], before.num_blocks)
                self.pool = before
                raise self._too_large(pool) from error

    def _too_large(self, pool: PoolShape) -> KVCacheTooSmallError:
        return KVCacheTooSmallError(
            f"a KV pool of {pool.num_blocks} blocks needs {pool.num_bytes / 2**20:,.0f} MiB and {self.device} has not "
            "that much left; lower num_gpu_blocks_override, kv_cache_memory_bytes or gpu_memory_utilization"
        )


def _zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    tensor = torch.empty(shape, dtype=dtype, device=device)
    _raw(tensor).zero_()
    return tensor


def _tensors(layer: KVCache) -> tuple[torch.Tensor, ...]:
    return (layer.data, layer.scales) if isinstance(layer, QuantizedKV) else (layer,)


def _raw(tensor: torch.Tensor) -> torch.Tensor:
    """The same memory in a dtype that every operation takes; float8 lacks most of them."""
    return tensor.view(torch.uint8) if tensor.dtype is torch.float8_e4m3fn else tensor


def _resized(layer: KVCache, num_blocks: int) -> KVCache:
    tensors = []
    for tensor in _tensors(layer):
        old = _raw(tensor)
        new = torch.empty((2, num_blocks, *old.shape[2:]), dtype=old.dtype, device=old.device)
        kept = min(num_blocks, old.shape[1])
        new[:, :kept] = old[:, :kept]
        new[:, kept:] = 0
        tensors.append(new.view(tensor.dtype))
    return QuantizedKV(*tensors) if isinstance(layer, QuantizedKV) else tensors[0]
