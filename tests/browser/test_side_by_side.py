"""Two engines side by side in the playground, in a cell and in a panel: what the page shows is what Python finds."""

from __future__ import annotations

import math
import re
from typing import Any

from lab_extension import Workbench
from lab_page import LabPage
from playwright.sync_api import Locator, expect

SETUP = """
from workbench import LLM, SamplingParams, compare_outputs
llm = LLM(quantization="int4")
other = LLM(quantization="int8")
prompts = ["Once upon a time, there was a little girl named Lily.", "The old bear was"]
greedy = SamplingParams(temperature=0, max_tokens=40, logprobs=5)
llm.playground(compare_with=other)
"""
PAIRS = "[[p.summary, p.first, p.second, p.diverges_at] for p in compare_outputs({}, {}, prompts, greedy).pairs]"
PROBABILITIES = (
    "[[{l.decoded_token: l.logprob for l in o.outputs[0].logprobs[%d].values()}"
    " for o in e.generate(prompts[:1], greedy)][0] for e in (llm, other)]"
)


def shown(side: Locator) -> tuple[str, str, str]:
    """A side's text in the three ways in which it is marked: before the place where they part, there, and after it."""
    return tuple("".join(side.locator(f".iw-{kind}").all_text_contents()) for kind in ("equal", "parts", "after"))  # type: ignore[return-value]


def check(view: Locator, pairs: list[list[Any]]) -> None:
    """The page's texts, marks and sentences are those of Python's comparison."""
    for i, (summary, *answers, at) in enumerate(pairs):
        expect(view.get_by_test_id("duel-headline").nth(i)).to_have_text(summary)
        for side, tokens in enumerate(answers):
            wanted = ("".join(tokens[:at]), tokens[at], "".join(tokens[at + 1 :]))
            assert shown(view.get_by_test_id(f"duel-{side}").nth(i)) == wanted


def test_two_engines_side_by_side(lab: LabPage) -> None:
    lab.open_cells(SETUP)
    lab.run_cell(0)
    page = lab.page
    view = page.get_by_test_id("workbench-playground")
    status, run = view.get_by_test_id("compare-status"), view.get_by_test_id("run")
    expect(view.get_by_test_id("compare-against").locator("option:checked")).to_have_text("bundled in int8")
    expect(view.locator(".iw-duel-hint").first).to_contain_text("Press Run")
    for i, prompt in enumerate(lab.ask("prompts")):
        page.get_by_test_id(f"prompt-{i}").fill(prompt)
    page.get_by_test_id("param-max_tokens").fill("40")
    lab.screenshot("two-empty", view.element_handle())

    # With this engine stepped, both texts grow together, a place at a time; stopping keeps what was compared.
    lab.ask("llm.pause()")
    run.click()
    expect(status).to_contain_text("This engine is paused")
    for steps in (1, 2, 3):
        lab.ask("llm.step() and None")
        expect(status).to_contain_text(f"{2 * steps} of at most 80 tokens")
    for side in (0, 1):
        expect(view.get_by_test_id(f"duel-{side}").first.locator("[data-place]")).to_have_count(3)
    lab.screenshot("two-paused", view.element_handle())
    view.get_by_test_id("stop").click()
    expect(status).to_contain_text("Stopped.")
    lab.ask("llm.resume()")

    # To the end: texts, marks, sentences and probabilities are Python's.
    run.click()
    expect(view.locator(".iw-ending")).to_have_count(4)
    pairs = lab.ask(PAIRS.format("llm", "other"))
    check(view, pairs)
    at = pairs[0][3]
    both = lab.ask(PROBABILITIES % at)
    rows = view.get_by_test_id("duel-detail").first.locator("tbody tr")
    for row in rows.all():
        token = row.locator("code").inner_text()[1:-1]
        for share, known in zip(row.locator("td b").all_inner_texts(), both, strict=True):
            if token in known:
                assert share == f"{math.exp(known[token]):.2f}"
            else:
                assert share.startswith("< ")
    taken = [row.locator("td").nth(side).locator(".iw-taken").inner_text() for side in (0, 1) for row in rows.all()[:2]]
    assert taken == ["◆", "", "", "◆"], "each side's own token is marked"
    lab.screenshot("two-light", view.element_handle())

    # Pointing at a token, and the arrow keys, tell both sides' alternatives.
    view.get_by_test_id("duel-0").first.locator(".iw-parts").hover()
    card = view.get_by_test_id("hover-card")
    expect(card).to_contain_text(f"Token {at + 1}, where they part")
    assert re.findall(r"0\.\d\d", pairs[0][0]) == re.findall(r"(0\.\d\d) ◆", card.inner_text())
    view.locator(".iw-duel-both").first.focus()
    page.keyboard.press("ArrowLeft")
    detail = view.get_by_test_id("duel-detail").first
    expect(detail).to_contain_text(f"Token {at}, the same on both sides")
    page.keyboard.press("ArrowRight")

    # A panel beside the notebook has the same comparison; from it, a copy of the model in full precision is asked for.
    lab.set_theme("dark")
    workbench = Workbench(lab)
    workbench.show_sidebar()
    panel = workbench.open(lab.ask("llm.engine_id"), "playground").get_by_test_id("workbench-playground")
    check(panel, pairs)
    lab.ask("globals().update(full=LLM())")
    panel.get_by_test_id("compare-against").select_option(label="a copy in full precision")
    panel.get_by_test_id("param-max_tokens").fill("40")
    panel.get_by_test_id("run").click()
    lab.screenshot("two-loading", panel.element_handle())
    expect(panel.get_by_test_id("duel-1").first).to_contain_text("a copy · float32")
    expect(panel.locator(".iw-ending")).to_have_count(4)
    check(panel, lab.ask(PAIRS.format("llm", "full")))
    lab.screenshot("two-dark", panel.element_handle())
    page.set_viewport_size({"width": 1000, "height": 1000})
    lab.screenshot("two-narrow", panel.element_handle())

    # What cannot be compared says why, and an engine that ended is no longer offered.
    panel.get_by_test_id("param-max_tokens").fill("0")
    panel.get_by_test_id("run").click()
    expect(panel.get_by_test_id("playground-notice")).to_contain_text("max_tokens must be")
    lab.screenshot("two-refused", panel.element_handle())
    lab.ask("other.shutdown()")
    expect(panel.get_by_test_id("compare-against").locator("option")).not_to_contain_text(["bundled in int8"])
    assert not lab.console_errors
