"""Paged attention against its reference, at the lengths where paging goes wrong."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from tolerances import check_close

from workbench_kernels.dispatch import select_kernels
from workbench_kernels.paged_attention import cpu, reference, torch_impl
from workbench_kernels.paged_attention.cases import Batch, Inputs, make_inputs, odd_batches

BLOCK = 4
DTYPES = [torch.float32, torch.bfloat16]
IMPLEMENTATIONS = {"numba": cpu.paged_attention, "torch": torch_impl.paged_attention}


def run(implementation: str, inputs: Inputs, sliding_window: int = 0, soft_cap: float = 0.0) -> torch.Tensor:
    q, k, v = inputs.parts
    scale = q.shape[2] ** -0.5
    return IMPLEMENTATIONS[implementation](q, k, v, inputs.kv_cache, inputs.meta, scale, sliding_window, soft_cap)


def expected(inputs: Inputs, sliding_window: int = 0, soft_cap: float = 0.0) -> torch.Tensor:
    q = inputs.parts[0]
    return reference.paged_attention(q, inputs.kv_cache, inputs.meta, q.shape[2] ** -0.5, sliding_window, soft_cap)


@pytest.mark.parametrize("dtype", DTYPES, ids=["float32", "bfloat16"])
@pytest.mark.parametrize("batch", odd_batches(BLOCK), ids=str)
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_equals_reference(implementation: str, batch: Batch, dtype: torch.dtype) -> None:
    inputs = make_inputs(batch, num_heads=4, kv_heads=2, head_size=16, block_size=BLOCK, dtype=dtype)
    inputs.write_fresh()
    check_close("paged_attention", run(implementation, inputs), expected(inputs))


@pytest.mark.parametrize(("heads", "kv_heads"), [(1, 1), (3, 1), (4, 4), (6, 2)], ids=["1/1", "3/1", "4/4", "6/2"])
@pytest.mark.parametrize("head_size", [8, 24, 32, 40, 64])
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_head_groups_and_sizes(implementation: str, head_size: int, heads: int, kv_heads: int) -> None:
    batch = odd_batches(BLOCK)[-2]
    inputs = make_inputs(batch, heads, kv_heads, head_size, BLOCK, torch.float32)
    inputs.write_fresh()
    check_close("paged_attention", run(implementation, inputs), expected(inputs))


@pytest.mark.parametrize("window", [1, 3, BLOCK, 9, 1000])
@pytest.mark.parametrize("batch", odd_batches(BLOCK), ids=str)
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_sliding_window(implementation: str, batch: Batch, window: int) -> None:
    inputs = make_inputs(batch, 4, 2, 16, BLOCK, torch.float32)
    inputs.write_fresh()
    check_close("paged_attention", run(implementation, inputs, window), expected(inputs, window))


@pytest.mark.parametrize("batch", odd_batches(BLOCK), ids=str)
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_soft_cap(implementation: str, batch: Batch) -> None:
    inputs = make_inputs(batch, 4, 2, 16, BLOCK, torch.float32)
    inputs.write_fresh()
    check_close("paged_attention", run(implementation, inputs, soft_cap=1.5), expected(inputs, soft_cap=1.5))


def test_memory_of_blocks_outside_the_window_is_never_read() -> None:
    inputs = make_inputs(Batch("decode", (1,), (6 * BLOCK,)), 4, 2, 16, BLOCK, torch.float32)
    inputs.write_fresh()
    outside = inputs.meta.block_tables[inputs.meta.spans[0].row, :3]
    inputs.kv_cache[:, torch.from_numpy(outside).long()] = float("nan")
    for implementation in IMPLEMENTATIONS:
        check_close("paged_attention", run(implementation, inputs, 2 * BLOCK), expected(inputs, 2 * BLOCK))


def test_large_scores_do_not_overflow() -> None:
    inputs = make_inputs(Batch("decode", (1, 30), (9, 31)), 4, 2, 16, BLOCK, torch.float32)
    inputs.qkv *= 100
    inputs.write_fresh()
    for implementation in IMPLEMENTATIONS:
        check_close("paged_attention", run(implementation, inputs), expected(inputs))


def test_nan_in_one_request_stays_there() -> None:
    inputs = make_inputs(Batch("decode", (1, 1), (9, 7)), 4, 2, 16, BLOCK, torch.float32)
    inputs.qkv[0] = float("nan")
    inputs.write_fresh()
    out = run("numba", inputs)
    assert out[0].isnan().all()
    assert out[1].isfinite().all()


def test_split_over_threads_gives_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = make_inputs(odd_batches(BLOCK)[6], 6, 2, 16, BLOCK, torch.float32)
    inputs.write_fresh()
    q, k, v = inputs.parts
    alone = cpu.paged_attention(q, k, v, inputs.kv_cache, inputs.meta, 0.25)
    monkeypatch.setattr(cpu, "PARALLEL_WORK", 1)
    with ThreadPoolExecutor(2) as pool:
        kernels = select_kernels(torch.device("cpu"), torch.float32, 16, pool, workers=3)
        together = kernels.paged_attention(q, k, v, inputs.kv_cache, inputs.meta, 0.25)
    assert torch.equal(alone, together)


def test_two_threads_at_once_do_not_disturb_each_other() -> None:
    batches = [make_inputs(odd_batches(BLOCK)[6], 4, 2, 16, BLOCK, torch.float32, seed) for seed in range(2)]
    for inputs in batches:
        inputs.write_fresh()
    wanted = [run("numba", inputs) for inputs in batches]
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda turn: run("numba", batches[turn % 2]), range(200)))
    assert all(torch.equal(out, wanted[turn % 2]) for turn, out in enumerate(found))


@pytest.mark.parametrize("mistake", ["head_group", "last_token", "block_table", "scale"])
def test_the_check_finds_a_wrong_kernel(mistake: str) -> None:
    inputs = make_inputs(odd_batches(BLOCK)[3], 4, 2, 16, BLOCK, torch.float32)
    inputs.write_fresh()
    right = expected(inputs)
    q, k, v = inputs.parts
    scale = q.shape[2] ** -0.5
    if mistake == "head_group":
        q = q[:, [0, 2, 1, 3]]
    elif mistake == "last_token":
        inputs.meta.positions[:] = np.maximum(inputs.meta.positions - 1, 0)
    elif mistake == "block_table":
        inputs.meta.block_tables[:, [0, 1]] = inputs.meta.block_tables[:, [1, 0]]
    else:
        scale *= 1.0001
    wrong = cpu.paged_attention(q, k, v, inputs.kv_cache, inputs.meta, scale)
    with pytest.raises(AssertionError, match="paged_attention"):
        check_close("paged_attention", wrong, right)
