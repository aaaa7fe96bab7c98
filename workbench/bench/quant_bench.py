"""Decode with quantized weights against the same model in full precision, on a shape of 135M parameters."""

import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from workbench.bench.compare import compare
from workbench.bench.peers import Workbench
from workbench.bench.shapes import SHAPES, save_random
from workbench.bench.workloads import fixed
from workbench.llm import LLM

METHODS = ("int8", "int4", "nf4")
BATCHES = (1, 16)
OUTPUT_TOKENS = 16


def quant_rows(
    rounds: int,
    shape: dict[str, Any] | None = None,
    methods: Sequence[str] = METHODS,
    batches: Sequence[int] = BATCHES,
) -> list[dict[str, Any]]:
    """One row a method and batch size. bytes: weights of the full model by those of the quantized one.

    A decode step that did nothing but read its weights would be faster by that factor; with a batch it also has to
    multiply, which takes as long with any weights.
    """
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        save_random(Path(folder), SHAPES["135M"] if shape is None else shape)
        with LLM(folder, num_gpu_blocks_override=128) as full:
            for method in methods:
                with LLM(folder, quantization=method, num_gpu_blocks_override=128) as llm:
                    for batch in batches:
                        items = fixed(batch, 8, OUTPUT_TOKENS, full.model.vocab_size)
                        found = compare(method, f"batch {batch}", items, Workbench(llm), Workbench(full), rounds)
                        rows.append(
                            {
                                "weights": method,
                                "batch": str(batch),
                                "tokens/s": round(statistics.median(found.our_speeds), 1),
                                f"{full.model.dtype} tokens/s": round(statistics.median(found.their_speeds), 1),
                                "ratio": round(found.ratio, 2),
                                "lowest": round(min(found.ratios), 2),
                                "highest": round(max(found.ratios), 2),
                                "bytes": round(full.model.weight_bytes / llm.model.weight_bytes, 2),
                            }
                        )
    return rows
