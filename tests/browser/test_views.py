"""The views alone, over a recorded trace that a page plays through the widget's protocol: no kernel, no Lab."""

from __future__ import annotations

import functools
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from axe import accessibility
from playwright.sync_api import Browser, Locator, Page, expect

ROOT = Path(__file__).resolve().parents[2]
SESSION = "[...globalThis[Symbol.for('inference-workbench')].sessions.values()][0]"
WIDE = (1400, 1700)

Open = Callable[..., Page]


class QuietHandler(SimpleHTTPRequestHandler):
    """A file server that prints nothing and lets frames of no origin load its modules."""

    def end_headers(self) -> None:
        self.send_header("Access-Control-Allow-Origin", "*")
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a folder with the harness, the bundle and a trace."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "extension").symlink_to(ROOT / "extension")
    (folder / "workbench").symlink_to(ROOT / "workbench")
    trace = [str(ROOT / "extension" / "dev" / "make_trace.py"), str(folder / "trace.json"), "--steps", "500"]
    subprocess.run([sys.executable, *trace], check=True, capture_output=True)
    handler = functools.partial(QuietHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def harness(browser: Browser, site: str) -> Iterator[Open]:
    """Opens the harness with a query; errors in the page fail the test."""
    pages: list[Page] = []
    errors: list[str] = []

    def open_page(query: str, size: tuple[int, int] = WIDE) -> Page:
        page = browser.new_page(viewport={"width": size[0], "height": size[1]})
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"{site}/extension/dev/harness.html?trace=/trace.json&{query}")
        page.wait_for_function("() => window.harness !== undefined")
        pages.append(page)
        return page

    yield open_page
    for page in pages:
        page.close()
    assert errors == []


def step(page: Page) -> str:
    return page.get_by_test_id("position").inner_text()


