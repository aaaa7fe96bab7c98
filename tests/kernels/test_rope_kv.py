"""Rope and KV write against the reference."""

import pytest
import torch
from tolerances import check_close

from workbench_kernels.paged_attention.cases import Batch, make_inputs, odd_batches
from workbench_kernels.rope_kv import cpu, reference, torch_impl

BLOCK = 4
IMPLEMENTATIONS = {"numba": cpu.rope_and_write_kv, "torch": torch_impl.rope_and_write_kv}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("normed", [False, True], ids=["plain", "qk_norm"])
@pytest.mark.parametrize("rotary_dim", [24, 8, 2], ids=["full", "partial", "one_pair"])
@pytest.mark.parametrize("batch", odd_batches(BLOCK), ids=str)
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_equals_reference(implementation: str, batch: Batch, rotary_dim: int, normed: bool, dtype: torch.dtype) -> None:
    ours = make_inputs(batch, 4, 2, 24, BLOCK, dtype)
    wanted = make_inputs(batch, 4, 2, 24, BLOCK, dtype)
    angles = torch.randn(60, rotary_dim // 2)
    cos_sin = torch.cat((angles.cos(), angles.sin()), -1)
    gains = (torch.randn(24), torch.randn(24)) if normed else (None, None)
    reference.rope_and_write_kv(wanted.qkv, cos_sin, wanted.kv_cache, wanted.meta, 4, *gains, 1e-5)
    IMPLEMENTATIONS[implementation](ours.qkv, cos_sin, ours.kv_cache, ours.meta, 4, *gains, 1e-5)
    check_close("rope_kv", ours.qkv, wanted.qkv)
    written = wanted.kv_cache.isfinite()
    assert torch.equal(written, ours.kv_cache.isfinite())  # those slots and no others
    check_close("rope_kv", ours.kv_cache[written], wanted.kv_cache[written])


def test_the_check_finds_a_wrong_position() -> None:
    ours, wanted = (make_inputs(odd_batches(BLOCK)[3], 4, 2, 24, BLOCK, torch.float32) for _ in range(2))
    angles = torch.randn(60, 12)
    cos_sin = torch.cat((angles.cos(), angles.sin()), -1)
    reference.rope_and_write_kv(wanted.qkv, cos_sin, wanted.kv_cache, wanted.meta, 4)
    ours.meta.positions[-1] += 1
    cpu.rope_and_write_kv(ours.qkv, cos_sin, ours.kv_cache, ours.meta, 4)
    with pytest.raises(AssertionError, match="rope_kv"):
        check_close("rope_kv", ours.qkv, wanted.qkv)
