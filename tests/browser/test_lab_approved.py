"""JupyterLab's layouts beside their approved pictures, in both themes, and every panel under axe's rules.

Only what is ours is compared: notebooks, tabs and the rest of JupyterLab are out of the picture, and the main area has
one size, whatever stands around it.
"""

from __future__ import annotations

import os
from pathlib import Path

import nbformat
import pytest
from approved import FONTS, HAS_FONTS, approve, differences
from axe import accessibility
from lab_extension import Workbench
from lab_page import LabPage
from playwright.sync_api import expect

APPROVED = Path(__file__).parent / "approved_lab"
SUPPORT = Path(__file__).resolve().parents[1] / "support"
THEMES = ("light", "dark")
# The views that do not stand in front in the arranged workbench.
ALONE = ("requests", "memory", "latency", "kernels", "knobs", "traffic", "what_if")
LAYOUTS = ("empty", "waiting", "arranged", "two-engines", "gone")

SETUP = f"""
import sys
sys.path.append({str(SUPPORT)!r})
from steady_engine import SteadyEngine
"""
FIRST = """
first = SteadyEngine("first", num_blocks=40, max_num_seqs=6, seed=3)
first.run(num_requests=11, num_steps=48)
"""
SECOND = """
second = SteadyEngine("second", num_blocks=32, max_num_seqs=4, seed=5)
second.run(num_requests=3, num_steps=10)
second.finish()
"""

WAITING = {"id": "inference-workbench-w", "view": "requests", "path": "story.ipynb", "engineId": "?", "ordinal": 9}
MAIN = {"width": 1240, "height": 880}
STYLE = f"""
  body {{ --jp-ui-font-family: {FONTS[0]} !important; --jp-code-font-family: {FONTS[1]} !important; }}
  .jp-NotebookPanel, .lm-DockPanel-tabBar, .lm-DockPanel-handle {{ visibility: hidden; }}
  * {{ caret-color: transparent !important; }}
"""
BOX = """selector => { const { x, y, width, height } = document.querySelector(selector).getBoundingClientRect();
  return { x, y, width, height }; }"""
# Where our parts lie within a picture.
PARTS = """clip => [...document.querySelectorAll('.iw-lab-panel, .iw-lab-sidebar')].map(e => {
  const box = e.getBoundingClientRect();
  const [left, top] = [Math.max(0, box.left - clip.x), Math.max(0, box.top - clip.y)];
  const [right, bottom] = [Math.min(clip.width, box.right - clip.x), Math.min(clip.height, box.bottom - clip.y)];
  return [e.dataset.testid, left, top, right - left, bottom - top];
}).filter(([, , , width, height]) => width > 0 && height > 0)"""
DOCK, SIDE = "#jp-main-dock-panel", ".iw-lab-side"
SQUARE = 8  # what is compared is averages of such squares
TRIES = 20


@pytest.fixture
def workbench(lab: LabPage, tmp_path: Path) -> Workbench:
    """A page in which everything that is compared is the same everywhere."""
    cells = [nbformat.v4.new_code_cell(source) for source in (SETUP, FIRST, SECOND)]
    notebook = nbformat.v4.new_notebook(cells=cells)
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, tmp_path / "story.ipynb")
    lab.page.emulate_media(reduced_motion="reduce")
    lab.open_notebook(tmp_path / "story.ipynb")
    if not lab.page.evaluate(HAS_FONTS, list(FONTS)):
        reason = "no DejaVu fonts (Debian: apt install fonts-dejavu-core): lines would break at other places"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    lab.page.add_style_tag(content=STYLE)
    return Workbench(lab)


