"""The JupyterLab extension in a real JupyterLab: sidebar, panels, layout, restart, reload, two browsers."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from axe import accessibility
from dashboard import plain
from lab_extension import Workbench
from lab_page import LabPage
from playwright.sync_api import Browser, FloatRect, Locator, expect

from workbench.core.units import size_text

MAKE = """
from workbench import LLM, SamplingParams
llm = LLM(num_gpu_blocks_override=64, max_num_seqs=4, max_num_batched_tokens=64)
"""

# Work in the middle, standing still: everything that a page shows of it can be compared.
PAUSED = """
llm.pause()
params = SamplingParams(temperature=0.8, max_tokens=60, ignore_eos=True, seed=1)
handles = [llm.submit(text, params) for text in ("Once upon a time", "The dog", "A mouse", "Tom and", "One day")]
records = llm.step(12)
"""

# A cell that keeps the kernel busy and says what it sees of its engine, until that has stood still at two steps.
BLOCKING = """
import time
llm.set_speed(20)
handles = [llm.submit(text, SamplingParams(max_tokens=400, ignore_eos=True)) for text in ("Once", "The dog ran")]
seen = []
while len(seen) < 2:
    time.sleep(0.02)
    status = llm.status()
    if status.state == "paused" and status.step not in seen:
        seen.append(status.step)
        print(f"paused at {status.step}.")
"""

ENGINE = "llm.engine_id"
CLOSE = "panel => [...window.jupyterapp.shell.widgets('main')].find(widget => widget.node === panel).close()"
FACTS = (
    "(lambda s, p: (s.state, s.step, s.num_running, s.num_waiting, p.num_blocks - p.num_free, p.num_blocks))"
    "(llm.status(), llm._loop.core.scheduler.kv.pool)"
)


@pytest.fixture
def workbench(lab: LabPage) -> Workbench:
    return Workbench(lab)


def ready(lab: LabPage, *cells: str) -> str:
    """A notebook of these cells, the first run; returns its engine's id."""
    lab.open_cells(MAKE, *cells)
    lab.run_cell(0)
    return str(lab.ask(ENGINE))


def test_the_sidebar_says_what_to_do_and_then_lists_the_engine_with_its_own_numbers(
    lab: LabPage, workbench: Workbench
) -> None:
    lab.open_cells(MAKE, PAUSED)
    workbench.show_sidebar()
    expect(workbench.sidebar.get_by_test_id("sidebar-empty")).to_contain_text("llm = LLM()")
    expect(workbench.status).to_be_hidden()
    lab.run_cell(0)
    engine = lab.ask(ENGINE)
    expect(workbench.card(engine).get_by_test_id("engine-state")).to_have_text("idle")
    lab.run_cell(1)
    state, step, running, waiting, used, blocks = lab.ask(FACTS)
    expect(workbench.card(engine).get_by_test_id("engine-facts")).to_have_text(f"cpu · float32 · step {step}")
    shown = workbench.figures(engine)
    assert shown["state"] == state == "paused"
    assert int(shown["running"].split()[0]) == running == 4
    assert int(shown["waiting"].split()[0]) == waiting == 1
    share = re.match(r"[\d.]+", shown["kv"])
    assert share is not None
    assert float(share[0]) == pytest.approx(100 * used / blocks, abs=0.5)
    assert used > 0
    assert int(shown["rate"].split()[0]) == 0
    expect(workbench.status).to_contain_text("paused")
    assert not lab.console_errors


