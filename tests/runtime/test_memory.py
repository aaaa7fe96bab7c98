"""How many blocks the pool gets, and the arithmetic in the words of a refusal."""

from collections import namedtuple
from dataclasses import replace
from typing import Any

import psutil
import pytest
from random_models import SMALL_SPEC as SPEC

from workbench.core.config import EngineArgs
from workbench.core.errors import KVCacheTooSmallError
from workbench.runtime.kv_store import kv_bytes_per_block
from workbench.runtime.memory import CPU_DEFAULT_BYTES, plan_num_blocks

PER_BLOCK = 512 * 16


@pytest.fixture
def available(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets what the system says is available, in bytes."""

    def set_available(number: int) -> None:
        answer = namedtuple("answer", "available")(number)
        monkeypatch.setattr(psutil, "virtual_memory", lambda: answer)

    set_available(2**34)
    return set_available


def test_bytes_per_block() -> None:
    assert kv_bytes_per_block(SPEC, 16) == PER_BLOCK


def test_asked_for_in_blocks_or_bytes() -> None:
    assert plan_num_blocks(EngineArgs(num_gpu_blocks_override=7, kv_cache_memory_bytes=1), SPEC) == 7
    assert plan_num_blocks(EngineArgs(kv_cache_memory_bytes=10 * PER_BLOCK + 1), SPEC) == 10
    assert plan_num_blocks(EngineArgs(kv_cache_memory_bytes=10 * PER_BLOCK, block_size=8), SPEC) == 20


def test_the_default_on_a_cpu(available: Any) -> None:
    short = replace(SPEC, max_model_len=160)
    assert plan_num_blocks(EngineArgs(), short) == 16 * 10
    assert plan_num_blocks(EngineArgs(), replace(SPEC, max_model_len=2**16)) == CPU_DEFAULT_BYTES // PER_BLOCK
    long = replace(SPEC, max_model_len=2**20)
    assert plan_num_blocks(EngineArgs(), long) == 2**20 // 16
    available(100 * PER_BLOCK)
    assert plan_num_blocks(EngineArgs(gpu_memory_utilization=0.5), long) == 50


def test_too_small_says_why(available: Any) -> None:
    with pytest.raises(KVCacheTooSmallError, match=r"needs 8,192 bytes, and kv_cache_memory_bytes allows 8,191"):
        plan_num_blocks(EngineArgs(kv_cache_memory_bytes=PER_BLOCK - 1), SPEC)
    available(1000)
    with pytest.raises(KVCacheTooSmallError, match="available memory"):
        plan_num_blocks(EngineArgs(), SPEC)