def test_keys_move_in_time_and_leave_fields_alone(harness: Open) -> None:
    page = harness("until=300&paused")
    expect(page.get_by_test_id("state")).to_have_text("paused")
    page.get_by_test_id("timeline").click(position={"x": 4, "y": 4})
    page.keyboard.press("Escape")
    page.keyboard.press(",")
    expect(page.get_by_test_id("position")).to_have_text("step 299")
    page.keyboard.press(".")
    expect(page.get_by_test_id("live")).to_have_attribute("aria-pressed", "false")
    page.keyboard.press(".")
    expect(page.get_by_test_id("live")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press(".")
    expect(page.get_by_test_id("position")).to_have_text("step 301")
    page.keyboard.press(" ")
    expect(page.get_by_test_id("state")).to_have_text("running")
    page.keyboard.press(" ")
    expect(page.get_by_test_id("state")).to_have_text("paused")
    at = step(page)
    page.get_by_test_id("prompt-0").press_sequentially(" a, b. ")
    assert page.get_by_test_id("prompt-0").input_value().endswith(" a, b. ")
    assert step(page) == at


def test_events_and_the_scrubber_move_the_cursor(harness: Open) -> None:
    page = harness("until=400&paused")
    page.get_by_test_id("previous-event").click()
    expect(page.get_by_test_id("live")).to_have_attribute("aria-pressed", "false")
    before = step(page)
    page.get_by_test_id("next-event").click()
    assert step(page) >= before
    scrubber = page.get_by_test_id("scrubber")
    scrubber.focus()
    page.keyboard.press("Home")
    expect(page.get_by_test_id("position")).to_have_text("step 0")
    expect(scrubber).to_have_attribute("aria-valuetext", "step 0")
    page.keyboard.press("End")
    expect(scrubber).to_have_attribute("aria-valuetext", "live")


def test_an_error_is_shown_where_the_command_was_given(harness: Open) -> None:
    page = harness("until=100&paused")
    page.get_by_test_id("max-num-seqs").fill("99")
    page.get_by_test_id("apply").click()
    expect(page.get_by_test_id("notice")).to_contain_text("max_num_seqs=99 is more than this harness allows")
    page.get_by_test_id("param-temperature").fill("hot")
    page.get_by_test_id("run").click()
    expect(page.get_by_test_id("playground-notice")).to_contain_text("must be a number, not “hot”")
    page.get_by_test_id("param-temperature").fill("0.5")
    page.get_by_test_id("run").click()
    expect(page.get_by_test_id("playground-notice")).to_have_text("A recorded trace takes no prompts.")


def test_a_knob_is_applied_and_shown_as_the_engine_has_it(harness: Open) -> None:
    page = harness("until=100&paused")
    expect(page.get_by_test_id("max-num-seqs")).to_have_value("12")
    expect(page.get_by_test_id("apply")).to_be_disabled()
    page.get_by_test_id("max-num-seqs").fill("5")
    page.get_by_test_id("max-num-seqs").press("Enter")
    expect(page.get_by_test_id("apply")).to_be_disabled()
    assert page.evaluate("harness.kernel.limits.max_num_seqs") == 5


def test_breakpoints_are_set_and_cleared_and_the_reason_of_a_stop_is_told(harness: Open) -> None:
    page = harness("until=100&paused")
    expect(page.get_by_test_id("breakpoints")).to_be_hidden()
    page.get_by_test_id("break-on").select_option("preemption")
    page.get_by_test_id("break-on").select_option("free_blocks_under")
    page.get_by_test_id("break-limit").fill("7")
    page.get_by_test_id("break-limit").press("Enter")
    expect(page.get_by_test_id("break-limit")).to_be_hidden()
    page.get_by_test_id("break-on").select_option("step_longer_than")
    page.get_by_test_id("break-limit").fill("20")
    page.get_by_test_id("break-set").click()
    page.get_by_test_id("break-on").select_option("step_longer_than")
    page.get_by_test_id("break-limit").press("Escape")
    expect(page.get_by_test_id("break-set")).to_be_hidden()
    request = page.evaluate(f"{SESSION}.stateAt('live').running[0]")
    page.evaluate(f"{SESSION}.select({{request: '{request}'}})")
    page.get_by_test_id("break-on").select_option(label=f"the end of a request, {request}")
    expect(page.get_by_test_id("breakpoints").locator("span")).to_have_text(
        ["a preemption", "fewer than 7 free blocks", "a step over 20 ms", f"the end of a request, {request}"]
    )
    assert page.evaluate("harness.kernel.commands.filter(([name]) => name === 'break_on').map(c => c[1])") == [
        {"event": "preemption"},
        {"free_blocks_under": 7},
        {"step_longer_than": 0.02},
        {"event": "finish", "request": request},
    ]
    expect(page.get_by_test_id("break-on")).to_have_value("")
    page.evaluate("harness.kernel.message = 'preemption: r7 was preempted: r4 needed 2 blocks, 0 were free'")
    notice = page.get_by_test_id("notice")
    expect(notice).to_have_text(
        "Stopped after step 100 on a preemption: r7 was preempted: r4 needed 2 blocks, 0 were free"
    )
    expect(notice).to_have_attribute("role", "alert")
    page.get_by_test_id("clear-breakpoints").click()
    expect(page.get_by_test_id("breakpoints")).to_be_hidden()


@pytest.mark.parametrize("width", [480, 900, 1400])
def test_many_breakpoints_fit(harness: Open, width: int) -> None:
    names = "preemption,first_token of r12,fewer than 4 free blocks,a step over 50 ms,a_predicate_with_a_long_name"
    page = harness(f"view=controls&until=100&paused&breaks={names}&message=preemption: r7 was preempted", (width, 600))
    expect(page.get_by_test_id("breakpoints").locator("span")).to_have_count(5)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert sticking_out(page.get_by_test_id("workbench-controls")) == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_before_the_first_step_every_view_says_what_will_be_there(harness: Open, theme: str) -> None:
    page = harness(f"until=-1&state=idle&theme={theme}")
    expect(page.get_by_test_id("position")).to_have_text("no steps yet")
    for text in ("No steps yet", "No requests yet"):
        expect(page.get_by_text(text, exact=True)).to_be_visible()


def test_a_lost_kernel_keeps_what_was_seen_and_takes_no_commands(harness: Open) -> None:
    page = harness("until=200&paused")
    expect(page.get_by_test_id("state")).to_have_text("paused")
    page.evaluate("harness.lose()")
    expect(page.get_by_test_id("state")).to_have_text("disconnected")
    expect(page.get_by_test_id("notice")).to_contain_text("The kernel is gone")
    expect(page.get_by_test_id("resume")).to_be_disabled()
    expect(page.get_by_test_id("run")).to_be_disabled()
    page.get_by_test_id("step-back").click()
    expect(page.get_by_test_id("position")).to_have_text("step 199")


@pytest.mark.parametrize("view", ["blocks", "timeline", "memory"])
def test_a_view_without_controls_says_itself_that_the_kernel_is_gone(harness: Open, view: str) -> None:
    page = harness(f"view={view}&until=200&paused", (700, 700))
    away = page.get_by_test_id("away")
    expect(page.get_by_test_id(f"workbench-{view}")).to_have_attribute("data-mode", "paused")
    expect(away).to_be_hidden()
    page.evaluate("harness.lose()")
    expect(away).to_contain_text("The kernel is gone")


def test_views_of_one_engine_share_selection_and_stream(harness: Open) -> None:
    page = harness("view=requests,blocks,playground&until=300&paused")
    expect(page.locator("[data-testid^=request-]").first).to_be_visible()
    assert page.evaluate("harness.kernel.listeners.size") == 3
    row = page.locator("[data-testid^=request-]").first
    row.click()
    expect(row).to_have_attribute("aria-selected", "true")
    expect(page.get_by_test_id("why")).to_contain_text("Prefilled ")
    expect(page.locator(".iw-panel-playground .iw-selected")).to_have_count(1)
    # The view that carries the stream is closed: another one goes on with it, and nothing that was seen is lost.
    page.evaluate("harness.cleanups[0]()")
    page.evaluate("harness.kernel.receive({type: 'command', id: 'x', name: 'step', args: {n: 3}})")
    page.wait_for_function(f"() => {SESSION}.store.lastStep === 303")
    assert page.evaluate(f"{SESSION}.store.firstStep") == 0
    for index in (1, 2):
        page.evaluate(f"harness.cleanups[{index}]()")
    assert page.evaluate("globalThis[Symbol.for('inference-workbench')].sessions.size") == 0
    assert page.evaluate("harness.kernel.listeners.size") == 0


def test_an_opened_request_says_why_and_its_steps_move_the_cursor(harness: Open) -> None:
    page = harness("view=controls,requests&until=400&paused", (480, 900))
    page.locator("[data-testid^=request-][data-state=preempted]").first.click()
    why = page.get_by_test_id("why")
    expect(why.get_by_text("Preempted: ").first).to_be_attached()
    asked = "harness.kernel.commands.filter(([name]) => name === 'why').length"
    page.wait_for_timeout(1500)  # frames without records come meanwhile
    assert page.evaluate(asked) == 1
    # Long sentences break inside the panel although the table is wider, and the story was scrolled to.
    outer, told = page.get_by_test_id("requests").bounding_box(), page.locator(".iw-told").bounding_box()
    assert outer is not None
    assert told is not None
    assert told["x"] + told["width"] <= outer["x"] + outer["width"]
    assert told["y"] < outer["y"] + outer["height"] / 3
    admitted = why.get_by_role("button").nth(1)
    admitted.click()
    expect(admitted).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_test_id("position")).to_have_text(admitted.inner_text())
    expect(admitted).to_be_focused()
    expect(page.get_by_test_id("cancel")).to_be_hidden()


