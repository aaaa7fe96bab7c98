"""Settings that all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import pytest

# No test asks a model hub for anything. Set before transformers is imported, and inherited by every process started.
os.environ["HF_HUB_OFFLINE"] = "1"

# Triton's kernels run through its interpreter where there is no GPU. Triton reads this when it is first imported.
if not Path("/dev/nvidia0").exists():
    os.environ["TRITON_INTERPRET"] = "1"

# A slow or busy machine is no failure: tests that mean a time limit say so themselves. In CI the examples are the
# same each time, so that a red run can be repeated; elsewhere they are new ones, so that bugs are found.
hypothesis.settings.register_profile("local", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "local")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The quick tests first: what they find makes the notebooks and the browser fail too, minutes later."""
    items.sort(key=lambda item: [name in item.path.parts for name in ("browser", "notebooks")])
