"""The runner's rows, kept from step to step and changed where a plan says so, and a step's inputs made from them."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch

from workbench.core.scheduler_output import SchedulerOutput
from workbench.runtime.decode_graphs import DecodeBuffers
from workbench.runtime.request_row import RequestRow
from workbench_kernels.metadata import AttentionMetadata, make_metadata, to_device


class StepInputs(NamedTuple):
    """One step's tensors. rows: requests that sample, in batch order; sample_rows: their tokens (None: every token)."""

    token_ids: torch.Tensor
    meta: AttentionMetadata
    rows: list[RequestRow]
    sample_rows: torch.Tensor | None


class InputBatch:
    """Block tables [rows, max_blocks] and the requests that own the rows. query_tile: see make_metadata."""

    def __init__(
        self,
        max_num_seqs: int,
        max_model_len: int,
        block_size: int,
        vocab_size: int,
        device: torch.device,
        query_tile: int = 0,
    ) -> None:
        self.block_size = block_size
        self.vocab_size = vocab_size
        self.device = device
        self.query_tile = query_tile
        self.requests: dict[str, RequestRow] = {}
        self.max_blocks = -(-max_model_len // block_size)
        self._block_tables = np.zeros((max_num_seqs, self.max_blocks), np.int32)
        self._free = list(range(max_num_seqs - 1, -1, -1))

    def update(self, plan: SchedulerOutput) -> None:
        """Forget dropped requests, take in new ones, write new block ids, note tokens that are new here."""
        for request_id in plan.dropped:
            row = self.requests.pop(request_id, None)
            if row is not None:
                self._free.append(row.index)
        for new in plan.new_requests:
            if not self._free:
                self._grow()
            self.requests[new.request_id] = RequestRow(new, self._free.pop(), self.vocab_size)
        for scheduled in plan.scheduled:
            row = self.requests[scheduled.request_id]
            if scheduled.block_ids:
                end = scheduled.block_start + len(scheduled.block_ids)
                self._block_tables[row.index, scheduled.block_start : end] = scheduled.block_ids
            known = row.num_tokens - scheduled.num_computed_tokens
            for token_id in scheduled.token_ids[known:]:
                row.append(token_id)

    @property
    def num_rows(self) -> int:
        """Rows that there is room for."""
        return len(self._block_tables)

    def move_blocks(self, moves: Mapping[int, int], num_blocks: int) -> None:
        """Follow blocks to their new ids. What is left over in unused entries must not point beyond the new end."""
        largest = max(num_blocks - 1, int(self._block_tables.max(initial=0)), *moves.keys())
        places = np.arange(largest + 1, dtype=np.int32)
        places[list(moves)] = list(moves.values())
        places[places >= num_blocks] = 0
        self._block_tables = places[self._block_tables]

    def _grow(self) -> None:
        old = self._block_tables.shape[0]
        self._block_tables = np.concatenate((self._block_tables, np.zeros_like(self._block_tables)))
        self._free.extend(range(2 * old - 1, old - 1, -1))

    def inputs(self, plan: SchedulerOutput) -> StepInputs:
        """The step's inputs, in the order of plan.scheduled, which must not be empty."""
        token_ids: list[int] = []
        starts, seq_lens, indices, last_tokens, rows = [0], [], [], [], []
        for scheduled in plan.scheduled:
            row = self.requests[scheduled.request_id]
            token_ids += scheduled.token_ids
            starts.append(len(token_ids))
            seq_lens.append(scheduled.num_computed_tokens + len(scheduled.token_ids))
            indices.append(row.index)
            if scheduled.sample:
                rows.append(row)
                last_tokens.append(len(token_ids) - 1)
        meta = make_metadata(
            np.array(starts),
            np.array(seq_lens),
            np.array(indices),
            self._block_tables,
            self.block_size,
            self.device,
            self.query_tile,
        )
        sample_rows = None
        if len(last_tokens) != len(token_ids):
            sample_rows = to_device(np.array(last_tokens, np.int64), self.device)
        return StepInputs(to_device(np.array(token_ids, np.int64), self.device), meta, rows, sample_rows)

    def fill(self, plan: SchedulerOutput, buffers: DecodeBuffers) -> list[RequestRow]:
        """Fill buffers with a step in which every request computes one token and samples; returns their rows."""
        rows = [self.requests[scheduled.request_id] for scheduled in plan.scheduled]
        buffers.fill(
            np.array([scheduled.token_ids[0] for scheduled in plan.scheduled]),
            np.array([scheduled.num_computed_tokens for scheduled in plan.scheduled]),
            self._block_tables[[row.index for row in rows]],
        )
        return rows