def test_the_waterfall_shows_python_s_numbers_and_leads_to_its_steps(harness: Open) -> None:
    page = harness("view=controls,requests&height=600&until=800&paused", (1200, 900))
    found = page.evaluate(
        f"""() => [...{SESSION}.store.requests.values()].filter(r => r.tokens.length > 0)
          .sort((a, b) => b.tokens[0].time - b.arrivalTime - (a.tokens[0].time - a.arrivalTime))[0].id"""
    )
    page.evaluate(f"{SESSION}.select({{ request: {found!r} }})")
    picture = page.get_by_test_id("waterfall")
    expect(picture).to_be_visible()
    segments = page.evaluate(f"harness.kernel.trace.why[{found!r}].waterfall")
    expected: dict[str, float] = {}
    for kind, label, _, _, seconds, _, other in segments:
        name = f"waits {label}" if kind == "queue" else label
        name = f"{other} in the same steps" if kind == "neighbour" and other else name
        name = "others in the same steps" if kind == "neighbour" and not other else name
        expected[name] = expected.get(name, 0.0) + seconds
    total = sum(expected.values())
    shown = picture.locator(".iw-waterfall-row").evaluate_all(
        "rows => rows.map(r => [...r.children].map(c => c.innerText))"
    )
    assert len(shown) >= 4
    assert {row[0]: row[2].split("·")[1].strip() for row in shown} == {
        name: percent(seconds / total) for name, seconds in expected.items()
    }
    assert [int(b) for b in bars_of(picture)[:1]] == [segments[0][2]]
    bar = picture.get_by_role("button").nth(1)
    bar.hover()
    expect(page.locator(".iw-panel-requests").get_by_test_id("hover-card")).to_contain_text(
        "of the time to first token"
    )
    bar.click()
    expect(page.get_by_test_id("position")).to_have_text(f"step {bars_of(picture)[1]}")
    expect(bar).to_have_attribute("aria-pressed", "true")


def bars_of(picture: Locator) -> list[str]:
    """The step that each bar leads to."""
    return list(picture.get_by_role("button").evaluate_all("bars => bars.map(b => b.dataset.step)"))


def duration(seconds: float) -> str:
    """As format.ts writes it, up to a second."""
    digits = 2 if seconds < 0.00995 else 1 if seconds < 0.0995 else 0
    return f"{seconds * 1e3:.{digits}f}\u00a0ms" if seconds < 0.9995 else f"{seconds:.2f}\u00a0s"


def percent(share: float) -> str:
    """As format.ts writes it."""
    return f"{share * 100:.1f}\u00a0%" if 0 < share < 0.1 else f"{share * 100:.0f}\u00a0%"


def test_text_is_shown_as_far_as_it_was_at_the_time_cursor(harness: Open) -> None:
    page = harness("view=playground&until=480&paused", (700, 700))
    page.add_style_tag(content=".iw .iw-tokens { max-height: 60px; }")  # shorter than what was said so far
    sight = """() => { const all = [...document.querySelectorAll('.iw-tokens')].filter(e => e.textContent);
      const picked = all.find(e => e.closest('.iw-selected'));
      const e = picked ?? all.sort((a, b) => b.scrollHeight - a.scrollHeight)[0], box = e.getBoundingClientRect();
      const spans = [...e.querySelectorAll('span')], at = spans.findLast(s => !s.classList.contains('iw-future'));
      const r = (at ?? spans[0]).getBoundingClientRect();
      return [e.scrollHeight > e.clientHeight, e.scrollTop, r.top >= box.top - 1 && r.bottom <= box.bottom + 1]; }"""
    expect(page.locator(".iw-tokens span").first).to_be_visible()
    assert page.evaluate(sight) == [True, 0, True]
    live = f"[...{SESSION}.store.requests.values()].filter(r => r.ending === null)"
    page.evaluate(f"""() => {{ const long = {live}.reduce((a, b) => a.tokens.length > b.tokens.length ? a : b);
      {SESSION}.select({{ request: long.id }}); {SESSION}.setCursor(long.tokens[3].step); }}""")
    page.wait_for_function(f"() => ({sight})()[1] < 0")
    assert page.evaluate(sight)[2]
    page.evaluate(f"{SESSION}.setCursor('live')")
    page.wait_for_function(f"() => ({sight})()[1] === 0")


