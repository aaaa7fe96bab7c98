"""The measurement of the page itself: it runs, and its figures belong together; how large, is not asked."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser

from workbench.bench import ui
from workbench.bench.workloads import workload


def test_every_figure_is_measured_on_a_page_that_draws(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ui, "BLOCKS", 2000)
    monkeypatch.setattr(ui, "FRAME_SECONDS", 0.5)
    monkeypatch.setattr(ui, "workload", lambda name, vocab_size: workload(name, vocab_size)[:2])
    rows = {row["what"]: row for row in [*ui._frames(browser), *ui._cost(browser, rounds=1)]}
    assert rows["frames"]["value"] > 0
    assert rows["frames"]["note"].startswith("2,000 blocks")
    assert 0 < rows["event to pixel, p50"]["value"] <= rows["event to pixel, p95"]["value"]
    assert int(rows["event to pixel, p50"]["note"].split()[0]) > 0, "updates were seen on the page"
    for name in ("throughput, open / closed", "stream open, nobody draws / closed"):
        assert rows[name]["value"] > 0
        assert rows[name]["note"].startswith("1 rounds")
    assert rows["browser's processor time"]["value"] > 0


def test_a_soak_counts_the_steps_that_the_page_had(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ui, "SAMPLES", 3)
    rows = {row["what"]: row for row in ui._soak(browser, seconds=1.5)}
    lost = rows["steps that did not reach the page"]
    assert lost["value"] == 0
    assert int(lost["note"].split()[1].rstrip(";").replace(",", "")) > 0
    assert "MiB of 100,000 steps" in rows["kernel's memory, last third / middle"]["note"]
