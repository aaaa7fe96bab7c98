"""The dashboard in a real JupyterLab: it streams, it obeys, and what it shows is the engine's own state."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import pytest
from lab_page import LabPage
from playwright.sync_api import expect

SETUP = """
import json, time
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

# More than the pool holds, so that requests wait and are preempted; blocks the kernel until a view pauses the engine.
WAIT_FOR_PAUSE = """
llm.set_speed(20)
handles = [llm.submit(prompt, SamplingParams(max_tokens=150, ignore_eos=True)) for prompt in PROMPTS]
print("waiting")
while llm.status().state != "paused":
    time.sleep(0.02)
print("paused")
"""

SNAPSHOT = """
def plain(state):
    names = "step block_tables ref_counts block_hashes free_blocks waiting running".split()
    return {name: getattr(state, name) for name in names}
print(json.dumps(plain(llm.snapshot())))
"""

PAST = """
print(json.dumps([plain(llm.trace.at(step)) for step in range(llm.trace.first_step, llm.trace.last_step + 1)]))
"""

# The page's side of one engine: the widgets of a page meet under this name.
SESSION = "[...globalThis[Symbol.for('inference-workbench')].sessions.values()].at(-1)"


class Dashboard:
    """The dashboard on a page, through what a reader sees and presses."""

    def __init__(self, lab: LabPage) -> None:
        self.page = lab.page
        self.root = lab.page.get_by_test_id("workbench-dashboard")
        expect(self.root.get_by_test_id("state")).to_have_text("idle", timeout=20_000)

    def press(self, name: str) -> None:
        self.root.get_by_test_id(name).click()

    def scroll_to(self, view: str) -> None:
        """Bring one view into sight."""
        self.root.locator(f".iw-panel-{view}").scroll_into_view_if_needed()

    @property
    def mode(self) -> str:
        return self.root.get_by_test_id("state").inner_text()

    def step(self) -> int:
        """The step that the time cursor shows."""
        found = re.search(r"step ([\d\s,.]+)", self.root.get_by_test_id("position").inner_text())
        return int(re.sub(r"\D", "", found[1])) if found else -1

    def state(self, cursor: int | str = "live") -> dict[str, Any]:
        """The state behind the views after a step, by the names of the engine's snapshot."""
        return dict(self.page.evaluate(f"cursor => {SESSION}.stateAt(cursor)", cursor))

    def completions(self) -> list[str]:
        """The texts of the playground's columns."""
        return self.root.locator(".iw-panel-playground .iw-tokens").all_inner_texts()

    def wait_mode(self, mode: str, timeout: float = 20) -> None:
        expect(self.root.get_by_test_id("state")).to_have_text(mode, timeout=timeout * 1000)


@pytest.fixture
def dashboard(lab: LabPage) -> Dashboard:
    lab.open_cells(SETUP, GENERATE, WAIT_FOR_PAUSE, SNAPSHOT, PAST)
    lab.run_cell(0, timeout=120)
    return Dashboard(lab)


def test_tokens_stream_while_a_cell_is_running(lab: LabPage, dashboard: Dashboard) -> None:
    lab.start_cell(1)
    lab.wait_text(1, "generating")
    # Running a cell scrolls to it, and a view out of sight is not drawn.
    dashboard.scroll_to("playground")
    lab.page.wait_for_function(
        "() => [...document.querySelectorAll('.iw-panel-playground .iw-tokens')].filter(e => e.textContent).length >= 4"
    )
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


