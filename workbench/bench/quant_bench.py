"""Decode with quantized weights against the same model in full precision, on a shape of 135M parameters."""

import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from workbench.bench.compare import Comparison, compare
from workbench.bench.peers import Workbench
from workbench.bench.quant_bound import Machine, StepFigures, step_figures
from workbench.bench.shapes import SHAPES, save_random
from workbench.bench.workloads import fixed
from workbench.llm import LLM

METHODS = ("int8", "int4", "nf4")
BATCHES = (1, 16)
OUTPUT_TOKENS = 16
BFLOAT16 = "bfloat16"


def quant_rows(
    rounds: int,
    shape: dict[str, Any] | None = None,
    methods: Sequence[str] = METHODS,
    batches: Sequence[int] = BATCHES,
) -> list[dict[str, Any]]:
    """One row for full precision and each method and batch size, with what bounds it; "why" says so in sentences.

    bytes: weights of the full model by those of the quantized one. A decode step that did nothing but read its weights
    would be faster by that factor. Where full precision is float32, bfloat16 is measured beside it, in one round, as a
    CPU without its instructions takes many times as long, and every ratio is told against both.
    """
    rows: list[dict[str, Any]] = []
    machines: dict[int, Machine] = {}
    to_bfloat16: dict[int, float] = {}  # batch -> speed of bfloat16 by that of full precision
    with tempfile.TemporaryDirectory() as folder:
        save_random(Path(folder), SHAPES["135M"] if shape is None else shape)
        with LLM(folder, num_gpu_blocks_override=128) as full:
            dtype = full.model.dtype
            if dtype == BFLOAT16:
                to_bfloat16 = dict.fromkeys(batches, 1.0)
            else:
                with LLM(folder, dtype=BFLOAT16, num_gpu_blocks_override=128) as half:
                    for batch in batches:
                        to_bfloat16[batch] = _speeds(BFLOAT16, half, full, batch, 1).ratio
            for batch in batches:
                found = step_figures(full, dtype, batch, machines)
                rows.append(_row(dtype, dtype, batch, None, 1.0, to_bfloat16[batch], found))
            for method in methods:
                with LLM(folder, quantization=method, num_gpu_blocks_override=128) as llm:
                    llm.client.limits = full.client.limits  # of the same machine
                    for batch in batches:
                        speeds = _speeds(method, llm, full, batch, rounds)
                        found = step_figures(llm, method, batch, machines)
                        saved = full.model.weight_bytes / llm.model.weight_bytes
                        rows.append(_row(dtype, method, batch, speeds, saved, to_bfloat16[batch], found))
    return rows


def _speeds(what: str, llm: LLM, full: LLM, batch: int, rounds: int) -> Comparison:
    items = fixed(batch, 8, OUTPUT_TOKENS, full.model.vocab_size)
    return compare(what, f"batch {batch}", items, Workbench(llm), Workbench(full), rounds)


def _row(
    full: str,
    method: str,
    batch: int,
    speeds: Comparison | None,
    saved: float,
    to_bfloat16: float,
    found: StepFigures,
) -> dict[str, Any]:
    """speeds: against full precision, None for itself. to_bfloat16: of bfloat16 against full precision."""
    ratio = 1.0 if speeds is None else speeds.ratio
    return {
        "weights": method,
        "batch": str(batch),
        "tokens/s": "" if speeds is None else round(statistics.median(speeds.our_speeds), 1),
        "lowest": "" if speeds is None else round(min(speeds.ratios), 2),
        f"x {full}": round(ratio, 2),
        "highest": "" if speeds is None else round(max(speeds.ratios), 2),
        f"x {BFLOAT16}": round(ratio / to_bfloat16, 2),
        "bytes": round(saved, 2),
        "products": f"{found.products / found.step:.0%}",
        "head": f"{found.head / found.step:.0%}",
        "GB/s of": f"{found.product_bytes / found.products / 1e9:.1f} / {found.machine.read_bandwidth / 1e9:.1f}",
        "GFLOP/s of": f"{found.product_flops / found.products / 1e9:.0f} / {found.machine.matmul_peak / 1e9:.0f}",
        "bound by": found.bound,
        "why": found.sentence(),
    }
