"""Triton's kernels against their references: on a GPU where there is one, else through Triton's interpreter."""

import random
from itertools import cycle
from typing import Any

import numpy as np
import pytest
import torch
from draws import near_a_border
from tolerances import check_close

from workbench_kernels.paged_attention.cases import Batch, Inputs, make_inputs, odd_batches

triton = pytest.importorskip("triton", reason="Triton is not installed; its wheels are for Linux")

from workbench_kernels.activation import reference as activation_reference  # noqa: E402
from workbench_kernels.activation import triton_impl as activation  # noqa: E402
from workbench_kernels.paged_attention import reference as attention_reference  # noqa: E402
from workbench_kernels.paged_attention import triton_impl as attention  # noqa: E402
from workbench_kernels.quant_matmul import reference as matmul_reference  # noqa: E402
from workbench_kernels.quant_matmul import triton_impl as matmul  # noqa: E402
from workbench_kernels.quant_matmul.packing import QuantizedWeight, quantize  # noqa: E402
from workbench_kernels.rms_norm import reference as norm_reference  # noqa: E402
from workbench_kernels.rms_norm import triton_impl as norm  # noqa: E402
from workbench_kernels.rope_kv import reference as rope_reference  # noqa: E402
from workbench_kernels.rope_kv import triton_impl as rope  # noqa: E402
from workbench_kernels.sampling import reference as sampling_reference  # noqa: E402
from workbench_kernels.sampling import triton_impl as sampling  # noqa: E402

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
BLOCK = 4
TILE = 16
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])


def inputs_of(
    batch: Batch, heads: int, kv_heads: int, size: int, dtype: torch.dtype = torch.float32, block: int = BLOCK
) -> Inputs:
    inputs = make_inputs(batch, heads, kv_heads, size, block, dtype, query_tile=TILE, device=DEVICE)
    inputs.write_fresh()
    return inputs


def check_attention(inputs: Inputs, window: int = 0, cap: float = 0.0, programs: int = 8) -> None:
    q, k, v = inputs.parts
    scale = q.shape[2] ** -0.5
    ours = attention.paged_attention(q, k, v, inputs.kv_cache, inputs.meta, scale, window, cap, programs)
    wanted = attention_reference.paged_attention(q, inputs.kv_cache, inputs.meta, scale, window, cap)
    check_close("paged_attention", ours, wanted)


@DTYPES
@pytest.mark.parametrize("batch", odd_batches(BLOCK), ids=str)
def test_attention(batch: Batch, dtype: torch.dtype) -> None:
    check_attention(inputs_of(batch, 4, 2, 16, dtype))


@pytest.mark.parametrize(("heads", "kv_heads"), [(1, 1), (3, 1), (6, 2)], ids=["1/1", "3/1", "6/2"])
@pytest.mark.parametrize("size", [48, 80, 256])
def test_attention_of_head_groups_and_sizes(size: int, heads: int, kv_heads: int) -> None:
    check_attention(inputs_of(Batch("mixed", (1, 5), (18, 9)), heads, kv_heads, size))


@pytest.mark.parametrize("block", [1, 3, 16, 32])
def test_attention_of_block_sizes(block: int) -> None:
    check_attention(inputs_of(Batch("mixed", (1, 17), (35, 33)), 2, 1, 16, block=block))


@pytest.mark.parametrize("window", [1, 9, 1000])
@pytest.mark.parametrize("name", ["decode_around_block_end", "mixed"])
def test_attention_with_a_sliding_window(name: str, window: int) -> None:
    (batch,) = (batch for batch in odd_batches(BLOCK) if batch.name == name)
    check_attention(inputs_of(batch, 2, 1, 16), window=window)


def test_attention_with_a_soft_cap() -> None:
    check_attention(inputs_of(odd_batches(BLOCK)[6], 2, 1, 16), cap=1.5)