def test_a_request_that_is_picked_in_the_table_is_brought_into_sight_in_the_playground(harness: Open) -> None:
    page = harness("until=480&paused", (1400, 1900))
    cards = page.locator(".iw-prompt.iw-guest")
    seen = """e => { const box = e.closest('.iw-cards').getBoundingClientRect(), at = e.getBoundingClientRect();
      return at.top >= box.top - 1 && at.top < box.bottom - 40; }"""
    hidden = [i for i in range(cards.count()) if not cards.nth(i).evaluate(seen)]
    assert hidden, "every card fits, so nothing is tried here"
    name = cards.nth(hidden[-1]).locator(".iw-card-id").inner_text().split()[0]
    page.get_by_test_id(f"request-{name}").click()
    card = page.locator(".iw-prompt.iw-selected")
    expect(card).to_contain_text(name)
    assert card.evaluate(seen)
    place = "e => e.closest('.iw-cards').scrollTop"
    before = card.evaluate(place)
    card.locator(".iw-tokens span").first.click()  # what is in sight stays under the pointer
    expect(page.get_by_test_id("token-why")).to_be_visible()
    assert card.evaluate(place) == before


def test_a_token_and_a_block_lead_to_their_why(harness: Open) -> None:
    page = harness("until=480&paused", (1400, 1900))
    token = page.locator(".iw-tokens span").first
    token.click()
    expect(page.get_by_test_id("token-why")).to_contain_text("Token 1, the first, came")
    expect(page.get_by_test_id("waterfall")).to_be_visible()
    page.keyboard.press("Escape")
    page.evaluate(f"{SESSION}.select({{}})")
    expect(page.get_by_test_id("waterfall")).to_have_count(0)
    box = page.get_by_test_id("block-map").bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + 30, box["y"] + 30)
    expect(page.get_by_test_id("why")).to_be_visible()
    page.evaluate(f"{SESSION}.setCursor('live')")
    free = page.evaluate(f"{SESSION}.stateAt('live').free_blocks")
    used = page.evaluate(f"{SESSION}.store.steps.flatMap(s => s.record.block_events).map(e => e.block)")
    page.evaluate(f"{SESSION}.select({{ block: {next(b for b in free if b in used)} }})")
    told = page.get_by_test_id("block-why")
    expect(told).to_contain_text("gave it back")
    told.get_by_role("button", name="why").click()
    expect(page.get_by_test_id("why")).to_be_visible()
    # At a time when somebody held the block it is not told free, though it is still the one that is picked.
    block = page.evaluate(f"{SESSION}.selection.block")
    page.evaluate(f"{SESSION}.select({{ block: {block} }})")
    expect(told).to_be_visible()
    held = "s => [...Object.values(s.block_tables)].flat()"
    step = page.evaluate(
        f"{SESSION}.store.steps.map(s => s.record.step).findLast(n => ({held})({SESSION}.stateAt(n)).includes({block}))"
    )
    page.evaluate(f"{SESSION}.setCursor({step})")
    expect(told).to_be_hidden()


def test_the_policy_is_chosen_in_the_view_and_a_refused_one_is_said(harness: Open) -> None:
    page = harness("view=controls&until=100&paused", (1200, 400))
    policy = page.get_by_test_id("policy")
    expect(policy).to_have_value("fcfs")
    assert policy.locator("option").all_inner_texts() == ["fcfs", "priority", "sjf", "fair"]
    policy.select_option("fair")
    page.wait_for_function("() => harness.kernel.limits.scheduling_policy === 'fair'")
    expect(policy).to_have_value("fair")
    policy.select_option("sjf")  # the harness refuses this one
    expect(page.get_by_test_id("notice")).to_have_text("policy 'sjf' was refused, 'fcfs' stays")
    expect(policy).to_have_value("fair")


def test_what_was_recorded_is_played_and_jumped_through_by_kind(harness: Open) -> None:
    page = harness("view=controls,requests&until=480&paused", (1200, 700))
    page.get_by_test_id("event-kind").select_option("preempted")
    preempts = "s.record.decisions.some(d => d.action === 'preempt')"
    expected = page.evaluate(f"{SESSION}.store.steps.filter(s => {preempts}).map(s => s.record.step)")
    *_, before, after = (at for at in expected if at < 460)  # far enough from the end to be played
    page.get_by_test_id("state").click()
    page.get_by_test_id("step-back").focus()
    back = [at for at in reversed(expected) if at >= before]
    for want in back:
        page.keyboard.press("[")
        expect(page.get_by_test_id("position")).to_have_text(f"step {want}")
    page.keyboard.press("]")
    expect(page.get_by_test_id("position")).to_have_text(f"step {after}")
    page.keyboard.press("p")
    expect(page.get_by_test_id("play")).to_have_attribute("aria-pressed", "true")
    page.wait_for_function(f"() => {SESSION}.cursor > {after + 2}")
    page.get_by_test_id("step-back").click()  # whoever takes the cursor stops the film
    expect(page.get_by_test_id("play")).to_have_attribute("aria-pressed", "false")
    page.keyboard.press("Escape")
    expect(page.get_by_test_id("live")).to_have_attribute("aria-pressed", "true")


