"""Products with quantized weights against the reference, and the formats against their own definition."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from tolerances import check_close

from workbench_kernels.dispatch import select_kernels
from workbench_kernels.quant_matmul import cpu, torch_impl
from workbench_kernels.quant_matmul.packing import NF4_VALUES, QuantizedWeight, dequantize, quantize
from workbench_kernels.quant_matmul.reference import quant_matmul

FORMATS = pytest.mark.parametrize("name", ["int8", "int4", "nf4"])
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
ROWS = pytest.mark.parametrize("rows", [1, 2, 4, 7, cpu.MANY_ROWS - 1, cpu.MANY_ROWS])


def made(name: str, outputs: int = 37, inputs: int = 192, group: int = 64) -> QuantizedWeight:
    generator = torch.Generator().manual_seed(outputs + inputs)
    return quantize(torch.randn(outputs, inputs, generator=generator), name, group)


@FORMATS
@DTYPES
@ROWS
def test_numba(name: str, dtype: torch.dtype, rows: int) -> None:
    weight = quantize(torch.randn(37, 192).to(dtype), name, 64)
    x, bias = torch.randn(rows, 192).to(dtype), torch.randn(37).to(dtype)
    assert cpu.supports(x, weight)
    check_close("quant_matmul", cpu.quant_matmul(x, weight), quant_matmul(x, weight))
    check_close("quant_matmul", cpu.quant_matmul(x, weight, bias), quant_matmul(x, weight, bias))


@FORMATS
@pytest.mark.parametrize(("inputs", "group"), [(32, 32), (96, 32), (1536, 128)])
@pytest.mark.parametrize("rows", [1, 5])
def test_numba_with_other_groups(name: str, inputs: int, group: int, rows: int) -> None:
    weight = made(name, 3, inputs, group)
    x = torch.randn(rows, inputs)
    check_close("quant_matmul", cpu.quant_matmul(x, weight), quant_matmul(x, weight))


@pytest.mark.parametrize("rows", [1, 6])
def test_int8_with_one_scale_an_output(rows: int) -> None:
    weight = quantize(torch.randn(5, 24), "int8")
    x = torch.randn(rows, 24)
    check_close("quant_matmul", cpu.quant_matmul(x, weight), quant_matmul(x, weight))


@FORMATS
def test_rows_with_a_stride_and_more_outputs_than_a_part(name: str) -> None:
    weight = made(name, cpu.OUTPUTS_AT_ONCE + 9, 64)
    for rows in (1, 3, cpu.MANY_ROWS + 1):
        x = torch.randn(rows, 128)[:, 32:96]
        check_close("quant_matmul", cpu.quant_matmul(x, weight), quant_matmul(x, weight))


@FORMATS
def test_threads_change_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "PARALLEL_WORK", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    weight = made(name)
    with ThreadPoolExecutor(2) as pool:
        for rows in (1, 4):
            x = torch.randn(rows, 192)
            alone = cpu.quant_matmul(x, weight)
            assert torch.equal(cpu.quant_matmul(x, weight, pool=pool, workers=3), alone)


@FORMATS
@DTYPES
def test_torch(name: str, dtype: torch.dtype) -> None:
    weight = quantize(torch.randn(37, 192).to(dtype), name, 64)
    x, bias = torch.randn(5, 192).to(dtype), torch.randn(37).to(dtype)
    check_close("quant_matmul", torch_impl.quant_matmul(x, weight, bias), quant_matmul(x, weight, bias))


@FORMATS
@pytest.mark.parametrize("rows", [1, 4])
def test_the_bound_catches_wrong_kernels(name: str, rows: int) -> None:
    weight, x = made(name), torch.randn(rows, 192)
    right = quant_matmul(x, weight)
    wrong = [
        QuantizedWeight(name, weight.data, weight.scales.roll(1, 1), 64),  # the neighbour group's scale
        QuantizedWeight(name, weight.data.roll(1, 1), weight.scales, 64),  # one byte off
    ]
    if name != "int8":
        swapped = (weight.data >> 4) | (weight.data << 4)
        wrong.append(QuantizedWeight(name, swapped, weight.scales, 64))  # the high four bits first
    for other in wrong:
        with pytest.raises(AssertionError, match="off by"):
            check_close("quant_matmul", cpu.quant_matmul(x, other), right)


def test_what_no_kernel_reads_goes_to_torch() -> None:
    kernels, x = select_kernels(torch.device("cpu"), torch.float32, 32), torch.randn(2, 20)
    for weight in (quantize(torch.randn(3, 20), "int8", 4), quantize(torch.randn(3, 20), "fp8")):
        assert not cpu.supports(x, weight)
        check_close("quant_matmul", kernels.quant_matmul(x, weight), quant_matmul(x, weight))


def test_shapes_that_do_not_belong_together() -> None:
    with pytest.raises(ValueError, match="192"):
        cpu.quant_matmul(torch.randn(1, 64), made("int8"))


@pytest.mark.parametrize(("name", "steps"), [("int8", 127), ("int4", 7)])
def test_whole_numbers_are_at_most_half_a_step_off(name: str, steps: int) -> None:
    weight = torch.randn(11, 128)
    stored = quantize(weight, name, 32)
    step = weight.view(11, 4, 32).abs().amax(-1) / steps
    assert torch.allclose(stored.scales, step)
    error = (dequantize(stored) - weight).abs().view(11, 4, 32)
    assert (error <= step[..., None] * 0.5001).all()
    assert stored.num_bytes == 11 * 128 * (1 if name == "int8" else 0.5) + 11 * 4 * 4


def test_nf4_takes_the_nearest_of_its_numbers() -> None:
    weight = torch.randn(7, 64)
    stored = quantize(weight, "nf4", 32)
    values = np.array(NF4_VALUES)
    for row, found in zip(weight.view(-1, 32).numpy(), dequantize(stored).view(-1, 32).numpy(), strict=True):
        largest = np.abs(row).max()
        nearest = values[np.abs(row[:, None] / largest - values).argmin(1)] * largest
        np.testing.assert_allclose(found, nearest, rtol=1e-6)


def test_zeros_stay_zeros() -> None:
    for name in ("int8", "int4", "nf4"):
        assert not dequantize(quantize(torch.zeros(2, 64), name, 32)).any()
