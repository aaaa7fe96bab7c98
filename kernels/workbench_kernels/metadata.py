"""Where the tokens of one step are: which request each belongs to, its position, and where its K and V go."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

IntArray = np.ndarray[Any, np.dtype[Any]]


class QuerySpan(NamedTuple):
    """Tokens start..stop of the batch are one request's newest; context counts its tokens, those included."""

    start: int
    stop: int
    context: int
    row: int


@dataclass(frozen=True, slots=True)
class AttentionMetadata:
    """One step's tokens, T in all, as every kernel of every layer reads them. Made once per step.

    positions [T] int64: index of the token in its request. slot_mapping [T] int64: block * block_size + offset where
    its K and V are written. token_rows [T] int32: row of block_tables [rows, max_blocks] int32. spans: the batch in
    order, one per request. The arrays are host memory; device holds the same four as tensors on the model's device.
    """

    positions: IntArray
    slot_mapping: IntArray
    token_rows: IntArray
    block_tables: IntArray
    spans: tuple[QuerySpan, ...]
    device: "DeviceMetadata"


class DeviceMetadata(NamedTuple):
    """The arrays of AttentionMetadata as tensors on the model's device (on a CPU: the same memory).

    For kernels that take a request's chunk in tiles of at most query_tile tokens, and single tokens otherwise:
    single_tokens [S] int32 are the tokens that are their request's only new one (None: every token is), tiles [N, 2]
    int32 the first token and the number of tokens of each piece of the longer ones (None: there are none).
    """

    positions: torch.Tensor
    slot_mapping: torch.Tensor
    token_rows: torch.Tensor
    block_tables: torch.Tensor
    single_tokens: torch.Tensor | None = None
    tiles: torch.Tensor | None = None
    query_tile: int = 0


def to_device(array: IntArray, device: torch.device) -> torch.Tensor:
    """The array as a tensor there: the same memory on a CPU, else a copy that nobody waits for."""
    tensor = torch.from_numpy(array)
    return tensor if device.type == "cpu" else tensor.pin_memory().to(device, non_blocking=True)


def make_metadata(
    query_start_loc: IntArray,
    seq_lens: IntArray,
    rows: IntArray,
    block_tables: IntArray,
    block_size: int,
    device: torch.device,
    query_tile: int = 0,
) -> AttentionMetadata:
    """Lay out a batch of B requests.

    query_start_loc [B + 1]: first token of each request in the batch, and the end. seq_lens [B]: tokens of each request
    with this step's included. rows [B]: its row in block_tables. query_tile: see DeviceMetadata; 0 for kernels that
    go by the spans.
    """
    num_tokens = int(query_start_loc[-1])
    if num_tokens == len(rows):  # one token each, the usual step
        token_rows = rows.astype(np.int32)
        positions = seq_lens.astype(np.int64) - 1
    else:
        lengths = np.diff(query_start_loc)
        token_rows = np.repeat(rows, lengths).astype(np.int32)
        first = np.repeat(seq_lens - lengths - query_start_loc[:-1], lengths)
        positions = np.arange(num_tokens, dtype=np.int64) + first
    slots = block_tables[token_rows, positions // block_size].astype(np.int64) * block_size + positions % block_size
    bounds = query_start_loc.tolist()
    spans = tuple(map(QuerySpan, bounds[:-1], bounds[1:], seq_lens.tolist(), rows.tolist()))
    arrays = (positions, slots, token_rows, block_tables)
    on_device = DeviceMetadata(*(to_device(array, device) for array in arrays), query_tile=query_tile)
    if query_tile and num_tokens > len(rows):
        on_device = _with_tiles(on_device, spans, query_tile, device)
    return AttentionMetadata(positions, slots, token_rows, block_tables, spans, on_device)


def _with_tiles(
    meta: DeviceMetadata, spans: tuple[QuerySpan, ...], query_tile: int, device: torch.device
) -> DeviceMetadata:
    single = [span.start for span in spans if span.stop - span.start == 1]
    tiles = [
        (start, min(query_tile, span.stop - start))
        for span in spans
        if span.stop - span.start > 1
        for start in range(span.start, span.stop, query_tile)
    ]
    return meta._replace(
        single_tokens=to_device(np.array(single, np.int32), device), tiles=to_device(np.array(tiles, np.int32), device)
    )
