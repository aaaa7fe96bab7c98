"""Sizes as text; extension/tests/words.test.ts holds the page to the same table."""

import json
from pathlib import Path

import pytest

from workbench.core.units import size_text

SIZES = json.loads((Path(__file__).parents[1] / "support" / "sizes.json").read_text())


@pytest.mark.parametrize(("size", "text"), SIZES)
def test_sizes_as_text(size, text):
    assert size_text(size) == text