def test_pause_and_step_and_the_page_agrees_with_the_engine(lab: LabPage, dashboard: Dashboard) -> None:
    lab.start_cell(2)
    lab.wait_text(2, "waiting")
    lab.page.wait_for_function(f"() => ({SESSION}.stateAt('live')?.step ?? -1) >= 20")
    assert lab.is_running(2)
    dashboard.press("pause")
    dashboard.wait_mode("paused")
    assert lab.wait_cell(2) == "waiting\npaused\n"

    # Paused means that nothing moves, and a step is one step.
    at = dashboard.step()
    time.sleep(0.5)
    assert dashboard.step() == at
    dashboard.press("step")
    expect(dashboard.root.get_by_test_id("position")).to_have_text(f"step {at + 1}")
    assert dashboard.mode == "paused"

    engine = json.loads(lab.run_cell(3))
    assert engine["step"] == at + 1
    assert engine["running"]
    assert engine["waiting"]
    assert dashboard.state() == engine
    assert_the_block_map_shows(dashboard, engine)

    # The past too: every step that the engine remembers, from the page's own replay.
    past = json.loads(lab.run_cell(4))
    assert len(past) > 20
    for state in past:
        assert dashboard.state(state["step"]) == state
    dashboard.press("step-back")
    expect(dashboard.root.get_by_test_id("position")).to_have_text(f"step {at}")
    assert_the_block_map_shows(dashboard, past[-2])
    assert not lab.console_errors


def assert_the_block_map_shows(dashboard: Dashboard, engine: dict[str, Any]) -> None:
    """Point at the map, block after block, and compare what its card says with the engine's block tables."""
    page, seen = dashboard.page, {}
    canvas = dashboard.root.get_by_test_id("block-map").locator("canvas").first
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box is not None
    card = dashboard.root.locator(".iw-panel-blocks").get_by_test_id("hover-card")
    for row in range(6):
        for column in range(12):
            page.mouse.move(box["x"] + box["width"] * (column + 0.5) / 12, box["y"] + box["height"] * (row + 0.5) / 6)
            if card.is_visible():
                title, *lines = card.inner_text().splitlines()
                seen[int(title.removeprefix("Block "))] = lines
    page.mouse.move(0, 0)
    assert len(seen) >= 12, "the pointer met too few blocks"
    for block, lines in seen.items():
        owners = [name for name, table in engine["block_tables"].items() if block in table]
        text = " ".join(lines)
        assert f"references {len(owners)}" in text.replace("\t", " "), (block, lines)
        for owner in owners[:6]:
            assert owner in text, (block, lines)


def test_a_request_picked_in_the_table_lights_up_everywhere(lab: LabPage, dashboard: Dashboard) -> None:
    lab.start_cell(2)
    lab.wait_text(2, "waiting")
    lab.page.wait_for_function(f"() => ({SESSION}.stateAt('live')?.step ?? -1) >= 10")
    dashboard.press("pause")
    lab.wait_cell(2)
    dashboard.wait_mode("paused")
    request = dashboard.state()["running"][1]
    dashboard.scroll_to("requests")
    row = dashboard.root.get_by_test_id(f"request-{request}")
    row.click()
    expect(row).to_have_attribute("aria-selected", "true")
    assert dashboard.page.evaluate(f"() => {SESSION}.selection.request") == request
    dashboard.scroll_to("playground")
    expect(dashboard.root.locator(".iw-panel-playground .iw-selected")).to_contain_text(request)


def test_the_canvases_have_the_theme_s_colours_from_the_start(lab: LabPage, dashboard: Dashboard) -> None:
    lab.start_cell(2)
    lab.wait_text(2, "waiting")
    lab.page.wait_for_function(f"() => ({SESSION}.stateAt('live')?.step ?? -1) >= 10")
    dashboard.press("pause")
    lab.wait_cell(2)
    dashboard.wait_mode("paused")

    def drawn(view: str) -> list[str]:
        dashboard.scroll_to(view)
        lab.page.mouse.move(0, 0)
        lab.page.wait_for_timeout(500)
        canvases = dashboard.root.locator(f".iw-panel-{view} canvas")
        return [str(url) for url in canvases.evaluate_all("all => all.map(canvas => canvas.toDataURL())")]

    for view in ("blocks", "timeline"):
        first = drawn(view)
        lab.set_theme("dark")
        dark = drawn(view)
        lab.set_theme("light")
        assert first != dark
        assert drawn(view) == first, f"{view}: the first drawing differs from a later one in the same theme"