@pytest.mark.parametrize("programs", [1, 3, 64])
def test_a_context_in_any_number_of_parts(programs: int) -> None:
    inputs = inputs_of(Batch("decode", (1, 1), (150, 3)), 2, 1, 16)
    tables = inputs.meta.device.block_tables
    parts = attention.num_splits(2, 1, tables.shape[1] * BLOCK, 16, programs)
    assert parts == {1: 1, 3: 2, 64: 4}[programs] or DEVICE == "cuda"
    check_attention(inputs, programs=programs)


def test_a_token_that_only_fills_up_a_batch_gives_zeros_and_writes_nothing() -> None:
    inputs = inputs_of(Batch("decode", (1, 1), (9, 7)), 2, 1, 16)
    inputs.meta.device.positions[1] = -1
    inputs.meta.device.slot_mapping[1] = -1
    before = inputs.kv_cache.clone()
    before[:, :, :][before.isnan()] = 0.0
    cos_sin = torch.zeros(20, 16, device=DEVICE)
    cos_sin[:, :8] = 1.0  # no rotation
    rope.rope_and_write_kv(inputs.qkv, cos_sin, inputs.kv_cache, inputs.meta, 2)
    assert torch.equal(before, inputs.kv_cache.nan_to_num(0.0))
    q, k, v = inputs.parts
    for programs in (1, 64):
        out = attention.paged_attention(q, k, v, inputs.kv_cache, inputs.meta, 0.25, programs=programs)
        assert out[1].eq(0).all()
        assert out[0].ne(0).all()


class _Heavier:
    def __init__(self, merge: Any) -> None:
        self._merge = merge

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        def launch(parts: torch.Tensor, log_sums: torch.Tensor, *others: Any, **options: Any) -> None:
            log_sums[:, :, 0] += 1e-4
            self._merge[grid](parts, log_sums, *others, **options)

        return launch