def test_a_panel_shows_the_engine_s_own_state_and_shares_cursor_and_selection_with_the_cell(
    lab: LabPage, workbench: Workbench
) -> None:
    engine = ready(lab, PAUSED, "llm.view('controls')")
    lab.run_cell(1)
    lab.run_cell(2)
    workbench.show_sidebar()
    requests = workbench.open(engine, "requests")
    at = last_step(lab)
    workbench.wait_step(engine, at)
    assert workbench.state(engine) == lab.ask(plain("llm.snapshot()"))
    requests.locator("[data-testid^=request-]").first.click()
    selected = lab.evaluate(
        "id => globalThis[Symbol.for('inference-workbench')].sessions.get(id).selection.request", engine
    )
    assert selected in lab.ask("list(llm.snapshot().requests)")
    # The cell's step-back moves the panel's cursor too: they are one session.
    lab.cell_element(2)
    cell = lab.page.locator(".jp-Cell [data-testid=workbench-controls]")
    cell.get_by_test_id("step-back").click()
    controls = workbench.open(engine, "controls")
    expect(controls.get_by_test_id("position")).to_have_text(f"step {at - 1}")
    # Opening it again brings the same panel to the front.
    workbench.card(engine).get_by_test_id("open-controls").click()
    expect(workbench.panel("controls")).to_have_count(1)
    assert not lab.console_errors


def test_the_kernels_panel_shows_what_llm_roofline_says(lab: LabPage, workbench: Workbench) -> None:
    """Bytes, operations, least times and what bounds them, once measured from the panel itself; at two widths."""
    quick = "from workbench.runtime import machine\nmachine.COPY_BYTES['cpu'], machine.MATMUL_SIZE['cpu'] = 2**23, 256"
    engine = ready(lab, f"{quick}\n{PAUSED}")
    lab.run_cell(1)
    workbench.show_sidebar()
    panel = workbench.open(engine, "kernels")
    workbench.wait_step(engine, last_step(lab))
    expect(panel.get_by_test_id("kernels-note")).to_contain_text("once the machine was measured")
    panel.get_by_test_id("kernels-measure").click()
    expect(panel.get_by_test_id("kernels-told")).to_contain_text("GB/s", timeout=60_000)
    step, machine, parts = lab.ask(
        "(lambda r: (r.step, (r.limits.copy_bandwidth, r.limits.matmul_peak, r.limits.threads), "
        "[(p.name, p.work.bytes, p.work.flops, p.seconds, p.limit_seconds, p.bound) for p in r.parts if p.work]))"
        "(llm.roofline())"
    )
    bandwidth, peak, threads = machine
    expect(panel.get_by_test_id("kernels-told")).to_have_text(
        f"cpu, {threads} thread{'s' * (threads > 1)}: copies {bandwidth / 1e9:.1f} GB/s, "
        f"multiplies {peak / 1e9:,.0f} GFLOP/s in float32"
    )
    expect(panel.locator(".iw-total")).to_contain_text(f"Step {step}: ")
    rows = [row.inner_text().replace("\xa0", " ").split("\t") for row in panel.locator("tbody tr").all()]
    assert [row[0] for row in rows] == [name for name, *_ in parts]
    for (_, reads, computes, least, bound), (name, size, flops, _, limit, bound_by) in zip(rows, parts, strict=True):
        assert reads == size_text(size), name
        assert computes == f"{flops / 1e6:.1f} MFLOP"
        assert float(least.removesuffix(" ms")) == pytest.approx(limit * 1e3, abs=0.006)
        assert bound == bound_by
    _, _, _, seconds, limit, _ = parts[-1]
    share = re.search(r"The forward took ([0-9.,]+)\sms, ([0-9.]+)\s?% of the limit", note_of(panel))
    assert share is not None
    assert float(share[1]) == pytest.approx(seconds * 1e3, rel=0.01)
    assert float(share[2]) == pytest.approx(100 * limit / seconds, abs=0.6)
    for theme in ("light", "dark"):
        lab.set_theme(theme)
        for name, size in (("wide", (1500, 900)), ("narrow", (760, 900))):
            lab.page.set_viewport_size({"width": size[0], "height": size[1]})
            lab.page.wait_for_timeout(300)
            lab.screenshot(f"kernels-{theme}-{name}")
            for part in (panel.locator("canvas"), *panel.locator("tbody td").all()):  # nothing is cut off
                box, around = box_of(part), box_of(panel)
                assert box["x"] + box["width"] <= around["x"] + around["width"]
            canvas = box_of(panel.locator("canvas"))
            assert canvas["width"] > 150
            assert canvas["height"] > 100
    assert not lab.console_errors


