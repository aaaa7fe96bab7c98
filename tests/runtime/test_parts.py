"""Smaller parts: linear layers in every stored form, block copies, thread counts."""

from dataclasses import replace

import pytest
import torch
from random_models import SMALL_SPEC as SPEC

from workbench.core.scheduler_output import BlockCopy
from workbench.runtime import linear
from workbench.runtime.kv_store import KVStore
from workbench.runtime.linear import Linear
from workbench.runtime.memory import pool_shape
from workbench.runtime.threads import step_threads, torch_threads
from workbench_kernels.dispatch import select_kernels


@pytest.mark.parametrize("bias", [False, True], ids=["plain", "bias"])
@pytest.mark.parametrize("rows", [1, 3, 16])
@pytest.mark.parametrize("form", ["transposed", "shared", "bfloat16", "packed"])
def test_linear(form: str, rows: int, bias: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    dtype = torch.bfloat16 if form in ("bfloat16", "packed") else torch.float32
    weight, x, b = torch.randn(24, 40).to(dtype), torch.randn(rows, 40).to(dtype), torch.randn(24).to(dtype)
    if form == "packed":
        if not linear.cpu_computes_bfloat16():
            # The packed form itself can be had in float32 on any CPU.
            weight, x, b = weight.float(), x.float(), b.float()
            layer = Linear(weight, b if bias else None, shared=True)
            layer._form, layer._weight = "packed", torch.ops.mkldnn._reorder_linear_weight(weight)
        else:
            layer = Linear(weight, b if bias else None)
            assert layer._form == "packed"
    else:
        monkeypatch.setattr(linear, "cpu_computes_bfloat16", lambda: False)
        layer = Linear(weight, b if bias else None, shared=form == "shared")
    wanted = x.double() @ weight.double().t() + (b.double() if bias else 0)
    kernels = select_kernels(torch.device("cpu"), x.dtype, head_size=16, backend="torch")
    found = layer(x, kernels)
    assert found.dtype == x.dtype
    torch.testing.assert_close(
        found.double(), wanted, rtol=0, atol=1e-4 if x.dtype is torch.float32 else 0.2, check_dtype=False
    )
    assert len(layer.tensors()) == 1 + bias


def test_copies_read_before_they_write() -> None:
    store = KVStore(SPEC, pool_shape(SPEC, 4, 2), torch.device("cpu"), torch.float32)
    assert store.num_bytes == sum(layer.numel() * 4 for layer in store.layers)
    for layer in store.layers:
        layer[:] = torch.arange(4.0)[None, :, None, None, None]
    store.copy([BlockCopy(0, 1), BlockCopy(1, 2), BlockCopy(3, 0)])
    for layer in store.layers:
        assert layer[:, :, 0, 0, 0].tolist() == [[3, 0, 1, 3]] * 2
        assert (layer == layer[:, :, :1, :1, :1]).all()


def test_short_steps_take_one_thread() -> None:
    small = replace(SPEC, num_parameters=3_000_000, weight_bytes=12_000_000)
    assert step_threads(small, 16, available=8) == 1
    assert step_threads(small, 2000, available=8) == 8
    large = replace(SPEC, num_parameters=10**9, weight_bytes=4 * 10**9)
    assert step_threads(large, 1, available=8) == 8


def test_threads_are_restored_after_an_error() -> None:
    before = torch.get_num_threads()
    seen = []

    def fail() -> None:
        with torch_threads(before + 1):
            seen.append(torch.get_num_threads())
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert seen == [before + 1]
    assert torch.get_num_threads() == before