@pytest.mark.parametrize("mistake", ["head_group", "last_token", "block_table", "scale", "merge"])
def test_the_check_finds_wrong_attention(mistake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = inputs_of(Batch("decode", (1, 3), (70, 13)), 4, 2, 16)
    q, k, v = inputs.parts
    scale = 0.25
    wanted = attention_reference.paged_attention(q, inputs.kv_cache, inputs.meta, scale)
    if mistake == "head_group":
        q = q[:, [0, 2, 1, 3]]
    elif mistake == "last_token":
        inputs.meta.device.positions[-3:] -= 1
    elif mistake == "block_table":
        inputs.meta.device.block_tables[:, [0, 3]] = inputs.meta.device.block_tables[:, [3, 0]]
    elif mistake == "scale":
        scale *= 1.0001
    else:  # one part of the context counts a little more than its share
        monkeypatch.setattr(attention, "_merge", _Heavier(attention._merge))
    ours = attention.paged_attention(q, k, v, inputs.kv_cache, inputs.meta, scale, programs=8)
    with pytest.raises(AssertionError, match="paged_attention"):
        check_close("paged_attention", ours, wanted)


@DTYPES
@pytest.mark.parametrize("shape", [(1, 1), (2, 63), (3, 64), (2, 65)], ids=str)
def test_norms(shape: tuple[int, int], dtype: torch.dtype) -> None:
    x, residual = (torch.randn(shape).to(DEVICE, dtype) for _ in range(2))
    gain = torch.randn(shape[1]).to(DEVICE)
    check_close("rms_norm", norm.rms_norm(x, gain, 1e-5), norm_reference.rms_norm(x, gain, 1e-5))
    sums = residual.clone()
    wanted = norm_reference.add_rms_norm(x, sums, gain, 1e-5)
    check_close("rms_norm", norm.add_rms_norm(x, residual, gain, 1e-5), wanted)
    assert torch.equal(residual, sums)


@DTYPES
@pytest.mark.parametrize("shape", [(1, 1), (2, 63), (2, 1025)], ids=str)
@pytest.mark.parametrize("name", ["silu_and_mul", "gelu_tanh_and_mul"])
def test_activations(name: str, shape: tuple[int, int], dtype: torch.dtype) -> None:
    x = (torch.randn(shape[0], 2 * shape[1]) * 5).to(DEVICE, dtype)
    x[0, 0] = 3.0
    check_close("activation", getattr(activation, name)(x), getattr(activation_reference, name)(x))


@DTYPES
@pytest.mark.parametrize("normed", [False, True], ids=["plain", "qk_norm"])
@pytest.mark.parametrize("rotary_dim", [24, 8], ids=["full", "partial"])
def test_rope(rotary_dim: int, normed: bool, dtype: torch.dtype) -> None:
    batch = Batch("chunks", (1, 4, 3), (1, 5, 9))
    ours, wanted = (make_inputs(batch, 2, 1, 24, BLOCK, dtype, query_tile=TILE, device=DEVICE) for _ in range(2))
    angles = torch.randn(60, rotary_dim // 2)
    cos_sin = torch.cat((angles.cos(), angles.sin()), -1).to(DEVICE)
    gains = (torch.randn(24, device=DEVICE), torch.randn(24, device=DEVICE)) if normed else (None, None)
    rope_reference.rope_and_write_kv(wanted.qkv, cos_sin, wanted.kv_cache, wanted.meta, 2, *gains, 1e-5)
    rope.rope_and_write_kv(ours.qkv, cos_sin, ours.kv_cache, ours.meta, 2, *gains, 1e-5)
    check_close("rope_kv", ours.qkv, wanted.qkv)
    written = wanted.kv_cache.isfinite()
    assert torch.equal(written, ours.kv_cache.isfinite())  # those slots and no others
    check_close("rope_kv", ours.kv_cache[written], wanted.kv_cache[written])


def test_the_check_finds_a_wrong_position() -> None:
    batch = Batch("decode", (1, 1), (3, 6))
    ours, wanted = (
        make_inputs(batch, 2, 1, 24, BLOCK, torch.float32, query_tile=TILE, device=DEVICE) for _ in range(2)
    )
    angles = torch.randn(60, 12)
    cos_sin = torch.cat((angles.cos(), angles.sin()), -1).to(DEVICE)
    rope_reference.rope_and_write_kv(wanted.qkv, cos_sin, wanted.kv_cache, wanted.meta, 2)
    ours.meta.device.positions[-1] += 1
    rope.rope_and_write_kv(ours.qkv, cos_sin, ours.kv_cache, ours.meta, 2)
    with pytest.raises(AssertionError, match="rope_kv"):
        check_close("rope_kv", ours.qkv, wanted.qkv)


FORMATS = pytest.mark.parametrize(
    ("format", "group"), [("int8", None), ("int8", 32), ("int4", 32), ("int4", 128), ("fp8", None)]
)


@DTYPES
@FORMATS
def test_quantized_products(format: str, group: int | None, dtype: torch.dtype) -> None:
    weight = quantize(torch.randn(19, 256).to(DEVICE, dtype), format, group)
    for rows in (1, 17):
        x = torch.randn(rows, 256).to(DEVICE, dtype)
        check_close("quant_matmul", matmul.quant_matmul(x, weight), matmul_reference.quant_matmul(x, weight))


@pytest.mark.parametrize(("format", "inputs"), [("int8", 40), ("fp8", 100), ("int4", 96)])
def test_quantized_products_of_odd_widths(format: str, inputs: int) -> None:
    weight = quantize(torch.randn(5, inputs).to(DEVICE), format, 32 if format == "int4" else None)
    x, bias = torch.randn(3, 2 * inputs).to(DEVICE)[:, :inputs], torch.randn(5).to(DEVICE)
    wanted = matmul_reference.quant_matmul(x, weight, bias)
    check_close("quant_matmul", matmul.quant_matmul(x, weight, bias), wanted)


@pytest.mark.parametrize("mistake", ["nibbles", "scales"])
def test_the_check_finds_a_wrong_product(mistake: str) -> None:
    weight = quantize(torch.randn(8, 64).to(DEVICE), "int4", 32)
    x = torch.randn(2, 64).to(DEVICE)
    data, scales = weight.data, weight.scales
    if mistake == "nibbles":
        data = (data >> 4) | (data << 4)
    else:
        scales = scales[:, [1, 0]]
    ours = matmul.quant_matmul(x, QuantizedWeight("int4", data, scales.contiguous(), 32))
    with pytest.raises(AssertionError, match="quant_matmul"):
        check_close("quant_matmul", ours, matmul_reference.quant_matmul(x, weight))


def settings_of_draws(count: int) -> list[tuple[np.ndarray, float, tuple[float, int, float, float]]]:
    """Rows of logits, uniform numbers and settings, none of them at the border between two tokens."""
    chance = random.Random(0)
    vocabs, top_ks, spreads = cycle([1, 2, 63, 64, 65, 150]), cycle([50, 0, -1, 2, 1, 5000, 2]), cycle([0.01, 1, 5, 50])
    found = []
    while len(found) < count:
        vocab, spread = next(vocabs), next(spreads)
        logits = (np.random.default_rng(len(found)).standard_normal(vocab) * spread).astype(np.float32)
        settings = (
            chance.choice([0.3, 1.0, 3.0]),
            next(top_ks),
            chance.choice([1.0, 0.999, 0.5, 1e-6]),
            chance.choice([0.0, 0.05, 1.0]),
        )
        uniform = chance.random()
        if not near_a_border(logits, uniform, settings):
            found.append((logits, uniform, settings))
    return found


def draw_one(logits: np.ndarray, uniform: float, settings: tuple[float, ...]) -> int:
    row = torch.from_numpy(logits)[None].to(DEVICE)
    (token,) = sampling.draw(row, [uniform], *([value] for value in settings))
    return token


def test_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "_BLOCK", 64)  # so that a short row takes several
    for logits, uniform, settings in settings_of_draws(12):
        token, wanted = draw_one(logits, uniform, settings), sampling_reference.draw(logits, uniform, *settings)
        # Two tokens whose probabilities are equal in float32 may change places.
        assert token == wanted or abs(logits[token] - logits[wanted]) < 1e-6 * settings[0]


def test_equal_logits_go_by_id() -> None:
    logits = np.zeros(300, np.float32)
    for number in (0.0, 0.3, 1 - 2**-53):
        assert draw_one(logits, number, (1.0, 10, 1.0, 0.0)) == int(number * 10)
        assert draw_one(logits, number, (1.0, 0, 0.1001, 0.0)) == int(number * 31)
        assert draw_one(logits, number, (1.0, 0, 1.0, 0.0)) == int(number * 300)


def test_rows_that_are_not_finite_come_to_an_end() -> None:
    inf = float("inf")
    for row in ([np.nan] * 5, [0.0, np.nan, 1.0, 2.0, 3.0], [inf] * 5, [-inf] * 5, [0.0, inf, 1.0, 2.0, 3.0]):
        for settings in ((1.0, 0, 1.0, 0.0), (1.0, 2, 0.5, 0.1)):
            assert 0 <= draw_one(np.array(row, np.float32), 0.5, settings) < 5


def test_the_check_finds_a_wrong_draw() -> None:
    logits = np.random.default_rng(0).standard_normal(100).astype(np.float32)
    numbers = [0.1, 0.8, 0.99]
    wanted = [sampling_reference.draw(logits, number, 1.0, 0, 0.9, 0.0) for number in numbers]
    assert [draw_one(logits, number, (1.0, 0, 0.9, 0.0)) for number in numbers] == wanted
    assert [draw_one(logits, number, (1.0, 0, 0.85, 0.0)) for number in numbers] != wanted


def test_metadata_without_tiles_is_refused() -> None:
    inputs = make_inputs(odd_batches(BLOCK)[3], 2, 1, 16, BLOCK, torch.float32)
    q, k, v = inputs.parts
    with pytest.raises(ValueError, match="query_tile"):
        attention.paged_attention(q, k, v, inputs.kv_cache, inputs.meta, 0.25)
