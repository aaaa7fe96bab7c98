"""KV caches of 8-bit numbers: what is stored, and attention over it against the same values written out."""

import numpy as np
import pytest
import torch
from tolerances import check_close

from workbench_kernels.dispatch import choose
from workbench_kernels.jit import kernel
from workbench_kernels.kv_cache import QuantizedKV, dequantize, quantize
from workbench_kernels.paged_attention import cpu, reference, torch_impl
from workbench_kernels.paged_attention.cases import Inputs, make_inputs, odd_batches
from workbench_kernels.rope_kv.torch_impl import write_kv
from workbench_kernels.simd import LANES, load, store

BLOCK = 4
KINDS = [torch.int8, torch.float8_e4m3fn]
IMPLEMENTATIONS = {"numba": cpu.paged_attention, "torch": torch_impl.paged_attention}


def quantized(inputs: Inputs, kind: torch.dtype) -> QuantizedKV:
    """The batch's cache in 8 bits, this step's K and V written through the product's own code."""
    cache = QuantizedKV(*quantize(inputs.kv_cache, kind))
    _, k, v = inputs.parts
    write_kv(k, v, cache, inputs.meta)
    return cache


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("batch", odd_batches(BLOCK), ids=str)
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_attention_equals_that_over_the_values_written_out(implementation, batch, dtype, kind) -> None:
    inputs = make_inputs(batch, 4, 2, 16, BLOCK, dtype)
    cache = quantized(inputs, kind)
    q, k, v = inputs.parts
    written_out = dequantize(cache.data, cache.scales)
    wanted = reference.paged_attention(q, written_out, inputs.meta, 0.25)
    check_close("paged_attention", IMPLEMENTATIONS[implementation](q, k, v, cache, inputs.meta, 0.25), wanted)


@pytest.mark.parametrize("part", [0, 1], ids=["keys", "values"])
@pytest.mark.parametrize("mistake", ["neighbour's scale", "scale of one head"])
def test_the_check_finds_a_wrong_scale(mistake: str, part: int) -> None:
    inputs = make_inputs(odd_batches(BLOCK)[1], 4, 2, 16, BLOCK, torch.float32)
    cache = quantized(inputs, torch.int8)
    q, k, v = inputs.parts
    wanted = reference.paged_attention(q, dequantize(cache.data, cache.scales), inputs.meta, 0.25)
    wrong = cache.scales.clone()
    if mistake == "scale of one head":
        wrong[part, ..., 1] *= 1.0005
    else:
        wrong[part] = wrong[part].roll(1, 0)
    found = cpu.paged_attention(q, k, v, QuantizedKV(cache.data, wrong.nan_to_num()), inputs.meta, 0.25)
    with pytest.raises(AssertionError, match="paged_attention"):
        check_close("paged_attention", found, wanted)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_errors_stay_within_half_a_step(kind: torch.dtype) -> None:
    x = torch.randn(500, 32, generator=torch.Generator().manual_seed(0))
    numbers, scales = quantize(x, kind)
    error = (dequantize(numbers, scales) - x).abs()
    step = scales[:, None] if kind is torch.int8 else torch.maximum(x.abs() / 8, scales[:, None] * 2**-9)
    assert (error <= 0.5001 * step).all()
    assert (dequantize(numbers, scales).abs().amax(-1) - x.abs().amax(-1)).abs().max() < 1e-5  # the largest is exact


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_zeros_stay_zero_and_what_is_not_finite_is_reported(kind: torch.dtype) -> None:
    x = torch.zeros(3, 8)
    x[1, 2], x[2, 5] = float("nan"), float("inf")
    out = dequantize(*quantize(x, kind))
    assert (out[0] == 0).all()
    assert out[1:].isnan().all()


@kernel
def _decode(numbers, out):
    for i in range(0, numbers.size, LANES):
        store(out, i, load(numbers, i))


def test_the_kernels_read_every_8_bit_number_as_torch_does() -> None:
    bits = np.array([i for i in range(256) if i & 0x7F != 0x7F] + [0, 0], np.uint8)  # without NaN
    out = np.empty(256, np.float32)
    _decode(bits, out)
    assert out.tolist() == torch.from_numpy(bits).view(torch.float8_e4m3fn).float().tolist()
    _decode(np.arange(256, dtype=np.uint8).view(np.int8), out)
    assert out.tolist() == [*range(128), *range(-128, 0)]


def test_a_device_without_a_kernel_for_it_says_so() -> None:
    choice = choose("paged_attention", torch.device("cuda"), torch.bfloat16, 64, kv_dtype=torch.int8)
    assert choice.backend == "torch"
    assert "no int8 cache" in choice.reason
    assert choose("paged_attention", torch.device("cpu"), torch.float32, 64, kv_dtype=torch.int8).backend == "numba"