def note_of(panel: Locator) -> str:
    """The sentence under the table."""
    return panel.get_by_test_id("kernels-note").inner_text()


def test_pause_and_step_from_the_sidebar_act_while_a_cell_is_running(lab: LabPage, workbench: Workbench) -> None:
    engine = ready(lab, BLOCKING)
    workbench.show_sidebar()
    lab.start_cell(1)
    card = workbench.card(engine)
    expect(card.get_by_test_id("engine-state")).to_have_text("running")
    expect(card.get_by_test_id("engine-running")).to_contain_text("2")
    card.get_by_test_id("engine-toggle").click()
    expect(card.get_by_test_id("engine-state")).to_have_text("paused")
    lab.wait_text(1, "paused at ")
    assert lab.is_running(1)
    step = step_of(workbench, engine)
    assert lab.text(1) == f"paused at {step}.\n"
    # Also after a reload, when JupyterLab itself hears nothing of the kernel until the cell has ended.
    lab.evaluate("() => window.labTest.panel.context.save()")
    lab.page.wait_for_timeout(2500)  # JupyterLab saves its layout a while after it has changed
    lab.page.reload()
    expect(card.get_by_test_id("engine-state")).to_have_text("paused")
    card.get_by_test_id("engine-step").click()
    expect(card.get_by_test_id("engine-facts")).to_contain_text(f"step {step + 1}")
    lab.take_up()
    assert lab.ask("seen") == [step, step + 1], "the cell saw both"
    assert not lab.console_errors


def box_of(element: Locator) -> FloatRect:
    """Where an element is on the page."""
    box = element.bounding_box()
    assert box is not None
    return box


def last_step(lab: LabPage) -> int:
    """The engine's newest step, as the kernel has it."""
    return int(lab.ask("llm.status().step"))


def step_of(workbench: Workbench, engine: str) -> int:
    found = re.search(r"step (\d+)", workbench.figures(engine)["facts"])
    assert found is not None
    return int(found[1])


def test_shortcuts_act_on_the_engine_and_leave_typing_alone(lab: LabPage, workbench: Workbench) -> None:
    engine = ready(lab, PAUSED, "llm.view('controls')")
    lab.run_cell(1)
    lab.run_cell(2)
    workbench.show_sidebar()
    workbench.open(engine, "controls")
    at = last_step(lab)
    workbench.wait_step(engine, at)
    position = workbench.panel("controls").get_by_test_id("position")
    lab.page.keyboard.press("Shift+F8")
    expect(position).to_have_text(f"step {at + 1}")
    lab.page.keyboard.press("F7")
    expect(position).to_have_text(f"step {at}")
    # JupyterLab's own keys work from inside a panel, and its palette has the commands.
    lab.page.keyboard.press("Control+Shift+C")
    lab.page.keyboard.type("inference workbench")
    for label in ("Arrange workbench", "Resume the engine", "Step back in time", "Go to the next event", "Open Memory"):
        expect(lab.page.locator(".lm-CommandPalette-itemLabel", has_text=label)).to_be_visible()
    lab.page.keyboard.press("Escape")
    assert last_step(lab) == at + 1, "what was typed was no command"
    # Ours work from inside a view in a cell, and a cell's editor.
    lab.cell_element(2)
    in_cell = lab.page.locator(".jp-Cell [data-testid=workbench-controls]")
    in_cell.get_by_test_id("position").click()
    lab.page.keyboard.press("Shift+F8")
    expect(position).to_have_text(f"step {at + 2}")
    lab.page.keyboard.press("Shift+F7")
    expect(position).to_have_text("step 0")  # the first arrivals
    lab.page.keyboard.press("Shift+F8")
    expect(position).to_have_text(f"step {at + 3}")
    lab.cell_element(1)
    lab.page.locator(".jp-Cell").nth(1).locator(".cm-content").click()
    lab.page.keyboard.press("F7")
    expect(position).to_have_text(f"step {at + 2}")
    lab.page.keyboard.press("F8")
    expect(workbench.status).not_to_have_attribute("data-mode", "paused")
    source = "() => window.labTest.panel.content.widgets[1].model.sharedModel.getSource()"
    assert lab.evaluate(source) == PAUSED
    lab.page.keyboard.type("xyz")
    assert len(lab.evaluate(source)) == len(PAUSED) + 3
    assert not lab.console_errors


