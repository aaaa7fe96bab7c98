"""The knobs' view on a real engine: what it shows is what predict says, what Apply did, and what is in force."""

from __future__ import annotations

from typing import Any

from lab_page import LabPage
from playwright.sync_api import expect

from workbench.core.config import KV_CACHE_DTYPES, QUANTIZATIONS, SPARSITIES
from workbench.core.units import size_text

SETUP = """
from workbench import LLM, SamplingParams
llm = LLM(num_gpu_blocks_override=48)
params = SamplingParams(temperature=0, max_tokens=80, ignore_eos=True)
llm.pause()
handles = [llm.submit(f"Once upon a time, a {who} went to the park and", params) for who in ("girl", "boy", "dog")]
llm.step(60)
llm.view("knobs")
"""

MAKE = "llm.configure(max_num_seqs=5, kv_cache_dtype='auto')"


def shown(lab: LabPage) -> dict[str, list[str]]:
    """The table of the change: label -> cells."""
    rows = lab.page.get_by_test_id("knob-change").locator("tbody tr")
    return {cells[0]: cells[1:] for cells in (row.locator("th, td").all_inner_texts() for row in rows.all())}


def told(figures: dict[str, Any]) -> dict[str, str]:
    """PoolFigures as the view writes them."""
    return {
        "Weights": size_text(figures["weight_bytes"]).replace(" ", "\u00a0"),
        "KV pool": size_text(figures["kv_cache_bytes"]).replace(" ", "\u00a0"),
        "Blocks": f"{figures['num_blocks']:,} of {figures['block_size']} tokens",
        "A number takes": figures["kv_cache_dtype"],
        "Tokens that fit": f"{figures['num_tokens']:,}",
        "Full-length requests at once": f"{figures['max_concurrency']:.1f}",
        "Requests preempted, computed again": f"{figures['num_preempted']:,}",
        "Cached blocks forgotten": f"{figures['num_evicted']:,}",
    }


def figures(lab: LabPage, change: str) -> tuple[dict[str, str], dict[str, str]]:
    """Before and predicted of a Change of the real engine."""
    before, predicted = lab.ask(f"(lambda c: [dict(c.before._asdict()), dict(c.predicted._asdict())])({change})")
    return told(before), told(predicted)


