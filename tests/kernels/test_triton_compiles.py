"""Triton's compiler takes every kernel, for a GPU that need not be there."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="Triton is not installed; its wheels are for Linux")

SHARED_MEMORY = 227 * 1024  # bytes that one program may have on an H100 or H200
KERNELS = {"_chunk", "_decode", "_merge", "_rope_and_write", "_add_rms_norm", "_gate_and_mul", "_matmul", "_draw"}


def test_every_kernel_compiles_and_fits(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path)
    script = Path(__file__).parent.parent / "support" / "compile_kernels.py"
    done = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    compiled = [json.loads(line) for line in done.stdout.splitlines()]
    assert {entry["kernel"] for entry in compiled} == KERNELS
    assert max(entry["shared"] for entry in compiled) <= SHARED_MEMORY