def test_traffic_shows_what_it_will_send_and_how_far_it_is(harness: Open) -> None:
    page = harness("view=traffic&until=100&paused", (1200, 500))
    made = page.evaluate("harness.kernel.trace.preview")
    told = page.get_by_test_id("traffic-preview")
    expect(told).to_contain_text(f"{len(made['requests'])} requests within")
    expect(told).to_contain_text(f"{made['num_prompt_tokens']:,} prompt tokens, {made['num_output_tokens']:,} output")
    page.get_by_test_id("traffic-rate").fill("500")
    expect(page.get_by_test_id("traffic-notice")).to_have_text("rate is too high")
    expect(page.get_by_test_id("traffic-start")).to_be_disabled()
    page.get_by_test_id("arrivals-bursts").click()
    page.get_by_test_id("traffic-burst_size").fill("5")
    page.get_by_test_id("traffic-urgent").fill("25")
    expect(page.get_by_test_id("traffic-start")).to_be_enabled()
    page.get_by_test_id("traffic-start").click()
    expect(page.get_by_test_id("traffic-progress")).to_have_text("9 of 24 sent, 5 on their way, 4 finished")
    sent = page.evaluate("harness.kernel.commands.findLast(([name]) => name === 'traffic_start')[1].recipe")
    assert sent["arrivals"] == "bursts"
    assert (sent["burst_size"], sent["num_bursts"], sent["urgent_fraction"]) == (5, 3, 0.25)
    assert sent["prompt_len"] == [16, 64]
    assert "rate" not in sent
    page.get_by_test_id("traffic-stop").click()
    expect(page.get_by_test_id("traffic-progress")).to_contain_text("(stopped)")


@pytest.mark.parametrize("view", ["what_if", "compare"])
def test_two_runs_are_compared_in_python_s_numbers(harness: Open, view: str) -> None:
    page = harness(f"view={view}&until=100&paused&height=2000", (1200, 1400))
    data = page.evaluate("harness.kernel.trace.comparison")
    if view == "what_if":
        page.get_by_test_id("what-if-max_num_seqs").fill("4")
        page.get_by_test_id("what-if-policy").select_option("sjf")
        page.get_by_test_id("what-if-ask").click()
    headline = f"{data['num_gained']} gained, {data['num_lost']} lost, {data['num_same']} the same"
    expect(page.get_by_test_id("compare-headline")).to_contain_text(headline)
    if view == "what_if":
        asked = page.evaluate("harness.kernel.commands.at(-1)")
        assert asked == ["what_if", {"settings": {"max_num_seqs": 4, "scheduling_policy": "sjf"}}]
    panel = page.get_by_test_id("compare")
    expect(panel).to_contain_text("simulated, its cost model misses a recorded step by")
    for name, first, second in data["settings"]:
        expect(page.get_by_test_id("compare-settings")).to_contain_text(f"{name} {first} → {second}")
    assert panel.locator(".iw-compare-row b").all_inner_texts() == [row[0] for row in data["requests"]]
    # The dumbbell's ends are where the times are.
    longest = max(max(row[3], row[4]) for row in data["requests"])
    name, _, _, first, second, why, *_ = data["requests"][0]
    row = page.get_by_test_id(f"compare-{name}")
    ends = row.locator(".iw-dot").evaluate_all("dots => dots.map(d => parseFloat(d.style.left))")
    assert ends == pytest.approx([100 * first / longest, 100 * second / longest], abs=0.01)
    expect(row).to_contain_text(why)
    row.click()
    pictures = page.get_by_test_id("compare-waterfalls").get_by_test_id("waterfall")
    expect(pictures).to_have_count(2)
    for index, segments in enumerate(data["waterfalls"][name]):
        seconds = sum(segment[4] for segment in segments)
        expect(pictures.nth(index)).to_contain_text(f"First token {duration(seconds)} after")
    page.get_by_test_id("time-ttft").click()
    by_ttft = sorted(data["requests"], key=lambda r: -(r[1] - r[2]))
    assert panel.locator(".iw-compare-row b").first.inner_text() == by_ttft[0][0]