def test_the_layouts_look_as_approved_and_every_panel_keeps_the_rules(
    lab: LabPage, workbench: Workbench, screenshots: Path
) -> None:
    lab.run_cell(0)
    workbench.show_sidebar()
    looks_as_approved(lab, "empty", screenshots, SIDE)
    # A panel that was there before its kernel was restarted.
    workbench.run("open", **WAITING)
    lab.evaluate("id => window.jupyterapp.shell.activateById(id)", WAITING["id"])
    fit(lab)
    looks_as_approved(lab, "waiting", screenshots, DOCK)
    lab.evaluate("id => [...window.jupyterapp.shell.widgets('main')].find(w => w.id === id).close()", WAITING["id"])

    lab.run_cell(1)
    workbench.card("first").get_by_test_id("arrange").click()
    for view in ("controls", "playground", "blocks", "timeline"):
        expect(workbench.panel(view).get_by_test_id(f"workbench-{view}")).to_be_visible()
    workbench.wait_step("first", int(lab.ask("first.loop.status().step")))
    fit(lab)
    looks_as_approved(lab, "arranged", screenshots, DOCK)

    lab.run_cell(2)
    workbench.show_sidebar()
    expect(workbench.card("second").get_by_test_id("engine-state")).to_have_text("idle")
    looks_as_approved(lab, "two-engines", screenshots, SIDE)
    keeps_the_rules(lab, workbench)

    workbench.card("first").get_by_test_id("arrange").click()
    controls = workbench.panel("controls")
    lab.page.wait_for_timeout(500)
    box = controls.bounding_box()
    assert box is not None
    assert box["height"] < 160, "arranged again, the controls take no more than they need"
    lab.evaluate("() => window.labTest.panel.sessionContext.restartKernel()")
    expect(workbench.panel("blocks")).to_contain_text("has no engine now")
    fit(lab)
    looks_as_approved(lab, "gone", screenshots, DOCK)
    assert not lab.console_errors


def test_no_approved_picture_is_left_over() -> None:
    pictures = sorted(APPROVED.glob("*"))
    assert [path.name for path in pictures] == sorted(f"{name}-{theme}.png" for name in LAYOUTS for theme in THEMES)
    assert sum(path.stat().st_size for path in pictures) < 700_000


def fit(lab: LabPage) -> None:
    """Give the main area its size, however much of the window stands around it."""
    for _ in range(3):
        box, window = lab.evaluate(BOX, DOCK), lab.page.viewport_size
        assert window is not None
        wanted = {side: round(window[side] + MAIN[side] - box[side]) for side in ("width", "height")}
        if wanted == window:
            return
        lab.page.set_viewport_size(wanted)  # type: ignore[arg-type]
        lab.page.wait_for_timeout(300)
    raise AssertionError(f"the main area is {box}")


def looks_as_approved(lab: LabPage, name: str, screenshots: Path, selector: str) -> None:
    for theme in THEMES:
        lab.set_theme(theme)  # type: ignore[arg-type]
        approved = APPROVED / f"{name}-{theme}.png"
        clip = {side: int(value) for side, value in lab.evaluate(BOX, selector).items()}
        clip |= {side: clip[side] // SQUARE * SQUARE for side in ("width", "height")}
        if os.environ.get("WORKBENCH_APPROVE"):
            lab.page.wait_for_timeout(2500)
            approve(lab.page, lab.page.screenshot(clip=clip), approved)
        for _ in range(TRIES):
            picture = lab.page.screenshot(clip=clip)
            found = differences(lab.page, picture, approved, lab.evaluate(PARTS, clip))
            if not found:
                break
            lab.page.wait_for_timeout(250)
        screenshots.mkdir(parents=True, exist_ok=True)
        path = screenshots / f"lab-{approved.name}"
        path.write_bytes(picture)
        assert not found, "\n".join([f"{path} is not {approved}; if it should look so: make approve", *found])


def keeps_the_rules(lab: LabPage, workbench: Workbench) -> None:
    """Each panel of the main area is brought to the front, and axe looks at all that is in sight."""
    found = []
    for theme in THEMES:
        lab.set_theme(theme)  # type: ignore[arg-type]
        for view in ALONE:
            panel = workbench.open("first", view)
            expect(panel.locator(".iw-panel").first).to_be_visible()
            lab.page.wait_for_timeout(250)  # colours fade from one theme to the next
            broken, passed = accessibility(lab.page, f"[data-testid=panel-{view}] .iw", ".iw-lab-sidebar")
            found += [f"{view}, {theme}: {rule}" for rule in broken]
            assert passed > 10, "the rules were applied"
            lab.screenshot(f"panel-{view}-{theme}", panel.element_handle())
    assert not found, "\n".join(found)
