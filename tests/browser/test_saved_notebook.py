"""A notebook that was run, saved and exported shows its views' pictures in a browser with no kernel and no network."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from lab_page import LabPage
from nbclient import NotebookClient
from nbconvert import HTMLExporter
from playwright.sync_api import Browser, expect

SETUP = """
from workbench import LLM, SamplingParams
llm = LLM(num_gpu_blocks_override=24, max_num_seqs=4)
llm.dashboard()
"""
WORK = """
outputs = llm.generate(["Once upon a time", "One day, Tom", "The bear"], SamplingParams(max_tokens=24), use_tqdm=False)
"""
REPLAY = 'llm.view("blocks", embed_trace=True)'
COMPARISON = "from workbench import compare, simulate\ncompare(llm.trace, simulate(llm.trace, max_num_seqs=1))"
# The numbers, from the engine itself.
TRUTH = """
import json
state = llm.snapshot()
cached = sum(1 for block in state.free_blocks if state.block_hashes[block])
print(json.dumps({"step": state.step, "free": len(state.free_blocks), "cached": cached, "blocks": state.num_blocks,
                  "tokens": sum(len(output.outputs[0].token_ids) for output in outputs)}))
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> nbformat.NotebookNode:
    """The notebook after it was run by nbclient, which is a front end without views."""
    cells = [nbformat.v4.new_code_cell(source) for source in (SETUP, WORK, REPLAY, TRUTH, COMPARISON)]
    notebook = nbformat.v4.new_notebook(cells=cells)
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    nbformat.write(notebook, tmp_path_factory.mktemp("saved") / "saved.ipynb")
    return notebook


@pytest.fixture
def exported(saved: nbformat.NotebookNode, tmp_path: Path, browser: Browser) -> Iterator[LabPage]:
    html, _ = HTMLExporter().from_notebook_node(saved)
    path = tmp_path / "saved.html"
    path.write_text(html, encoding="utf-8")
    page = browser.new_page(viewport={"width": 1100, "height": 1400}, offline=True)
    page.goto(path.as_uri(), wait_until="domcontentloaded")
    yield page
    page.close()


def test_the_picture_is_there_and_its_numbers_are_the_engines(exported, saved, screenshots: Path) -> None:
    truth = json.loads(saved.cells[3].outputs[0].text)
    still = exported.locator(".iw-still").first
    expect(still).to_contain_text(f"dashboard: state after step {truth['step']}")
    used, empty = truth["blocks"] - truth["free"], truth["free"] - truth["cached"]
    expect(still).to_contain_text(f"{used} used, {truth['cached']} cached, {empty} free of {truth['blocks']}")
    expect(still).to_contain_text("0 running, 0 waiting, 3 ended")
    expect(still.locator("tr", has_text="tokens sampled").locator("td")).to_have_text(str(truth["tokens"]))
    assert still.locator("img").evaluate("image => image.decode().then(() => image.naturalWidth)") > 500
    screenshots.mkdir(exist_ok=True, parents=True)
    still.screenshot(path=screenshots / "saved-notebook.png")


def test_an_embedded_trace_replays(exported, saved) -> None:
    truth = json.loads(saved.cells[3].outputs[0].text)
    frame = exported.locator(".iw-still iframe")
    frame.scroll_into_view_if_needed()
    replay = frame.content_frame
    expect(replay.get_by_test_id("block-map")).to_be_visible()
    canvas = replay.get_by_test_id("block-map").locator("canvas")
    used = truth["blocks"] - truth["free"]
    expect(canvas).to_have_attribute(
        "aria-label",
        f"Map of the KV cache blocks: {used} of {truth['blocks']} blocks in use, {truth['cached']} cached",
    )


def test_a_comparison_is_not_blank(exported, screenshots: Path) -> None:
    comparison = exported.locator(".iw-still").last
    expect(comparison).to_contain_text("max_num_seqs: 4 → 1")
    expect(comparison.locator("table")).to_be_visible()
    expect(comparison.locator("svg circle").first).to_be_visible()


PAUSED = """
llm.pause()
handle = llm.submit("One day", SamplingParams(max_tokens=40, ignore_eos=True))
"""
# Waits until the first cell's newest output says this.
DRAWN = """text => [window.labTest.panel.content.widgets[0].model.outputs.toJSON().at(-1).data["text/html"]].flat()
  .join("").includes(text)"""


def picture(outputs: list[dict[str, Any]]) -> str:
    """The one picture among a cell's outputs."""
    pages = ["".join(output.get("data", {}).get("text/html", "")) for output in outputs]
    [found] = [page for page in pages if "iw-still" in page]
    return found


def in_file(lab: LabPage) -> str:
    """The first cell's picture in the notebook's file, once it was saved."""
    lab.evaluate("() => window.labTest.panel.context.save()")
    path = lab.server.root / lab.evaluate("() => window.labTest.panel.context.path")
    return picture(nbformat.read(path, as_version=4).cells[0].outputs)


# Steps that are made while nobody looks.
LATER = "import threading; threading.Timer(1, lambda: llm.step(2)).start()"


def test_a_live_view_hides_its_picture_and_the_file_s_is_as_new_as_the_engine_s_last_step(lab: LabPage) -> None:
    lab.open_cells(SETUP, WORK, PAUSED)
    lab.run_cell(0)
    lab.run_cell(1)
    lab.cell_element(0)  # what is out of sight is not drawn
    expect(lab.page.get_by_test_id("state")).to_have_text("idle")
    still = lab.page.locator(".iw-still")
    expect(still).to_have_count(1)
    expect(still).to_be_hidden()
    # The picture in the file is as new as the last cell, although it hangs under the first one.
    at = lab.ask("llm.snapshot().step")
    assert f"state after step {at}<" in picture(lab.outputs(0))
    # And as new as what is pressed in the view after the last cell.
    lab.run_cell(2)
    lab.cell_element(0)
    expect(lab.page.get_by_test_id("state")).to_have_text("paused")
    at = lab.ask("llm.snapshot().step")
    for _ in range(5):
        lab.page.get_by_test_id("step").click()
    lab.page.wait_for_function(DRAWN, arg=f"state after step {at + 5}<")
    file = in_file(lab)
    assert f"state after step {at + 5}<" in file
    used = lab.ask("(lambda pool: pool.num_blocks - pool.num_free)(llm._loop.core.scheduler.kv.pool)")
    assert f"{used} used" in file

    # A page that was reloaded no longer knows which output a display id belongs to.
    lab.page.reload()
    lab.take_up()
    lab.cell_element(0)
    expect(lab.page.get_by_test_id("position")).to_have_text(f"step {at + 5}")
    lab.page.get_by_test_id("step").click()
    lab.page.wait_for_function(DRAWN, arg=f"state after step {at + 6}<")
    assert f"state after step {at + 6}<" in in_file(lab)
    # And what the engine did while there was no page is caught up with.
    path = lab.evaluate("() => window.labTest.panel.context.path")
    lab.evaluate(
        "() => void window.labTest.panel.sessionContext.session.kernel.requestExecute({code: `" + LATER + "`})"
    )
    lab.page.goto("about:blank")
    lab.page.wait_for_timeout(2_000)
    lab.visit(path)
    lab.page.wait_for_function(DRAWN, arg=f"state after step {at + 8}<")
    assert f"state after step {at + 8}<" in in_file(lab)
    assert not lab.console_errors