def test_a_live_request_can_be_moved_and_cancelled(harness: Open) -> None:
    page = harness("view=requests&until=400&paused", (1000, 600))
    page.locator("[data-testid^=request-][data-state=waiting]").last.click()
    waiting = page.evaluate(f"{SESSION}.selection.request")
    page.get_by_test_id("move-to-front").click()
    expect(page.get_by_test_id("priority")).to_have_value("0")
    page.get_by_test_id("priority").fill("-2")
    page.get_by_test_id("priority").press("Enter")
    page.get_by_test_id("cancel").click()
    page.wait_for_function("() => harness.kernel.commands.length === 4")
    assert page.evaluate("harness.kernel.commands.slice(1)") == [
        ["move_to_front", {"request_id": waiting}],
        ["set_priority", {"request_id": waiting, "priority": -2}],
        ["cancel", {"request_id": waiting}],
    ]
    page.locator("[data-testid^=request-][data-state=running]").first.click()
    expect(page.get_by_test_id("move-to-front")).to_be_hidden()
    expect(page.get_by_test_id("cancel")).to_be_visible()
    page.locator("[data-testid^=request-][data-state=finished]").first.click()
    expect(page.get_by_test_id("cancel")).to_be_hidden()


def test_a_view_out_of_sight_is_not_drawn(harness: Open) -> None:
    page = harness("view=timeline,requests&until=200&paused", (900, 400))
    expect(page.get_by_test_id("timeline")).to_be_visible()
    assert page.locator("[data-testid^=request-]").count() == 0
    page.get_by_test_id("requests").scroll_into_view_if_needed()
    expect(page.locator("[data-testid^=request-]").first).to_be_attached()


@pytest.mark.parametrize("width", [420, 640, 900, 1100, 1400, 2000])
def test_nothing_sticks_out_at_any_width(harness: Open, width: int) -> None:
    page = harness("until=300&paused", (width, 1200))
    root = page.get_by_test_id("workbench-dashboard")
    expect(root).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert sticking_out(root) == []


def sticking_out(root: Locator) -> list[str]:
    """Controls whose box leaves their panel's."""
    script = """root => [...root.querySelectorAll('.iw-panel')].flatMap(panel => {
      const outer = panel.getBoundingClientRect();
      return [...panel.querySelectorAll('button, input, select, output, .iw-stat, .iw-legend > span')]
        .filter(e => !e.closest('.iw-scroll, .iw-cards'))
        .filter(e => { const r = e.getBoundingClientRect(); return r.width > 0 && r.right > outer.right + 0.5; })
        .map(e => e.outerHTML.slice(0, 80));
    })"""
    return list(root.evaluate(script))


def test_the_canvases_hold_more_than_one_colour(harness: Open) -> None:
    page = harness("until=300&paused&theme=dark")
    page.wait_for_timeout(500)
    for view in ("blocks", "timeline", "latency"):
        colours = page.locator(f".iw-panel-{view} canvas").first.evaluate(
            """canvas => {
              const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
              return new Set(new Uint32Array(data.buffer)).size;
            }"""
        )
        assert colours > 5, view


def test_the_block_map_zooms_pins_and_clears(harness: Open) -> None:
    page = harness("view=blocks&until=300&paused", (1000, 600))
    block_map, size = page.get_by_test_id("block-map"), page.get_by_test_id("block-size")
    expect(size).to_contain_text("px a block")
    fitted = size.inner_text()
    block_map.click(position={"x": 180, "y": 60})
    picked = page.evaluate(f"{SESSION}.selection")
    state = page.evaluate(f"{SESSION}.stateAt('live')")
    assert picked["request"] is not None
    table = state["block_tables"][picked["request"]]
    assert picked["block"] in table
    story = page.get_by_test_id("block-story")
    expect(story).to_contain_text(f"Block {picked['block']}: held by")
    expect(page.get_by_test_id("block-table")).to_contain_text(f"{picked['request']}: {len(table)} block")
    strip = page.get_by_test_id("block-table").locator("canvas")
    expect(strip).to_have_attribute("aria-label", re.compile(re.escape(", ".join(map(str, table[:24])))))
    # Keys: the neighbour is picked, plus zooms, 0 shows all again, Escape clears.
    page.keyboard.press("ArrowRight")
    expect(story).to_contain_text(f"Block {picked['block'] + 1}: ")
    page.keyboard.press("+")
    expect(size).not_to_have_text(fitted)
    page.keyboard.press("0")
    expect(size).to_have_text(fitted)
    page.keyboard.press("Escape")
    expect(story).to_be_hidden()
    # The pointer's card tells the tokens as text; a drag moves a zoomed map and picks nothing.
    page.get_by_test_id("map-zoom-in").click()
    box = block_map.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 100, box["y"] + 60)
    card = page.get_by_test_id("hover-card")
    expect(card).to_contain_text("references")
    before = card.inner_text()
    page.mouse.down()
    page.mouse.move(box["x"] + 20, box["y"] + 20, steps=3)
    page.mouse.up()
    page.mouse.move(box["x"] + 100, box["y"] + 61)
    expect(card).not_to_have_text(before)
    expect(story).to_be_hidden()


def test_a_million_blocks_are_drawn_and_any_can_be_reached(harness: Open) -> None:
    page = harness("view=blocks&height=500&blocks=1000000&paused", (1000, 600))
    expect(page.get_by_test_id("block-size")).to_contain_text("blocks a px")
    page.get_by_test_id("block-map").focus()
    page.keyboard.press("ArrowRight")
    for _ in range(8):
        page.keyboard.press("+")
    page.keyboard.press("ArrowRight")
    expect(page.get_by_test_id("block-story")).to_contain_text("Block 1: held by")
    expect(page.get_by_test_id("block-size")).to_contain_text("px a block")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("state", ["paused", "empty", "lost"])
