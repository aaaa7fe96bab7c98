"""Sizes and times as text; extension/tests/words.test.ts holds the page to the same tables."""

import json
from pathlib import Path

import pytest

from workbench.core.units import size_text, time_text

TABLES = Path(__file__).parents[1] / "support"
SIZES, TIMES = (json.loads((TABLES / f"{name}.json").read_text("utf-8")) for name in ("sizes", "times"))


@pytest.mark.parametrize(("size", "text"), SIZES)
def test_sizes_as_text(size, text):
    assert size_text(size) == text


@pytest.mark.parametrize(("seconds", "text"), TIMES)
def test_times_as_text(seconds, text):
    assert time_text(seconds) == text
