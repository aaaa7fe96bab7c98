"""RMS norm and gated activations against their references, and the vector operations under them."""

import numpy as np
import pytest
import torch
from tolerances import check_close

from workbench_kernels.activation import cpu as activation_cpu
from workbench_kernels.activation import reference as activation_reference
from workbench_kernels.activation import torch_impl as activation_torch
from workbench_kernels.arrays import as_array
from workbench_kernels.jit import kernel
from workbench_kernels.rms_norm import cpu as norm_cpu
from workbench_kernels.rms_norm import reference as norm_reference
from workbench_kernels.rms_norm import torch_impl as norm_torch
from workbench_kernels.simd import exp_nonpositive, get, load, put, store

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
SHAPES = pytest.mark.parametrize("shape", [(1, 1), (1, 63), (3, 64), (17, 65)], ids=str)


@DTYPES
@SHAPES
@pytest.mark.parametrize("ours", [norm_cpu, norm_torch], ids=["numba", "torch"])
def test_norms(ours: object, shape: tuple[int, int], dtype: torch.dtype) -> None:
    x, residual, gain = torch.randn(shape).to(dtype), torch.randn(shape).to(dtype), torch.randn(shape[1])
    check_close("rms_norm", ours.rms_norm(x, gain, 1e-5), norm_reference.rms_norm(x, gain, 1e-5))
    sums = residual.clone()
    wanted = norm_reference.add_rms_norm(x, sums, gain, 1e-5)
    check_close("rms_norm", ours.add_rms_norm(x, residual, gain, 1e-5), wanted)
    assert torch.equal(residual, sums)


@DTYPES
@SHAPES
@pytest.mark.parametrize("name", ["silu_and_mul", "gelu_tanh_and_mul"])
@pytest.mark.parametrize("ours", [activation_cpu, activation_torch], ids=["numba", "torch"])
def test_activations(ours: object, name: str, shape: tuple[int, int], dtype: torch.dtype) -> None:
    x = (torch.randn(shape[0], 2 * shape[1]) * 5).to(dtype)
    x[0, 0] = 3.0  # the bound is relative to the largest value; far below zero float32's GELU is all cancellation
    check_close("activation", getattr(ours, name)(x), getattr(activation_reference, name)(x))


def test_activations_at_the_extremes() -> None:
    gate = torch.tensor([[-1e30, -200.0, -0.0, 200.0, 1e30]])
    x = torch.cat((gate, torch.ones_like(gate)), -1)
    assert activation_cpu.silu_and_mul(x).tolist() == [[0.0, 0.0, 0.0, 200.0, pytest.approx(1e30)]]
    assert activation_cpu.gelu_tanh_and_mul(x[:, [1, 2, 3, 5, 5, 5]]).tolist() == [[0.0, 0.0, 200.0]]


def test_the_check_finds_a_wrong_norm() -> None:
    x, gain = torch.randn(3, 64), torch.randn(64)
    with pytest.raises(AssertionError, match="rms_norm"):
        check_close("rms_norm", norm_cpu.rms_norm(x, gain, 1e-3), norm_reference.rms_norm(x, gain, 1e-5))


@kernel
def _exp(x: np.ndarray, out: np.ndarray) -> None:
    for i in range(x.shape[0]):
        out[i] = exp_nonpositive(x[i])


def test_exponential() -> None:
    x = -np.linspace(0, 86, 20_001, dtype=np.float32)
    out = np.empty_like(x)
    _exp(x, out)
    assert np.abs(out / np.exp(x.astype(np.float64)) - 1).max() < 2e-7
    special = np.array([0.0, -0.0, -100.0, -np.inf, np.nan], np.float32)
    _exp(special, out)
    np.testing.assert_array_equal(out[:5], np.array([1, 1, 0, 0, np.nan], np.float32))


@kernel
def _copy(source: np.ndarray, target: np.ndarray, wide: bool) -> None:
    if wide:
        for i in range(0, source.shape[0], 8):
            store(target, i, load(source, i))
    else:
        for i in range(source.shape[0]):
            put(target, i, get(source, i))


@pytest.mark.parametrize("wide", [True, False], ids=["vector", "scalar"])
def test_bfloat16_rounds_as_torch_does(wide: bool) -> None:
    special = torch.tensor([0.0, -0.0, float("inf"), float("-inf"), float("nan"), 1e-40, 3.4e38, 1.00390625])
    x = torch.cat((special, torch.randn(4096) * 10 ** torch.linspace(-30, 30, 4096)))
    wanted = x.bfloat16()
    ours = torch.empty_like(wanted)
    _copy(as_array(x), as_array(ours), wide)
    assert torch.equal(ours.isnan(), wanted.isnan())
    assert torch.equal(ours[~ours.isnan()], wanted[~wanted.isnan()])
    back = torch.empty_like(x)
    _copy(as_array(wanted), as_array(back), wide)
    assert torch.equal(back[~back.isnan()], wanted.float()[~wanted.isnan()])