def test_the_shortcuts_clash_with_none_of_jupyterlab_s(lab: LabPage, workbench: Workbench) -> None:
    lab.open_cells("1")
    bindings = lab.evaluate(
        "() => window.jupyterapp.commands.keyBindings.map(b => [b.command, b.keys.join(', '), b.selector])"
    )
    ours = {keys for command, keys, _ in bindings if command.startswith("inference-workbench:")}
    theirs = {keys for command, keys, _ in bindings if not command.startswith("inference-workbench:")}
    assert len(ours) == 4
    assert not ours & theirs
    assert not workbench.lab.console_errors


@pytest.mark.parametrize("size", [(1600, 1000), (1280, 800)])
def test_the_arranged_workbench(lab: LabPage, workbench: Workbench, size: tuple[int, int]) -> None:
    width, height = size
    lab.page.set_viewport_size({"width": width, "height": height})
    engine = ready(lab, PAUSED, "llm.break_on('first_token'); llm.step(60)")
    lab.run_cell(1)
    workbench.show_sidebar()
    workbench.card(engine).get_by_test_id("arrange").click()
    for view in ("controls", "blocks", "timeline"):
        expect(workbench.panel(view).get_by_test_id(f"workbench-{view}")).to_be_visible()
    workbench.wait_step(engine, last_step(lab))
    notebook = box_of(lab.page.locator(".jp-NotebookPanel"))
    controls, blocks, timeline = (box_of(workbench.panel(view)) for view in ("controls", "blocks", "timeline"))
    assert notebook["x"] + notebook["width"] <= min(b["x"] for b in (controls, blocks, timeline)) + 1
    assert controls["y"] < blocks["y"] < timeline["y"]
    assert notebook["width"] > 0.25 * width
    everything_of_the_controls_is_in_sight(workbench)
    # What is opened next takes the place with the most room, and not that of the controls.
    workbench.show_sidebar()
    assert box_of(workbench.open(engine, "knobs"))["height"] > 200
    workbench.panel("knobs").evaluate(CLOSE)
    lab.evaluate(
        "() => { const {shell} = window.jupyterapp; shell.collapseLeft(); shell.activateById(labTest.panel.id) }"
    )
    # Also what they say later.
    lab.run_cell(2)
    expect(workbench.panel("controls").get_by_test_id("notice")).to_contain_text("Stopped after")
    everything_of_the_controls_is_in_sight(workbench)
    for theme in ("light", "dark"):
        lab.set_theme(theme)  # type: ignore[arg-type]
        lab.page.wait_for_timeout(800)  # the views draw at their own pace
        lab.screenshot(f"arranged-{width}-{theme}")
        workbench.show_sidebar()
        lab.page.wait_for_timeout(300)  # colours fade from one theme to the next
        lab.screenshot(f"arranged-{width}-{theme}-sidebar")
        broken, passed = accessibility(lab.page, ".iw", ".iw-lab-sidebar", "[data-testid=workbench-status]")
        assert broken == []
        assert passed > 10, "the rules were applied"
    assert not lab.console_errors


