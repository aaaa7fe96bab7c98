"""The dashboard in a real JupyterLab: it streams, it obeys, and what it shows is the engine's own state."""

from __future__ import annotations

import time
from typing import Any

import pytest
from dashboard import Dashboard, plain
from lab_page import LabPage
from playwright.sync_api import expect

SETUP = """
import time
from workbench import LLM, SamplingParams
llm = LLM(num_gpu_blocks_override=48, max_num_seqs=6, max_num_batched_tokens=64)
WHO = ("fox", "hen", "boat", "girl", "king", "bee", "tree", "dog")
PROMPTS = ["Once upon a time there was a " + who for who in WHO]
llm.dashboard()
"""

# Slow enough to be watched, and the cell ends only with the last token.
GENERATE = """
print("generating")
llm.set_speed(20)
outputs = llm.generate(PROMPTS[:4], SamplingParams(max_tokens=60, ignore_eos=True), use_tqdm=False)
print([len(output.outputs[0].token_ids) for output in outputs])
"""

# More than the engine takes at once, so that requests wait; blocks the kernel until a view pauses the engine.
WAIT_FOR_PAUSE = """
llm.set_speed(20)
handles = [llm.submit(prompt, SamplingParams(max_tokens=150, ignore_eos=True)) for prompt in PROMPTS]
print("waiting")
while llm.status().state != "paused":
    time.sleep(0.02)
print("paused")
"""


@pytest.fixture
def dashboard(lab: LabPage) -> Dashboard:
    """An idle engine's dashboard, in a notebook with the cells above."""
    lab.open_cells(SETUP, GENERATE, WAIT_FOR_PAUSE)
    lab.run_cell(0)
    dashboard = Dashboard(lab)
    dashboard.wait_mode("idle")
    return dashboard


@pytest.fixture
def paused(lab: LabPage, dashboard: Dashboard) -> Dashboard:
    """A dashboard on which pause was pressed while a cell was running, six requests were served and two waited."""
    lab.start_cell(2)
    lab.wait_text(2, "waiting")
    dashboard.wait_step(20)
    assert lab.is_running(2)
    dashboard.press("pause")
    dashboard.wait_mode("paused")
    assert lab.wait_cell(2) == "waiting\npaused\n"
    return dashboard


def test_tokens_stream_while_a_cell_is_running(lab: LabPage, dashboard: Dashboard) -> None:
    lab.start_cell(1)
    lab.wait_text(1, "generating")
    # Running a cell scrolls to it.
    dashboard.scroll_to("playground")
    dashboard.wait_completions(4)
    early = dashboard.completions()
    time.sleep(0.5)
    late = dashboard.completions()
    assert lab.is_running(1)
    assert dashboard.mode == "running"
    grown = [a for a, b in zip(early, late, strict=True) if b.startswith(a) and len(b) > len(a)]
    assert len(grown) == 4
    assert lab.wait_cell(1) == "generating\n[60, 60, 60, 60]\n"
    dashboard.wait_mode("idle")
    assert not lab.console_errors


def test_pause_and_step_and_the_page_agrees_with_the_engine(lab: LabPage, paused: Dashboard) -> None:
    # Paused means that nothing moves, and a step is one step.
    at = paused.step
    time.sleep(0.5)
    assert paused.step == at
    paused.press("step")
    expect(paused.part("position")).to_have_text(f"step {at + 1}")
    assert paused.mode == "paused"

    engine = lab.ask(plain("llm.snapshot()"))
    assert engine["step"] == at + 1
    assert len(engine["running"]) == 6
    assert len(engine["waiting"]) == 2
    assert paused.state() == engine
    assert_the_block_map_shows(paused, engine)

    # The past too: every step that the engine remembers, from the page's own replay.
    past = lab.ask(f"[{plain('llm.trace.at(record.step)')} for record in llm.trace]")
    assert len(past) == at + 2
    for state in past:
        assert paused.state(state["step"]) == state
    paused.press("step-back")
    expect(paused.part("position")).to_have_text(f"step {at}")
    assert_the_block_map_shows(paused, past[at])

    paused.press("resume")
    paused.wait_mode("running")
    assert not lab.console_errors


def assert_the_block_map_shows(dashboard: Dashboard, engine: dict[str, Any]) -> None:
    """What the map's card says of the blocks is what the engine's block tables say."""
    seen = dashboard.blocks_pointed_at(columns=12, rows=6)
    assert len(seen) >= 12, "the pointer met too few blocks"
    for block, text in seen.items():
        owners = [name for name, table in engine["block_tables"].items() if block in table]
        assert f"references {len(owners)}" in text, (block, text)
        for owner in owners[:6]:
            assert owner in text, (block, text)


def test_a_request_picked_in_the_table_lights_up_everywhere(paused: Dashboard) -> None:
    request = paused.state()["running"][1]
    paused.scroll_to("requests")
    row = paused.part(f"request-{request}")
    row.click()
    expect(row).to_have_attribute("aria-selected", "true")
    assert paused.selected_request == request
    paused.scroll_to("playground")
    expect(paused.root.locator(".iw-panel-playground .iw-selected")).to_contain_text(request)


def test_the_canvases_have_the_theme_s_colours_from_the_start(lab: LabPage, paused: Dashboard) -> None:
    def drawn(view: str) -> list[str]:
        paused.scroll_to(view)
        lab.page.mouse.move(0, 0)
        lab.page.wait_for_timeout(500)
        canvases = paused.root.locator(f".iw-panel-{view} canvas")
        return [str(url) for url in canvases.evaluate_all("all => all.map(canvas => canvas.toDataURL())")]

    for view in ("blocks", "timeline"):
        first = drawn(view)
        lab.set_theme("dark")
        dark = drawn(view)
        lab.set_theme("light")
        assert first != dark
        assert drawn(view) == first, f"{view}: the first drawing differs from a later one in the same theme"
