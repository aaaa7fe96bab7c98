"""Compiles every Triton kernel for an H100 or H200, on any machine: the compiler refuses what the interpreter takes.

Prints a line of JSON per kernel: its name and bytes of shared memory. Run without TRITON_INTERPRET.
"""

import json
import warnings
from typing import Any

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from workbench_kernels.activation import triton_impl as activation
from workbench_kernels.paged_attention import triton_impl as attention
from workbench_kernels.quant_matmul import triton_impl as matmul
from workbench_kernels.rms_norm import triton_impl as norm
from workbench_kernels.rope_kv import triton_impl as rope
from workbench_kernels.sampling import triton_impl as sampling

TARGET = GPUTarget("cuda", 90, 32)
BF16, F32, I32, I64 = "*bf16", "*fp32", "*i32", "*i64"


def compile_kernel(kernel: Any, types: dict[str, str], constants: dict[str, Any], **options: int) -> None:
    """types: of the arguments that are passed; constants: of all others. Sizes and pointers are multiples of 16."""
    names = kernel.arg_names
    signature = {name: types.get(name, "constexpr") for name in names}
    aligned = {
        (place,): [["tt.divisibility", 16]]
        for place, name in enumerate(names)
        if types.get(name, "").startswith("*") or name in ("slot_size", "values", "q_stride", "num_inputs", "x_stride")
    }
    rest = {name: constants[name] for name in names if name not in types}
    source = ASTSource(fn=kernel, signature=signature, constexprs=rest, attrs=aligned)
    compiled = triton.compile(source, target=TARGET, options=options)
    print(json.dumps({"kernel": kernel.fn.__name__, "shared": compiled.metadata.shared}))


def compile_attention(dtype: str, heads: int, kv_heads: int, size: int, window: bool, soft_cap: bool) -> None:
    """Chunks, decode whole and in parts, and the merge."""
    padded, half = max(16, triton.next_power_of_2(size)), dtype == BF16
    shape = {
        "num_heads": heads,
        "kv_heads": kv_heads,
        "head_size": size,
        "block_size": 16,
        "KV_TILE": attention._kv_tile(padded, 2 if half else 4),
        "HEAD": padded,
        "DOT": tl.bfloat16 if half else tl.float32,
        "WINDOW": window,
        "SOFT_CAP": soft_cap,
    }
    pointers = dict.fromkeys(("block_tables", "token_rows"), I32) | {"positions": I64}
    pointers |= dict.fromkeys(("q", "kv_cache", "out"), dtype)
    numbers = dict.fromkeys(("sliding_window", "q_stride", "table_stride", "slot_size"), "i32")
    numbers |= {"score_scale": "fp32", "soft_cap": "fp32", "values": "i64"}
    queries = {"QUERIES": attention.QUERY_TILE, "HEADS": min(2, triton.next_power_of_2(heads // kv_heads))}
    stages = 3 if half else 2
    compile_kernel(
        attention._chunk, pointers | numbers | {"tiles": I32}, shape | queries, num_warps=8, num_stages=stages
    )
    parts = {"out": F32, "log_sums": F32}
    rows = {"ROWS": max(16, triton.next_power_of_2(heads // kv_heads)), "single_tokens": None}
    compile_kernel(
        attention._decode, pointers | numbers | {"log_sums": dtype}, shape | rows | {"SPLITS": 1}, num_stages=3
    )
    compile_kernel(
        attention._decode,
        pointers | numbers | parts | {"single_tokens": I32},
        shape | rows | {"SPLITS": 4},
        num_stages=3,
    )
    merge = {"parts": F32, "log_sums": F32, "single_tokens": I32, "out": dtype}
    compile_kernel(attention._merge, merge, shape | {"SPLITS": 3, "PARTS": 4}, num_warps=1)


def main() -> None:
    """Compile them all."""
    compile_attention(BF16, 32, 8, 128, window=False, soft_cap=False)
    compile_attention(BF16, 9, 3, 256, window=True, soft_cap=True)
    fixed = {"qkv": BF16, "cos_sin": F32, "positions": I64, "slot_mapping": I64, "kv_cache": BF16}
    fixed |= {"eps": "fp32", "values": "i64"}
    heads = {"num_heads": 4, "kv_heads": 2, "head_size": 128, "half": 64, "PAIRS": 64, "REST": 1}
    for gains in ({}, {"q_norm": F32, "k_norm": F32}):
        compile_kernel(rope._rope_and_write, fixed | gains, heads | {"q_norm": None, "k_norm": None}, num_warps=1)
    rows = {"x": BF16, "residual": BF16, "gain": F32, "out": BF16, "eps": "fp32", "width": "i32"}
    for add in (False, True):
        compile_kernel(norm._add_rms_norm, rows, {"ADD": add, "BLOCK": 4096}, num_warps=8)
    for gelu in (False, True):
        halves = {"x": BF16, "out": BF16, "width": "i32"}
        compile_kernel(activation._gate_and_mul, halves, {"GELU": gelu, "BLOCK": 1024})
    for data in ("*u8", "*i8", "*fp8e4nv"):
        product = {"x": BF16, "data": data, "scales": BF16, "bias": BF16, "out": BF16}
        product |= dict.fromkeys(("num_rows", "num_outputs", "num_inputs", "group_size", "x_stride"), "i32")
        tile = {"INT4": data == "*u8", "ROWS": 16, "OUTPUTS": 32, "INPUTS": 128, "DOT": tl.bfloat16}
        compile_kernel(matmul._matmul, product, tile, num_stages=4)
    draws = dict.fromkeys(("logits", "probs", "uniforms", "temperatures", "top_ps", "min_ps"), F32)
    compile_kernel(sampling._draw, draws | {"top_ks": I32, "tokens": I32, "vocab": "i32"}, {"BLOCK": 4096}, num_warps=8)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