def everything_of_the_controls_is_in_sight(workbench: Workbench) -> None:
    """However many rows they take: the panel grows with them."""
    workbench.page.wait_for_function(
        """() => { const e = document.querySelector('[data-testid=panel-controls] .iw-panel-controls');
                    return e.clientHeight > 60 && e.scrollHeight <= e.clientHeight + 1; }"""
    )


def test_panels_survive_a_reload_and_a_restart_and_go_on_with_the_new_engine(
    lab: LabPage, workbench: Workbench
) -> None:
    engine = ready(lab, PAUSED)
    lab.run_cell(1)
    workbench.show_sidebar()
    workbench.open(engine, "blocks")
    lab.evaluate("() => window.labTest.panel.context.save()")
    lab.page.wait_for_timeout(2500)  # JupyterLab saves its layout a while after it has changed
    at = last_step(lab)
    lab.page.reload()
    workbench.wait_step(engine, at)
    expect(workbench.panel("blocks").get_by_test_id("workbench-blocks")).to_be_visible()
    lab.take_up()
    assert workbench.state(engine) == lab.ask(plain("llm.snapshot()"))
    lab.evaluate("() => window.labTest.panel.sessionContext.restartKernel()")
    expect(workbench.panel("blocks")).to_contain_text("has no engine now")
    lab.run_cell(0)
    again = lab.ask(ENGINE)
    assert again != engine
    lab.run_cell(1)
    workbench.wait_step(again, last_step(lab))
    assert workbench.state(again) == lab.ask(plain("llm.snapshot()"))
    expect(workbench.panel("blocks").locator(".iw-lab-banner")).to_be_hidden()
    assert not lab.console_errors


def test_two_kernels_and_two_browsers_on_one(lab: LabPage, workbench: Workbench, browser: Browser) -> None:
    first = ready(lab, PAUSED)
    path = lab.evaluate("() => window.labTest.panel.context.path")
    lab.evaluate("() => window.labTest.panel.context.save()")
    lab.open_beside(MAKE.replace("64, max_num_seqs", "32, max_num_seqs"))
    lab.run_cell(0)
    second = lab.ask(ENGINE)
    workbench.show_sidebar()
    expect(workbench.engines).to_have_count(2)
    expect(workbench.sidebar.get_by_test_id("sidebar-kernel")).to_have_count(2)
    workbench.card(second).get_by_test_id("engine-toggle").click()
    expect(workbench.card(second).get_by_test_id("engine-state")).to_have_text("paused")
    expect(workbench.card(first).get_by_test_id("engine-state")).to_have_text("idle")
    assert lab.ask("llm.status().state") == "paused"

    # Another browser on the first kernel: it finds the engine, and what one does the other sees.
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    try:
        other = LabPage(context.new_page(), lab.server, Path())
        other.visit(path)
        theirs = Workbench(other)
        theirs.show_sidebar()
        expect(theirs.card(first)).to_be_visible()
        theirs.card(first).get_by_test_id("engine-toggle").click()
        expect(theirs.card(first).get_by_test_id("engine-state")).to_have_text("paused")
        expect(workbench.card(first).get_by_test_id("engine-state")).to_have_text("paused")
        assert not other.console_errors
    finally:
        context.close()
    workbench.card(first).get_by_test_id("engine-toggle").click()
    expect(workbench.card(first).get_by_test_id("engine-state")).to_have_text("idle")
    assert not lab.console_errors


THREADS = (
    "sorted(t.name for t in __import__('threading').enumerate() if t.name in ('workbench-feed', 'workbench-list'))"
)