def test_no_accessibility_rule_is_broken(harness: Open, theme: str, state: str) -> None:
    """axe-core's rules, contrast included, over the whole dashboard with a request and a block picked."""
    page = harness(f"theme={theme}&" + ("until=-1&state=idle" if state == "empty" else "until=300&paused"))
    if state != "empty":
        page.locator("[data-testid^=request-]").nth(2).click()
        page.get_by_test_id("block-map").click(position={"x": 60, "y": 80})
        expect(page.get_by_test_id("block-story")).to_be_visible()
    if state == "lost":
        page.evaluate("harness.lose()")
        expect(page.get_by_test_id("state")).to_have_text("disconnected")
    page.mouse.move(1, 1)
    # Colours are only right once nothing fades: without motion that is at once, after a frame.
    page.emulate_media(reduced_motion="reduce")
    page.wait_for_timeout(300)
    broken, passed = accessibility(page, ".iw")
    assert broken == []
    assert passed > 10, "the rules were applied"


def test_motion_ends_and_is_off_when_the_reader_asks_for_it(harness: Open) -> None:
    pixels = "canvas => canvas.toDataURL()"
    for reduced in (True, False):
        page = harness("view=controls,blocks&until=300&paused", (1000, 800))
        page.emulate_media(reduced_motion="reduce" if reduced else "no-preference")
        canvas = page.get_by_test_id("block-map").locator("canvas")
        pictures = []
        for _ in range(12):  # until a step with block events
            page.get_by_test_id("step").click()
            page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
            pictures = [canvas.evaluate(pixels) for _ in range(6)]
            page.wait_for_timeout(600)
            pictures.append(canvas.evaluate(pixels))
            if len(set(pictures)) > 1 and not reduced:
                break
            assert not reduced or len(set(pictures[1:])) == 1
        assert (len(set(pictures)) > 1) != reduced
        page.wait_for_timeout(300)
        assert canvas.evaluate(pixels) == pictures[-1]


# Where to point, what the card says there with its unit, and what a click there picks.
POINTED = {
    "blocks": ("[data-testid=block-map] canvas", r"tokens\D*\d+ of \d+", "block"),
    "timeline": ("[data-testid=timeline] canvas", r"\b(ms|µs|token)", "request"),
    "playground": (".iw-tokens [data-index], .iw-tokens span", r"%|ms", "token"),
    "latency": ("[data-testid=latency-itl] canvas", r"ITL .*ms|µs", None),
    "traffic": (".iw-preview canvas", r"tokens?", None),
}


@pytest.mark.parametrize("view", POINTED)
def test_hover_tells_with_units_a_click_picks_and_escape_clears(harness: Open, view: str) -> None:
    page = harness(f"view={view}&until=300&paused", (1000, 700))
    selector, told, picks = POINTED[view]
    place, card = page.locator(selector).first, page.get_by_test_id("hover-card").locator("visible=true")
    expect(place).to_be_visible()
    page.wait_for_timeout(300)  # until it is drawn
    box = place.bounding_box()
    assert box is not None
    at = {"x": box["width"] * 0.4, "y": min(box["height"] / 2, 60)}
    place.hover(position=at)  # type: ignore[arg-type]
    expect(card).to_contain_text(re.compile(told))
    picked = f"{SESSION}.selection"
    if picks is not None:
        place.click(position=at)  # type: ignore[arg-type]
        assert page.evaluate(picked)[picks] is not None
    else:
        page.locator(".iw").first.focus()
    page.keyboard.press("Escape")
    assert set(page.evaluate(picked).values()) == {None}
    if view not in ("blocks", "timeline"):  # those draw it anew while the pointer stays
        expect(card).to_have_count(0)


def test_limits_are_typed_or_dragged_and_the_goodput_follows(harness: Open) -> None:
    page = harness("view=latency&until=400&paused", (900, 500))
    served = page.get_by_test_id("goodput")
    expect(served).to_contain_text("Type a limit, or drag")
    limit = page.get_by_test_id("slo-e2e")
    limit.fill("1e9")
    expect(served).to_contain_text("(100 %)")
    limit.fill("0.001")
    expect(served).to_contain_text("0 of ")
    limit.fill("soon")
    expect(served).to_have_text("A limit is a number of ms above 0, not “soon”.")
    limit.press("Escape")
    expect(limit).to_have_value("")
    expect(served).to_contain_text("Type a limit, or drag")
    box = page.get_by_test_id("latency-e2e").locator("canvas").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 10, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 20, steps=3)
    page.mouse.up()
    expect(served).to_contain_text("ended requests kept the limits")
    middle = float(limit.input_value())
    assert middle > 0
    # On the logarithmic scale the same place is a shorter time, once it is drawn so.
    canvas = page.get_by_test_id("latency-e2e").locator("canvas")
    page.get_by_test_id("scale-log").click()
    expect(canvas).to_have_attribute("aria-label", re.compile("log scale"))
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + 20)
    assert 0 < float(limit.input_value()) < middle
    expect(canvas).to_have_attribute("aria-label", re.compile("p95 "))


