"""The debugger's views over a real engine in JupyterLab: policies, traffic, what-if and compare, held to Python."""

from __future__ import annotations

from dashboard import SESSION, Dashboard
from lab_page import LabPage
from playwright.sync_api import expect

SETUP = """
from workbench import LLM, Policy, SamplingParams, compare, simulate
llm = LLM(num_gpu_blocks_override=48, max_num_seqs=6, max_num_batched_tokens=64)

class Latest(Policy):
    name = "latest"
    def key(self, request):
        return (-request.arrival_seq,)

llm.set_policy(Latest())
llm.dashboard()
"""

POLICY = "llm._loop.core.scheduler.policy.name"

COMPARE = "found = compare(llm.trace, simulate(llm.trace, max_num_seqs=1, scheduling_policy='fcfs')); found"


QUEUE = """
from workbench import LLM, SamplingParams
llm = LLM(num_gpu_blocks_override=16, max_num_seqs=2, max_num_batched_tokens=64, scheduling_policy="priority")
llm.pause()
params = SamplingParams(max_tokens=40, ignore_eos=True)
handles = [llm.submit("Once upon a time there was a big dog.", params) for _ in range(5)]
llm.dashboard()
"""
WAIT = "print(len(handles[0].result().outputs[0].token_ids))"


def test_the_queue_of_a_paused_engine_is_changed_and_breakpoints_are_set_from_the_view(lab: LabPage) -> None:
    lab.open_cells(QUEUE, WAIT)
    lab.run_cell(0)
    page, dashboard = lab.page, Dashboard(lab)
    dashboard.wait_mode("paused")
    dashboard.scroll_to("requests")
    page.get_by_test_id("request-r4").click()
    page.get_by_test_id("priority").fill("-3")
    page.get_by_test_id("priority").press("Enter")
    page.wait_for_function(f"{SESSION}.stateAt('live').waiting[0] === 'r4'")
    page.get_by_test_id("request-r3").click()
    page.get_by_test_id("move-to-front").click()
    page.wait_for_function(f"{SESSION}.stateAt('live').waiting[1] === 'r3'")
    page.get_by_test_id("request-r5").click()
    page.get_by_test_id("cancel").click()
    page.wait_for_function(f"!{SESSION}.stateAt('live').waiting.includes('r5')")
    assert lab.ask("list(llm.snapshot().waiting)") == ["r4", "r3", "r1", "r2"]

    lab.start_cell(1)
    lab.wait_text(1, "The engine is paused after step")
    dashboard.scroll_to("controls")
    page.get_by_test_id("break-on").select_option("free_blocks_under")
    page.get_by_test_id("break-limit").fill("15")
    page.get_by_test_id("break-limit").press("Enter")
    dashboard.press("resume")
    expect(page.get_by_test_id("notice")).to_contain_text("on fewer than 15 free blocks: ")
    lab.wait_text(1, "(fewer than 15 free blocks: ")  # the cell that waits says so too
    page.get_by_test_id("clear-breakpoints").click()
    dashboard.press("resume")
    assert lab.wait_cell(1).endswith("40\n")
    assert not lab.console_errors


def test_traffic_from_the_page_what_if_and_compare(lab: LabPage) -> None:
    lab.open_cells(SETUP, COMPARE)
    lab.run_cell(0)
    page = lab.page
    root = page.get_by_test_id("workbench-dashboard")

    policy = root.get_by_test_id("policy")
    expect(policy).to_have_value("latest")
    policy.select_option("sjf")
    expect(policy).to_have_value("sjf")
    assert lab.ask(POLICY) == "sjf"
    policy.select_option("latest")
    expect(policy).to_have_value("latest")
    assert lab.ask(POLICY) == "latest"

    # What arrives is what was previewed, whether the kernel is busy or not.
    panel = root.locator(".iw-panel-traffic")
    panel.scroll_into_view_if_needed()
    panel.get_by_test_id("arrivals-bursts").click()
    for name, value in {"num_bursts": 2, "burst_size": 6, "interval": 0.2, "output_high": 24, "seed": 4}.items():
        panel.get_by_test_id(f"traffic-{name}").fill(str(value))
    expect(panel.get_by_test_id("traffic-preview")).to_contain_text("12 requests within 200")
    expect(panel.get_by_test_id("traffic-preview")).to_contain_text("Seed 4.")
    panel.get_by_test_id("traffic-start").click()
    expect(panel.get_by_test_id("traffic-progress")).to_have_text("12 of 12 sent, 0 on their way, 12 finished (done)")
    arrivals = lab.ask("[len(a.prompt_token_ids) for r in llm.trace for a in r.arrivals]")
    told = panel.get_by_test_id("traffic-preview").inner_text()
    assert f"{sum(arrivals)} prompt tokens" in told.replace(",", "")
    assert f"{lab.ask('sum(len(r.sampled) for r in llm.trace)')} output tokens" in told.replace(",", "")

    # The page's comparison is Python's.
    panel = root.locator(".iw-panel-what_if")
    panel.scroll_into_view_if_needed()
    panel.get_by_test_id("what-if-max_num_seqs").fill("1")
    panel.get_by_test_id("what-if-policy").select_option("fcfs")
    panel.get_by_test_id("what-if-ask").click()
    headline = panel.get_by_test_id("compare-headline")
    expect(headline).to_be_visible()
    other = "simulate(llm.trace, max_num_seqs=1, scheduling_policy='fcfs')"
    wanted = lab.ask(f"(lambda c: [len(c.gained), len(c.lost)])(compare(llm.trace, {other}))")
    expect(headline).to_contain_text(f"{wanted[0]} gained, {wanted[1]} lost")
    expect(panel.get_by_test_id("compare-settings")).to_contain_text("max_num_seqs 6 → 1")
    expect(panel.get_by_test_id("compare-settings")).to_contain_text("scheduling_policy latest → fcfs")
    lab.screenshot("what-if")

    # The reader's own policy can be asked for by its name, and is simulated where it is in force.
    expect(panel.get_by_test_id("what-if-policy").locator("option")).to_have_text(
        ["as it was", "fcfs", "priority", "sjf", "fair", "latest"]
    )
    panel.get_by_test_id("what-if-policy").select_option("")
    panel.get_by_test_id("what-if-ask").click()
    expect(panel.get_by_test_id("compare-settings")).not_to_contain_text("scheduling_policy")
    own = "simulate(llm.trace, max_num_seqs=1, scheduling_policy=Latest())"
    wanted = lab.ask(f"(lambda c: [len(c.gained), len(c.lost)])(compare(llm.trace, {own}))")
    expect(headline).to_contain_text(f"{wanted[0]} gained, {wanted[1]} lost")

    # In a cell a comparison is a view, and plain HTML for those who have none.
    lab.run_cell(1)
    shown = page.get_by_test_id("workbench-compare")
    expect(shown.get_by_test_id("compare-headline")).to_be_visible()
    rows = lab.ask("[[c.request_id, c.why] for c in found.changes]")
    assert shown.locator(".iw-compare-row b").all_inner_texts() == [name for name, _ in rows]
    assert shown.locator(".iw-compare-why").all_inner_texts() == [why for _, why in rows]
    _, picture = lab.outputs(1)
    assert "<svg" in "".join(picture["data"]["text/html"])
    assert not lab.console_errors
