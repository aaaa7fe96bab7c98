"""Decode steps recorded once per batch size and replayed: a step of many small kernels without the launches' cost.

A CUDA graph repeats the same kernels on the same memory, so a step's inputs are copied into buffers that stay, and a
batch is filled up to the next recorded size with rows that read and write nothing (position -1, slot -1). Recording
decode steps over a ladder of batch sizes is vLLM's way.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from tqdm.auto import tqdm

from workbench.core.errors import KVCacheTooSmallError
from workbench_kernels.metadata import AttentionMetadata, DeviceMetadata, IntArray

# Takes a step and gives what repeats it: the same tensor, computed anew from what its inputs then hold.
Step = Callable[[], torch.Tensor]
Capture = Callable[[Step], Step]
# Logits [rows, vocab] of token ids [rows], one for each row of the metadata.
Forward = Callable[[torch.Tensor, AttentionMetadata], torch.Tensor]

_SPACING = 8


def bucket_sizes(max_num_seqs: int) -> tuple[int, ...]:
    """Batch sizes to record: 1, 2, 4, then every eighth, up to max_num_seqs, which is always one."""
    sizes = [1, 2, 4, *range(_SPACING, max_num_seqs, _SPACING)]
    return (*(size for size in sizes if size < max_num_seqs), max_num_seqs)


class DecodeBuffers:
    """The inputs of a decode step of up to `size` requests, at addresses that stay, and pinned memory to fill them.

    A step's result must have arrived before the next fill: the copies out of pinned memory are not waited for.
    """

    def __init__(self, size: int, max_blocks: int, block_size: int, device: torch.device, query_tile: int) -> None:
        pinned = device.type == "cuda"
        self._block_size = block_size
        self._query_tile = query_tile
        # Rows: token ids, positions, slots. One tensor, so that one copy brings them all.
        self._host = torch.zeros((3, size), dtype=torch.int64, pin_memory=pinned)
        self._host_tables = torch.zeros((size, max_blocks), dtype=torch.int32, pin_memory=pinned)
        self._numbers = torch.zeros((3, size), dtype=torch.int64, device=device)
        self._tables = torch.zeros((size, max_blocks), dtype=torch.int32, device=device)
        self._rows = torch.arange(size, dtype=torch.int32, device=device)
        self._host[1:] = -1
        self._numbers[1:] = -1

    def fill(self, token_ids: IntArray, positions: IntArray, tables: IntArray) -> None:
        """One token a request: token_ids and positions [n], block tables [n, max_blocks]. The rest is padding."""
        count = len(token_ids)
        numbers = self._host.numpy()
        numbers[0, :count] = token_ids
        numbers[1, :count] = positions
        blocks = tables[np.arange(count), positions // self._block_size].astype(np.int64)
        numbers[2, :count] = blocks * self._block_size + positions % self._block_size
        numbers[0, count:] = 0
        numbers[1:, count:] = -1
        self._host_tables.numpy()[:count] = tables
        self._numbers.copy_(self._host, non_blocking=True)
        self._tables[:count].copy_(self._host_tables[:count], non_blocking=True)

    def inputs(self, size: int) -> tuple[torch.Tensor, AttentionMetadata]:
        """Token ids and metadata of the first `size` rows: views that see every later fill."""
        tokens, positions, slots = (row[:size] for row in self._numbers)
        device = DeviceMetadata(positions, slots, self._rows[:size], self._tables[:size], query_tile=self._query_tile)
        host = self._host.numpy()
        rows = np.arange(size, dtype=np.int32)
        tables = self._host_tables.numpy()[:size]
        return tokens, AttentionMetadata(host[1, :size], host[2, :size], rows, tables, (), device)


class DecodeGraphs:
    """A recorded step for each of `sizes`, over shared buffers. capture: how a step is recorded."""

    def __init__(self, forward: Forward, buffers: DecodeBuffers, sizes: Sequence[int], capture: Capture) -> None:
        self.buffers = buffers
        self._steps: dict[int, Step] = {}
        # Largest first: the smaller ones then fit into the memory that it has claimed.
        largest_first = sorted(sizes, reverse=True)
        for size in tqdm(largest_first, desc="Recording CUDA graphs", unit="size", delay=1.0, leave=False):
            tokens, meta = buffers.inputs(size)
            self._steps[size] = capture(lambda tokens=tokens, meta=meta: forward(tokens, meta))
        self._sizes = largest_first[::-1]

    @property
    def largest(self) -> int:
        """Most requests in a step."""
        return self._sizes[-1]

    def run(self, count: int) -> torch.Tensor:
        """Logits [count, vocab] for what the buffers were filled with; overwritten by the next run of that size."""
        size = next(size for size in self._sizes if size >= count)
        return self._steps[size]()[:count]


def cuda_capture(device: torch.device) -> Capture:
    """Record steps as CUDA graphs that share one pool of memory. Raises KVCacheTooSmallError where none is left."""
    pool = torch.cuda.graph_pool_handle()

    def capture(step: Step) -> Step:
        graph = torch.cuda.CUDAGraph()
        aside = torch.cuda.Stream(device)
        try:
            aside.wait_stream(torch.cuda.current_stream(device))
            with torch.cuda.stream(aside):  # compilers and libraries set themselves up outside of the recording
                step()
            torch.cuda.current_stream(device).wait_stream(aside)
            with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
                result = step()
        except torch.cuda.OutOfMemoryError as error:
            raise KVCacheTooSmallError(
                f"{device} has no memory left to record decode steps in; lower gpu_memory_utilization or "
                "kv_cache_memory_bytes, or set enforce_eager=True to do without CUDA graphs"
            ) from error

        def replay() -> torch.Tensor:
            graph.replay()
            return result

        return replay

    return capture