def test_a_long_table_of_requests_grows_as_it_is_scrolled(harness: Open) -> None:
    page = harness("view=requests&blocks=4000&until=300&paused", (900, 400))
    rows, more = page.locator("tbody tr[data-state]"), page.locator(".iw-more")
    expect(rows).to_have_count(40)
    everyone = 40 + int(re.search(r"and ([\d,]+) older requests", more.inner_text())[1].replace(",", ""))  # type: ignore[index]
    assert everyone == 400 + 301, "those that run, and the one that each step let go"
    page.get_by_test_id("requests").evaluate("box => { box.scrollTop = box.scrollHeight; }")
    expect(rows).to_have_count(80)
    expect(more).to_have_text(f"and {everyone - 80} older requests")
    # Back at its top it is short again, with the next drawing.
    page.get_by_test_id("requests").evaluate("box => { box.scrollTop = 0; }")
    page.evaluate(f"{SESSION}.setCursor(200)")
    expect(rows).to_have_count(40)


def test_a_saved_trace_needs_no_kernel(harness: Open) -> None:
    page = harness("view=memory&until=0&paused")
    page.evaluate(
        """async () => {
          const { renderTrace } = await import('/workbench/widgets/static/workbench.js');
          const trace = await (await fetch('/trace.json')).json();
          const el = document.createElement('div');
          document.body.prepend(el);
          const engine = { ...trace.engine, engine_id: 'saved' };
          renderTrace(el, { engine, payload: trace.payload, why: trace.why });
        }"""
    )
    root = page.get_by_test_id("workbench-dashboard")
    expect(root.get_by_test_id("state")).to_have_text("saved trace")
    # Nothing asks for prompts that nobody would answer; what was asked is there to read.
    for asks in ("run", "starters", "prompt-0"):
        expect(root.get_by_test_id(asks)).to_be_hidden()
    expect(root.locator(".iw-prompt.iw-guest").first).to_be_visible()
    expect(root.get_by_test_id("break-on")).to_be_hidden()
    root.locator("[data-testid^=request-]").first.click()
    expect(root.get_by_test_id("why")).to_contain_text("Arrived with")
    expect(root.get_by_test_id("waterfall")).to_contain_text("after arrival")
    expect(root.get_by_test_id("cancel")).to_be_hidden()
    root.get_by_test_id("step-back").click()
    expect(root.get_by_test_id("live")).to_have_attribute("aria-pressed", "false")


GROUND = """element => {
    const shown = getComputedStyle(element);
    return [element.dataset.theme, shown.backgroundColor, shown.color];
}"""


def test_a_view_in_vs_code_has_its_theme_though_jupyters_variables_say_white(harness: Open) -> None:
    page = harness("host=vscode&theme=dark&view=blocks&until=200&paused")
    page.emulate_media(color_scheme="light")
    root = page.get_by_test_id("workbench-blocks")
    expect(root).to_have_attribute("data-theme", "dark")
    assert root.evaluate(GROUND) == ["dark", "rgb(31, 31, 31)", "rgb(238, 241, 245)"]
    page.evaluate(
        """() => {
          document.body.classList.replace("vscode-dark", "vscode-high-contrast");
          document.body.classList.add("vscode-high-contrast-light");
          document.documentElement.style.setProperty("--vscode-editor-background", "#fffffe");
        }"""
    )
    expect(root).to_have_attribute("data-theme", "light")
    assert root.evaluate(GROUND) == ["light", "rgb(255, 255, 254)", "rgb(21, 24, 29)"]
    # A change between two light themes has no other class.
    page.evaluate("document.documentElement.style.setProperty('--vscode-editor-background', '#fdf6e3')")
    assert root.evaluate(GROUND)[1] == "rgb(253, 246, 227)"


def test_a_view_works_in_a_frame_of_no_origin_as_colab_has_one_for_each_cell(harness: Open, site: str) -> None:
    page = harness("view=controls&until=200&paused")
    console: list[str] = []
    page.on("console", lambda message: console.append(message.text) if message.type == "error" else None)
    page.emulate_media(color_scheme="light")
    address = f"{site}/extension/dev/harness.html?host=colab&theme=dark&trace=/trace.json&until=9&speed=9&paused"
    page.set_content(f'<iframe sandbox="allow-scripts" src="{address}" style="width:1300px;height:1600px"></iframe>')
    frame = page.frame_locator("iframe")
    root = frame.get_by_test_id("workbench-dashboard")
    expect(root.get_by_test_id("state")).to_have_text("paused")
    assert root.evaluate("() => self.origin") == "null"
    assert root.evaluate(GROUND) == ["dark", "rgb(15, 18, 22)", "rgb(238, 241, 245)"]
    root.get_by_test_id("resume").click()
    expect(root.get_by_test_id("state")).to_have_text("running")
    root.get_by_test_id("pause").click()
    expect(root.get_by_test_id("state")).to_have_text("paused")
    assert console == []
