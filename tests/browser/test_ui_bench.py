"""The measurement of the page itself: it runs, and its figures belong together; how large, is not asked."""

from __future__ import annotations

import threading

import pytest
from playwright.sync_api import Browser

from workbench import LLM, SamplingParams
from workbench.bench import ui


def test_every_figure_is_measured_on_a_page_that_draws(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ui, "BLOCKS", 2000)
    monkeypatch.setattr(ui, "FRAME_SECONDS", 0.5)
    monkeypatch.setattr(ui, "WINDOW_SECONDS", 0.2)
    monkeypatch.setattr(ui, "WINDOWS", 1)
    rows = {row["what"]: row for row in [*ui._frames(browser), *ui._cost(browser, rounds=1)]}
    assert rows["frames"]["value"] > 0
    assert rows["frames"]["note"].startswith("2,000 blocks")
    assert 0 < rows["event to pixel, p50"]["value"] <= rows["event to pixel, p95"]["value"]
    assert int(rows["event to pixel, p50"]["note"].split()[0]) > 0, "updates were seen on the page"
    for compared in (
        "everything open / held back",
        "stream alone / held back",
        "nothing open / nothing open",
    ):
        for what in ("speed", "time that the engine's thread gets"):
            row = rows[f"{what}, {compared}"]
            assert row["value"] > 0
            assert row["note"].startswith("1 times")
    assert rows["browser's processor time, everything open"]["value"] > 0


def test_a_page_that_is_held_back_is_sent_nothing(browser: Browser) -> None:
    flowing = threading.Event()
    flowing.set()
    with LLM(max_num_seqs=2) as llm, ui._dashboard(browser, llm, flowing) as page:
        flowing.clear()
        llm.generate("Once upon a time", SamplingParams(max_tokens=8, ignore_eos=True), use_tqdm=False)
        page.wait_for_timeout(500)
        held = page.evaluate("bench.last")
        flowing.set()
        page.wait_for_function("step => bench.last === step", arg=llm.trace.last_step)
        assert held is None or held < llm.trace.last_step - 1


def test_a_soak_counts_the_steps_that_the_page_had(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ui, "SAMPLES", 3)
    rows = {row["what"]: row for row in ui._soak(browser, seconds=1.5)}
    lost = rows["steps that did not reach the page"]
    assert lost["value"] == 0
    assert int(lost["note"].split()[1].rstrip(";").replace(",", "")) > 0
    assert "MiB of 100,000 steps" in rows["kernel's memory, last third / middle"]["note"]
