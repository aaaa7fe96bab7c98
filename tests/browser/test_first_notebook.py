"""The first tutorial as a reader meets it: in JupyterLab, from top to bottom, with the dashboard alive above it."""

from __future__ import annotations

from pathlib import Path

from dashboard import Dashboard, plain
from lab_page import LabPage

NOTEBOOK = Path(__file__).resolve().parents[2] / "notebooks" / "01_first_tokens.ipynb"


def test_the_first_tutorial_in_jupyterlab(lab: LabPage) -> None:
    lab.open_notebook(NOTEBOOK)
    shown = lab.cell_containing("llm.dashboard()")
    four = lab.cell_containing("llm.set_speed(15)")
    last = lab.cell_containing("llm.shutdown()")
    for index in range(shown + 1):
        if lab.is_code(index):
            lab.run_cell(index)
    dashboard = Dashboard(lab)
    dashboard.wait_mode("idle")

    # Four prompts at once: the cell waits for them, and the dashboard shows them meanwhile and obeys.
    before = dashboard.step
    lab.start_cell(four)
    dashboard.scroll_to("playground")
    dashboard.wait_step(before + 5)
    dashboard.wait_completions(4)
    dashboard.press("pause")
    dashboard.wait_mode("paused")
    at = dashboard.step
    dashboard.press("step")
    dashboard.wait_step(at + 1)
    assert dashboard.step == at + 1
    assert lab.is_running(four)
    dashboard.press("resume")
    lab.wait_cell(four)

    for index in range(four + 1, last):
        if lab.is_code(index):
            lab.run_cell(index)
    engine = lab.ask(plain("llm.snapshot()"))
    page = lab.page.evaluate(
        "id => globalThis[Symbol.for('inference-workbench')].sessions.get(id).stateAt('live')",
        lab.ask("llm.engine_id"),
    )
    assert page == engine

    # The last cell shuts the engines down; the views keep what they have shown and say so.
    lab.run_cell(last)
    dashboard.scroll_to("controls")
    dashboard.wait_mode("shut down")
    assert dashboard.step == engine["step"]
    assert not lab.console_errors
