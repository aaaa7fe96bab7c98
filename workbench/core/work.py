"""What a step has to read and compute at least, counted from its record and a model's sizes."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from workbench.core.config import ModelSpec
from workbench.core.machine import MachineLimits
from workbench.core.records import StepRecord
from workbench.core.weights import WeightRow

MATRICES, HEAD, ATTENTION = "layer matrices", "output head", "attention"
_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


class Work(NamedTuple):
    """What a part has to read at least, in bytes, and compute, in floating-point operations."""

    bytes: float
    flops: float


class WorkSizes(NamedTuple):
    """A model's sizes that decide a step's work: bytes and numbers of the layers' matrices and of the output head.

    pair_flops: operations of attention for each pair of a token and one that it sees, over all layers and heads.
    """

    matrix_bytes: int
    matrix_numbers: int
    head_bytes: int
    head_numbers: int
    pair_flops: int


def work_sizes(spec: ModelSpec, weights: Iterable[WeightRow]) -> WorkSizes:
    """Those of a model whose weights are stored like this."""
    matrices = [row for row in weights if row.quantizable]
    head = spec.vocab_size * spec.hidden_size
    return WorkSizes(
        sum(row.bytes for row in matrices),
        sum(row.shape[0] * row.shape[1] for row in matrices),
        head * _BYTES[spec.dtype],
        head,
        4 * spec.num_heads * spec.head_size * spec.num_layers,
    )


def batch_of(record: StepRecord) -> list[tuple[int, int]]:
    """(new tokens, context with them) of every request that computed something in that step."""
    return [(d.num_tokens, d.num_computed + d.num_tokens) for d in record.decisions if d.num_tokens]


def step_work(record: StepRecord, sizes: WorkSizes) -> Mapping[str, Work]:
    """What that step had to read and compute: weights once, each request's KV once a layer.

    Activations, norms and embeddings' rows are left out; sliding windows are not taken into account.
    """
    batch = batch_of(record)
    tokens = sum(new for new, _ in batch)
    kv_bytes = record.pool.bytes_per_block / record.pool.block_size
    pairs = sum(new * (context - new) + new * (new + 1) // 2 for new, context in batch)
    return {
        MATRICES: Work(sizes.matrix_bytes, 2 * tokens * sizes.matrix_numbers),
        HEAD: Work(sizes.head_bytes, 2 * len(record.sampled) * sizes.head_numbers),
        ATTENTION: Work(sum(context for _, context in batch) * kv_bytes, pairs * sizes.pair_flops),
    }


def whole_of(parts: Iterable[Work]) -> Work:
    """All parts together."""
    each = list(parts)
    return Work(sum(part.bytes for part in each), sum(part.flops for part in each))


def least_seconds(work: Work, limits: MachineLimits) -> tuple[float, str]:
    """The least that this work can take, and whether "memory" or "arithmetic" bounds it: the roofline's rule."""
    reading, computing = work.bytes / limits.copy_bandwidth, work.flops / limits.matmul_peak
    return max(reading, computing), "memory" if reading >= computing else "arithmetic"
