"""How many blocks the pool gets, and the arithmetic in the words of a refusal."""

from collections import namedtuple
from dataclasses import replace
from typing import Any

import psutil
import pytest
import torch
from random_models import SMALL_SPEC as SPEC

from workbench.core.config import EngineArgs
from workbench.core.errors import DoesNotFitError, KVCacheTooSmallError
from workbench.runtime.kv_store import KVStore
from workbench.runtime.memory import CPU_DEFAULT_BYTES, check_room, plan_pool, pool_shape

PER_BLOCK = 512 * 16


@pytest.fixture
def available(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets what the system says is available, in bytes."""

    def set_available(number: int) -> None:
        answer = namedtuple("answer", "available")(number)
        monkeypatch.setattr(psutil, "virtual_memory", lambda: answer)

    set_available(2**34)
    return set_available


def blocks(args: EngineArgs, spec: Any = SPEC, **more: Any) -> int:
    return plan_pool(args, spec, **more).num_blocks


def test_bytes_per_block() -> None:
    assert pool_shape(SPEC, 3, 16) == (3, 16, "float32", PER_BLOCK)


def test_asked_for_in_blocks_or_bytes() -> None:
    assert blocks(EngineArgs(num_gpu_blocks_override=7, kv_cache_memory_bytes=1)) == 7
    assert blocks(EngineArgs(kv_cache_memory_bytes=10 * PER_BLOCK + 1)) == 10
    assert blocks(EngineArgs(kv_cache_memory_bytes=10 * PER_BLOCK, block_size=8)) == 20


def test_the_default_on_a_cpu(available: Any) -> None:
    short = replace(SPEC, max_model_len=160)
    assert blocks(EngineArgs(), short) == 16 * 10
    assert blocks(EngineArgs(), replace(SPEC, max_model_len=2**16)) == CPU_DEFAULT_BYTES // PER_BLOCK
    long = replace(SPEC, max_model_len=2**20)
    assert blocks(EngineArgs(), long) == 2**20 // 16
    available(100 * PER_BLOCK)
    assert blocks(EngineArgs(), long) == 100


def test_on_a_cpu_the_share_is_one_of_an_imagined_device(available: Any) -> None:
    short = replace(SPEC, max_model_len=160, weight_bytes=20 * PER_BLOCK)  # 0.9 of it hold 20 + 160 blocks
    assert blocks(EngineArgs(gpu_memory_utilization=0.45), short) == 70
    with pytest.raises(KVCacheTooSmallError, match="imagined device"):
        blocks(EngineArgs(gpu_memory_utilization=0.1), short)


def test_a_running_pool_keeps_its_bytes_unless_a_size_is_given() -> None:
    pool = pool_shape(SPEC, 12, 16)
    assert plan_pool(EngineArgs(block_size=8), SPEC, pool, ["block_size"]) == (24, 8, "float32", PER_BLOCK // 2)
    asked = EngineArgs(block_size=8, kv_cache_memory_bytes=PER_BLOCK)
    assert blocks(asked, current=pool, turned=["block_size", "kv_cache_memory_bytes"]) == 2


def test_too_small_says_why(available: Any) -> None:
    with pytest.raises(KVCacheTooSmallError, match=r"needs 8,192 bytes, and kv_cache_memory_bytes allows 8,191"):
        plan_pool(EngineArgs(kv_cache_memory_bytes=PER_BLOCK - 1), SPEC)
    available(1000)
    with pytest.raises(KVCacheTooSmallError, match="available memory"):
        plan_pool(EngineArgs(), SPEC)


def test_a_pool_beyond_the_memory_is_refused_with_the_largest_that_fits(available: Any) -> None:
    cpu, now = torch.device("cpu"), pool_shape(SPEC, 10, 16)
    available(5 * PER_BLOCK)
    check_room(cpu, now, pool_shape(SPEC, 15, 16))
    with pytest.raises(DoesNotFitError, match="at most 15 blocks fit") as refused:
        check_room(cpu, now, pool_shape(SPEC, 16, 16))
    assert (refused.value.need, refused.value.have) == (6 * PER_BLOCK, 5 * PER_BLOCK)


def test_a_store_that_changes_its_size_keeps_what_stays() -> None:
    store = KVStore(SPEC, pool_shape(SPEC, 4, 2), torch.device("cpu"), torch.float32)
    for layer in store.layers:
        layer[:] = torch.arange(1.0, 5.0)[None, :, None, None, None]
    store.resize(pool_shape(SPEC, 6, 2))
    assert [layer[:, :, 1, 0, 3].tolist() for layer in store.layers] == [[[1, 2, 3, 4, 0, 0]] * 2] * SPEC.num_layers
    assert store.num_bytes == pool_shape(SPEC, 6, 2).num_bytes
    store.resize(pool_shape(SPEC, 3, 2))
    assert [layer[:, :, 1, 0, 3].tolist() for layer in store.layers] == [[[1, 2, 3]] * 2] * SPEC.num_layers


def test_running_out_of_memory_leaves_the_pool_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    store = KVStore(SPEC, pool_shape(SPEC, 4, 2), torch.device("cpu"), torch.float32)
    for layer in store.layers:
        layer[:] = torch.arange(1.0, 5.0)[None, :, None, None, None]
    real, left = torch.empty, [1]

    def scarce(shape: Any, **options: Any) -> torch.Tensor:
        if shape[1] == 9:
            left[0] -= 1
            if left[0] < 0:
                raise RuntimeError("no memory")
        return real(shape, **options)

    monkeypatch.setattr(torch, "empty", scarce)
    with pytest.raises(KVCacheTooSmallError, match="9 blocks"):
        store.resize(pool_shape(SPEC, 9, 2))
    assert store.pool.num_blocks == 4
    assert [layer[:, :, 1, 0, 3].tolist() for layer in store.layers] == [[[1, 2, 3, 4]] * 2] * SPEC.num_layers
