"""What `bench quant` says bounds a step is what its figures say, and the figures are measured."""

from typing import Any

import pytest
import torch

from workbench.bench.quant_bench import quant_rows
from workbench.bench.quant_bound import Machine, StepFigures
from workbench_kernels.quant_matmul import cpu
from workbench_kernels.quant_matmul.packing import dequantize, quantize

TINY: dict[str, Any] = {
    "vocab_size": 128,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "tie_word_embeddings": True,
}


def figures(**changes: Any) -> StepFigures:
    """A step of 10 ms of which 8 are products: 40 MB at 10 GB/s are 4 ms, and 3 ms out of the cache."""
    values: dict[str, Any] = {
        "weights": "int4",
        "batch": 16,
        "step": 0.010,
        "products": 0.008,
        "head": 0.001,
        "product_bytes": 40e6,
        "product_flops": 4e8,
        "cached": 0.003,
        "widening": 0.001,
        "machine": Machine(10e9, 80e9),
    }
    return StepFigures(**{**values, **changes})


@pytest.mark.parametrize(
    ("changes", "bound", "told"),
    [
        ({}, "memory", "fewer bits make them faster"),
        ({"cached": 0.006}, "arithmetic", "not by reading"),
        ({"cached": 0.006, "widening": 0.004}, "widening", "by widening the packed weights"),
        ({"product_bytes": 2e7}, "neither", "threads that wait"),
        ({"products": 0.004, "head": 0.005}, "unquantized parts", "what is not quantized"),
        ({"cached": None, "widening": None}, "arithmetic", "not by reading"),  # 4e8 operations take 5 ms at the peak
        ({"cached": None, "widening": None, "product_flops": 1e8}, "memory", "bound by memory"),
    ],
)
def test_the_bound_follows_from_the_figures(changes: dict[str, Any], bound: str, told: str) -> None:
    found = figures(**changes)
    assert found.bound == bound
    assert told in found.sentence()


def test_the_sentence_has_the_figures() -> None:
    said = figures().sentence()
    for part in (
        "of 10.0 ms a step the layers' products take 80%, the output head, in full precision, 10%, all else 10%.",
        "The products read 38 MiB at 5.0 of 10.0 GB/s and compute at 50 of 80 GFLOP/s.",
        "In 8.0 ms they do what takes 4.0 ms to read and, with the weights in the cache, 3.0 ms to compute",
        "widening the packed weights once takes 1.0 ms.",
    ):
        assert part in said


def test_every_row_is_measured_and_says_why() -> None:
    rows = quant_rows(1, TINY, methods=("int4",), batches=(1, 3))
    assert [(row["weights"], row["batch"]) for row in rows] == [
        (weights, batch) for weights in ("float32", "int4") for batch in ("1", "3")
    ]
    for row in rows:
        assert row["why"].startswith(f"{row['weights']}, batch {row['batch']}: of ")
        assert row["bound by"] in ("memory", "arithmetic", "widening", "neither", "unquantized parts")
        if row["weights"] == "float32":
            assert (row["x float32"], row["bytes"]) == (1, 1)
        else:
            assert row["lowest"] <= row["x float32"] <= row["highest"]
            assert row["tokens/s"] > 0
            assert 1 < row["bytes"] < 8
        assert row["x bfloat16"] > 0
        assert float(row["GB/s of"].split(" / ")[1]) > 0
    assert all("widening the packed weights once" in row["why"] for row in rows if row["weights"] == "int4")


@pytest.mark.parametrize("name", ["int8", "int4", "nf4"])
def test_widening_writes_the_matrix_out(name: str) -> None:
    weight = quantize(torch.randn(5, 192), name, 64)
    out = torch.empty(5, 192)
    cpu.widen(weight, out)
    assert torch.equal(out, dequantize(weight))
