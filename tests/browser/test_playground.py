"""The playground on a real engine: a branch is a request with the prompt and the tokens up to the picked one."""

from __future__ import annotations

from dashboard import SESSION
from lab_page import LabPage
from playwright.sync_api import expect

SETUP = """
from workbench import LLM
llm = LLM(num_gpu_blocks_override=64)
llm.view("playground", height=620)
"""
STORY = "Once upon a time, there was a little girl named Lily. She loved to play outside in the park with her dog"


def test_a_greedy_branch_says_what_its_parent_said_and_reuses_its_blocks(lab: LabPage) -> None:
    lab.open_cells(SETUP)
    lab.run_cell(0)
    page = lab.page
    page.get_by_test_id("prompt-0").fill(STORY)
    page.get_by_test_id("prompt-1").fill("")
    page.get_by_test_id("param-temperature").fill("0")
    page.get_by_test_id("param-max_tokens").fill("40")
    page.get_by_test_id("run").click()
    page.wait_for_function(f"() => [...{SESSION}.store.requests.values()].some(r => r.ending !== null)")
    expect(page.get_by_test_id("shade-legend")).to_contain_text("probability")
    tokens = page.locator(".iw-tokens span")
    expect(tokens).to_have_count(40)
    tokens.nth(19).click()
    # JupyterLab's own rules for lists in outputs do not reach the card: a figure and its unit stand in one line.
    values = page.get_by_test_id("hover-card").locator("visible=true").locator("dd")
    assert max(values.evaluate_all("all => all.map(e => e.getClientRects().length ? e.offsetHeight : 0)")) < 24
    choices = page.get_by_test_id("branch-choices").first
    expect(choices.locator("button")).to_have_count(4)
    choices.get_by_role("button", name="after").click()
    page.wait_for_function(f"() => [...{SESSION}.store.requests.values()].filter(r => r.ending !== null).length === 2")
    found = lab.ask(
        "(lambda a, m: [[x.request_id for x in a], [list(x.prompt_token_ids) for x in a],"
        " [m[x.request_id].num_cached_tokens for x in a],"
        " [[s.token_id for r in llm.trace for s in r.sampled if s.request_id == x.request_id] for x in a]])"
        "([x for r in llm.trace for x in r.arrivals], __import__('workbench.trace.metrics', fromlist=['x'])"
        ".measure(llm.trace))"
    )
    (parent, _branch), prompts, cached, outputs = found
    assert prompts[1] == prompts[0] + outputs[0][:20]
    assert outputs[1][:20] == outputs[0][20:], "greedy decoding goes on as it did"
    assert cached[1] > 0
    assert cached[1] % 16 == 0
    card = page.locator("article", has_text=f"{parent} after token 20")
    expect(card).to_contain_text(f"{cached[1]} of {len(prompts[1])} prompt tokens were in the KV cache already")
    # Another token in its place, by the keyboard.
    page.locator(".iw-tokens").first.focus()
    page.keyboard.press("ArrowLeft")
    choices.get_by_role("button", name="with").first.click()
    page.wait_for_function(f"() => {SESSION}.store.requests.size === 3")
    ids = lab.ask("[list(x.prompt_token_ids) for r in llm.trace for x in r.arrivals][2]")
    alternatives = page.evaluate(f"[...{SESSION}.store.requests.values()][0].tokens.map(t => t.alternatives)")
    assert ids[-1] != outputs[0][len(ids) - len(prompts[0]) - 1]
    assert ids[-1] in [token for token, _ in alternatives[len(ids) - len(prompts[0]) - 1]]
    lab.screenshot("playground-branch", page.get_by_test_id("workbench-playground").element_handle())
    assert not lab.console_errors