def test_what_is_out_of_sight_costs_the_kernel_nothing(lab: LabPage, workbench: Workbench) -> None:
    engine = ready(lab)
    workbench.show_sidebar()
    workbench.open(engine, "memory")
    wait_threads(lab, ["workbench-feed", "workbench-list"])
    # A second panel takes part in the same stream, and one that is covered does not keep it.
    workbench.open(engine, "requests")
    expect(workbench.panel("memory")).to_be_hidden()
    wait_threads(lab, ["workbench-feed", "workbench-list"])
    lab.evaluate("() => window.jupyterapp.shell.collapseLeft()")
    lab.evaluate(
        """() => { for (const w of [...window.jupyterapp.shell.widgets('main')])
                   if (w.id.startsWith('inference-workbench')) w.close(); }"""
    )
    wait_threads(lab, ["workbench-list"])  # for the status bar
    assert not lab.console_errors


def test_the_settings_take_effect(lab: LabPage, workbench: Workbench) -> None:
    save = "s => window.jupyterapp.serviceManager.settings.save('inference-workbench:plugin', s).then(() => null)"
    engine = ready(lab, PAUSED, "llm.view('blocks')")
    lab.run_cell(2)
    expect(workbench.status).to_be_visible()
    lab.evaluate("() => window.labTest.panel.context.save()")
    settings = {"statusBar": False, "palette": "ramp", "defaultLayout": "dashboard", "updatesPerSecond": 2}
    lab.evaluate(save, json.dumps(settings))
    try:
        lab.page.reload()
        lab.take_up()
        workbench.show_sidebar()
        workbench.card(engine).get_by_test_id("arrange").click()
        expect(workbench.panel("dashboard").get_by_test_id("workbench-dashboard")).to_be_visible()
        expect(workbench.panel("blocks")).to_have_count(0)
        expect(workbench.status).to_be_hidden()
        assert lab.evaluate("() => document.body.dataset.iwPalette") == "ramp"
        # The stream keeps to two frames a second, whether a panel or a view in a cell asks for it.
        wait_threads(lab, ["workbench-feed"])
        assert lab.ask(FRAME_SECONDS) == [0.5]
        workbench.panel("dashboard").evaluate(CLOSE)
        lab.cell_element(2)
        wait_threads(lab, ["workbench-feed"])
        assert lab.ask(FRAME_SECONDS) == [0.5]
    finally:
        lab.evaluate(save, "{}")
    assert not lab.console_errors


FRAME_SECONDS = (
    "[f._frame_seconds for f in __import__('gc').get_objects() "
    "if type(f).__name__ == 'Feed' and f._thread and f._thread.is_alive()]"
)


def wait_threads(lab: LabPage, names: list[str]) -> None:
    """Wait until the kernel's threads that send to pages are these."""
    for _ in range(100):
        found = lab.ask(THREADS)
        if found == names:
            return
        lab.page.wait_for_timeout(100)
    assert found == names


def test_a_playground_notebook_and_a_tutorial_open_from_the_launcher_s_commands(
    lab: LabPage, workbench: Workbench
) -> None:
    lab.open_cells("1")
    card(lab, "Playground").click()
    expect(lab.page.get_by_role("heading", name="Playground")).to_be_visible()
    assert (lab.server.root / "playground.ipynb").is_file()
    expect(card_of(lab, "Playground")).to_have_count(0)  # the launcher has made room
    card(lab, "Tutorials").click()
    dialog = lab.page.locator(".jp-Dialog")
    expect(dialog).to_contain_text("Open a tutorial")
    dialog.get_by_role("button", name="Open", exact=True).click()
    expect(dialog).to_be_hidden()
    lab.page.wait_for_function(
        "() => [...window.jupyterapp.shell.widgets('main')]"
        ".some(w => (w.context?.path ?? '').startsWith('workbench-tutorials/01'))"
    )
    expect(card_of(lab, "Tutorials")).to_have_count(0)
    assert not lab.console_errors


def card(lab: LabPage, title: str) -> Locator:
    """A card of ours in a new launcher."""
    lab.evaluate("() => window.jupyterapp.commands.execute('launcher:create').then(() => null)")
    return card_of(lab, title)


def card_of(lab: LabPage, title: str) -> Locator:
    return lab.page.locator(".jp-LauncherCard[data-category='Inference workbench']", has_text=title)
