"""The measurement itself: it runs, and its figures belong together."""

from workbench.bench.quant_bench import quant_rows
from workbench.bench.shapes import SHAPES


def test_rows() -> None:
    shape = {**SHAPES["135M"], "vocab_size": 300, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1}
    shape |= {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128}
    rows = quant_rows(1, shape, methods=["int8"], batches=[1, 2])
    assert [(row["weights"], row["batch"]) for row in rows] == [("int8", "1"), ("int8", "2")]
    for row in rows:
        assert row["lowest"] <= row["ratio"] <= row["highest"]
        assert row["tokens/s"] > 0
        assert 1 < row["bytes"] < 4
