"""Tutorial 9: its kernel fails the check as it stands, where the notebook says, and the mended one passes."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch

from workbench_kernels.check import check_attention

NOTEBOOK = Path(__file__).resolve().parents[2] / "notebooks" / "09_write_a_paged_attention_kernel.ipynb"
START = """
import torch
HAS_TRITON, torch_attention, llm, report = True, None, None, None
"""


@pytest.fixture(scope="module")
def kernels(tmp_path_factory):
    """What the cells define; from a file, as Triton reads its kernels' source."""
    if importlib.util.find_spec("triton") is None:
        pytest.skip("Triton is not installed; its wheels are for Linux")
    cells = {cell["id"]: cell for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]}
    solution = cells["kernel-10-solution"]
    assert solution["metadata"]["jupyter"]["source_hidden"] is True
    kept = "".join(solution["source"]).split("    solution = ")[0]  # what runs the notebook's engine is left out
    path = tmp_path_factory.mktemp("cells") / "cells_of_tutorial_9.py"
    parts = ["".join(cells[name]["source"]) for name in ("kernel-09", "kernel-09-exercise")]
    path.write_text("\n".join([START, *parts, kept]), encoding="utf-8")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_exercise_fails_from_the_second_block_on_and_the_solution_passes(kernels):
    if torch.cuda.is_available():
        pytest.skip("the check's tensors are on the CPU, where Triton's interpreter runs; here is a GPU")
    unsolved = {result.name: result for result in check_attention(kernels.attention)}
    assert not unsolved["one token, no prefix, blocks of 4"].problem  # has one block
    found = unsolved["chunks without a prefix, blocks of 3"]
    wrong = {p.position for p, row in zip(found.places, found.errors, strict=True) if max(row) > found.allowed}
    assert wrong == {3}
    assert "block 1 of its table, offset 0" in found.problem
    solved = check_attention(kernels.launched(kernels.solved))
    assert [result.problem for result in solved] == [""] * len(unsolved)
