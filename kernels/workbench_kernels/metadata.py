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
    """The arrays of AttentionMetadata as tensors on the model's device (on a CPU: the same memory)."""

    positions: torch.Tensor
    slot_mapping: torch.Tensor
    token_rows: torch.Tensor
    block_tables: torch.Tensor


def make_metadata(
    query_start_loc: IntArray,
    seq_lens: IntArray,
    rows: IntArray,
    block_tables: IntArray,
    block_size: int,
    device: torch.device,
) -> AttentionMetadata:
    """Lay out a batch of B requests.

    query_start_loc [B + 1]: first token of each request in the batch, and the end. seq_lens [B]: tokens of each request
    with this step's included. rows [B]: its row in block_tables.
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
    tensors = (torch.from_numpy(array) for array in (positions, slots, token_rows, block_tables))
    if device.type != "cpu":
        tensors = (tensor.to(device, non_blocking=True) for tensor in tensors)
    return AttentionMetadata(positions, slots, token_rows, block_tables, spans, DeviceMetadata(*tensors))
