"""The format of quantized weights, and what it refuses."""

import pytest
import torch

from workbench_kernels.quant_matmul.packing import dequantize, quantize


@pytest.mark.parametrize(
    ("format", "group_size", "steps"), [("int8", None, 254), ("int8", 16, 254), ("int4", 32, 14), ("fp8", None, 16)]
)
def test_values_are_off_by_half_a_step_at_most(format: str, group_size: int | None, steps: int) -> None:
    torch.manual_seed(0)
    weight = torch.randn(5, 64)
    packed = quantize(weight, format, group_size)
    groups = weight.view(5, -1, packed.group_size)
    step = 2 * groups.abs().amax(-1, keepdim=True) / steps
    assert ((dequantize(packed).view_as(groups) - groups).abs() <= step * 0.51).all()
    assert packed.shape == (5, 64)
    assert packed.num_bytes == 5 * (32 if format == "int4" else 64) + 4 * packed.scales.numel()


def test_the_order_of_int4_in_a_byte() -> None:
    packed = quantize(torch.arange(32.0).remainder(8).neg()[None], "int4", 32)  # 0, -1, .. -7, 0, ..
    assert packed.scales.tolist() == [[1.0]]
    assert packed.data[0, :4].tolist() == [8 | 7 << 4, 6 | 5 << 4, 4 | 3 << 4, 2 | 1 << 4]


def test_zeros_stay_zeros() -> None:
    for format in ("int8", "int4", "fp8"):
        assert torch.equal(dequantize(quantize(torch.zeros(2, 128), format)), torch.zeros(2, 128))


@pytest.mark.parametrize(
    ("format", "group_size", "message"),
    [
        ("int3", None, "int8, int4, nf4, fp8"),
        ("int4", 48, "group sizes 32"),
        ("int8", 24, "no multiple"),
        ("fp8", 16, "one scale"),
    ],
)
def test_refused(format: str, group_size: int | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        quantize(torch.zeros(2, 64), format, group_size)