def test_knobs_predict_apply_and_show_what_was_measured(lab: LabPage) -> None:
    lab.open_cells(SETUP, MAKE)
    lab.run_cell(0)
    page = lab.page
    headline, apply = page.get_by_test_id("knob-headline"), page.get_by_test_id("knob-apply")
    expect(headline).to_contain_text("As it is now")
    now, _ = figures(lab, "llm.predict()")
    assert shown(lab) == {label: [value] for label, value in now.items()}
    expect(apply).to_be_disabled()
    for name, values, none in (
        ("kv_cache_dtype", KV_CACHE_DTYPES, ""),
        ("quantization", QUANTIZATIONS, "as in the checkpoint"),
        ("sparsity", SPARSITIES, "none"),
    ):
        options = page.get_by_test_id(f"knob-{name}").locator("option").all_inner_texts()
        words = [{"auto": "auto (as the model)", None: none}.get(value, value) for value in values]
        assert options == words
    assert page.get_by_test_id("knob-max_num_seqs").input_value() == str(lab.ask("llm.settings['max_num_seqs'][1]"))

    # Predicted: what llm.predict says of the same change. Nothing has happened yet.
    page.get_by_test_id("knob-block_size").select_option(label="8")
    page.get_by_test_id("knob-max_num_seqs").fill("2")
    expect(headline).to_contain_text("Predicted")
    before, predicted = figures(lab, "llm.predict(block_size=8, max_num_seqs=2)")
    wanted = {label: [before[label], predicted[label]] for label in before} | {"max_num_seqs": ["64", "2"]}
    expect(page.get_by_test_id("knob-change")).to_contain_text(predicted["Blocks"])
    assert shown(lab) == wanted
    assert predicted["Requests preempted, computed again"] == "3"
    expect(page.get_by_test_id("knob-notes")).to_contain_text("r1, r2, r3 would be preempted.")
    assert lab.ask("llm.settings['block_size'][1]") == 16
    lab.screenshot("knobs-predicted", page.get_by_test_id("workbench-knobs").element_handle())

    # A pool that could never finish a live request is refused, with the arithmetic of the engine.
    page.get_by_test_id("knob-size").fill("0.05")
    expect(headline).to_contain_text("It does not fit")
    size = round(0.05 * 2**20)
    refusal = lab.ask(f"llm.predict(block_size=8, max_num_seqs=2, kv_cache_memory_bytes={size}).refused")
    expect(page.get_by_test_id("knob-notice")).to_have_text(f"This would be refused: {refusal}.")
    expect(apply).to_be_disabled()
    lab.screenshot("knobs-refused", page.get_by_test_id("workbench-knobs").element_handle())
    page.get_by_test_id("knob-instead").click()
    expect(headline).to_contain_text("Predicted")
    fits = lab.ask(f"llm.predict(block_size=8, max_num_seqs=2, kv_cache_memory_bytes={size}).instead")
    _, predicted = figures(lab, f"llm.predict(**{fits!r})")
    expect(page.get_by_test_id("knob-change")).to_contain_text(predicted["Blocks"])
    page.get_by_test_id("knob-reset").click()
    expect(headline).to_contain_text("As it is now")

    # Applied: before, predicted and measured are the engine's.
    page.get_by_test_id("knob-block_size").select_option(label="8")
    page.get_by_test_id("knob-max_num_seqs").fill("2")
    expect(headline).to_contain_text("Predicted")
    before, predicted = figures(lab, "llm.predict(block_size=8, max_num_seqs=2)")
    apply.click()
    expect(headline).to_contain_text("Changed; it held the engine up for")
    measured = told(lab.ask("dict(llm.predict().before._asdict())")) | {"Requests preempted, computed again": "3"}
    expect(page.get_by_test_id("knob-max_num_seqs")).to_have_value("2")
    cells = shown(lab)
    for label in before:
        if label != "Cached blocks forgotten":
            assert cells[label] == [before[label], predicted[label], measured[label]]
    assert cells["max_num_seqs"] == ["64", "2", "2"]
    assert lab.ask("[llm.settings[n][1] for n in ('block_size', 'max_num_seqs')]") == [8, 2]
    step = lab.ask("next(r.step for r in llm.trace if any(c.name == 'block_size' for c in r.changes))")
    expect(page.get_by_test_id("knob-step")).to_have_text(f"step {step}")
    lab.set_theme("dark")
    lab.screenshot("knobs-measured", page.get_by_test_id("workbench-knobs").element_handle())

    # A change from Python is shown; a slider dragged wildly asks seldom and loses nobody.
    lab.run_cell(1)
    expect(page.get_by_test_id("knob-max_num_seqs")).to_have_value("5")
    slider = page.get_by_test_id("knob-size-slider")
    slider.focus()
    for key in ["End", "Home"] * 20 + ["End"]:
        page.keyboard.press(key)
    expect(headline).to_contain_text("Predicted")
    size = round(float(page.get_by_test_id("knob-size").input_value()) * 2**20)
    _, predicted = figures(lab, f"llm.predict(kv_cache_memory_bytes={size})")
    expect(page.get_by_test_id("knob-change")).to_contain_text(predicted["Blocks"])
    assert [
        len(tokens) for tokens in lab.ask("llm.resume() or [h.result().outputs[0].token_ids for h in handles]")
    ] == [
        80,
        80,
        80,
    ]
    assert not lab.console_errors


def test_quantization_is_a_knob(lab: LabPage) -> None:
    lab.open_cells("from workbench import LLM\nllm = LLM()\nllm.view('knobs')")
    lab.run_cell(0)
    page = lab.page
    expect(page.get_by_test_id("knob-headline")).to_contain_text("As it is now")
    # Sparsity on a device without a kernel for it: the prediction, and why it stays one.
    page.get_by_test_id("knob-sparsity").select_option(label="2:4")
    refusal = lab.ask("llm.predict(sparsity='2:4').refused")
    expect(page.get_by_test_id("knob-notice")).to_have_text(f"This would be refused: {refusal}.")
    before, predicted = figures(lab, "llm.predict(sparsity='2:4')")
    assert shown(lab)["Weights"] == [before["Weights"], predicted["Weights"]]
    assert before["Weights"] != predicted["Weights"]
    expect(page.get_by_test_id("knob-apply")).to_be_disabled()
    lab.screenshot("knobs-sparsity", page.get_by_test_id("workbench-knobs").element_handle())
    page.get_by_test_id("knob-sparsity").select_option(label="none")
    page.get_by_test_id("knob-quantization").select_option(label="int8")
    expect(page.get_by_test_id("knob-headline")).to_contain_text("Predicted")
    before, predicted = figures(lab, "llm.predict(quantization='int8')")
    expect(page.get_by_test_id("knob-change")).to_contain_text(predicted["Weights"])
    assert shown(lab)["Weights"] == [before["Weights"], predicted["Weights"]]
    page.get_by_test_id("knob-apply").click()
    expect(page.get_by_test_id("knob-headline")).to_contain_text("Changed")
    assert shown(lab)["Weights"][2] == told(lab.ask("dict(llm.predict().before._asdict())"))["Weights"]
    expect(page.get_by_test_id("knob-quantization")).to_have_value("1")
    assert lab.ask("llm.settings['quantization'][1]") == "int8"
    assert not lab.console_errors
