"""axe-core's accessibility rules, contrast included, over a part of a page."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Page

AXE = Path(__file__).resolve().parents[2] / "extension" / "node_modules" / "axe-core" / "axe.min.js"


def accessibility(page: Page, *parts: str) -> tuple[list[str], int]:
    """What is broken within the elements of these selectors, and how many rules are kept."""
    if not page.evaluate("() => 'axe' in window"):
        page.evaluate(AXE.read_text())
    found = page.evaluate("parts => axe.run({include: parts}, {resultTypes: ['violations']})", list(parts))
    broken = [
        f"{rule['id']}: {rule['help']}: {node['target']} {node['failureSummary']}"
        for rule in found["violations"]
        for node in rule["nodes"]
    ]
    return broken, len(found["passes"])
