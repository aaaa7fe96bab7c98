"""The views of knobs and of memory on real engines: what they show is what Python says, before and after Apply."""

from __future__ import annotations

from typing import Any

from lab_page import LabPage
from playwright.sync_api import Locator, expect

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
WEIGHTS = """
from workbench.runtime import memory, model_runner
llm = LLM(num_gpu_blocks_override=256)
free_bytes = memory.free_bytes
llm.view('knobs')
"""
# From here on a device with half of the room that the full weights need beside those in force.
SMALL_DEVICE = """
runner = llm.client.loop.core.runner
held = lambda: runner.spec.weight_bytes + sum(row.bytes for row in runner.memory() if row.kind == 'kv')
total = held() + runner.predict_weight_bytes(None) // 2
memory.free_bytes = model_runner.free_bytes = lambda device: total - held()
"""
MEMORY_SETUP = """
llm = LLM(num_gpu_blocks_override=48, kv_cache_dtype="int8")
params = SamplingParams(temperature=0, max_tokens=80, ignore_eos=True)
llm.pause()
handles = [llm.submit(f"Once upon a time, a {who} went to the park and", params) for who in ("girl", "boy", "dog")]
llm.step(20)
llm.view("memory")
"""
CELLS = (SETUP, MAKE, WEIGHTS, SMALL_DEVICE, MEMORY_SETUP)

MEMORY = "{row.name: row.bytes for row in llm.memory() if row.kind != 'other'}"
WASTE = "(lambda w: [w.bytes_per_token, list(w.samples[-1])])(llm.waste())"


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


def test_knobs_predict_apply_and_show_what_was_measured(shared_lab: LabPage) -> None:
    lab = shared_lab
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


def test_quantization_is_a_knob(shared_lab: LabPage) -> None:
    lab = shared_lab
    lab.run_cell(2)
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

    # Too little memory for one call: the calls in order, as code, are those of predict; they work as they stand.
    lab.run_cell(3)
    page.get_by_test_id("knob-quantization").select_option(label="as in the checkpoint")
    codes = page.get_by_test_id("knob-calls").locator("code")
    expect(codes).to_have_count(3)
    lines = codes.all_inner_texts()
    assert lines == lab.ask("[call.code for call in llm.predict(quantization=None).calls]")
    lab.screenshot("knobs-calls", page.get_by_test_id("workbench-knobs").element_handle())
    lab.ask(f"[{', '.join(lines)}] and None")
    expect(page.get_by_test_id("knob-quantization")).to_have_value("0")
    lab.ask("[setattr(module, 'free_bytes', free_bytes) for module in (memory, model_runner)]")
    assert not lab.console_errors


def shown_size(size: float) -> str:
    return size_text(size).replace(" ", "\u00a0")


def bytes_of(text: str) -> float:
    number, unit = text.replace(",", "").split("\u00a0")
    return float(number) * {"B": 1, "KiB": 2**10, "MiB": 2**20}[unit]


def cells(table: Locator) -> list[list[str]]:
    return [row.locator("td").all_inner_texts() for row in table.locator("tr").all()]


def test_the_memory_view_shows_pythons_figures(shared_lab: LabPage) -> None:
    lab = shared_lab
    lab.run_cell(4)
    page = lab.page
    ledger = page.get_by_test_id("memory").locator(".iw-ledger").first
    expect(ledger).to_contain_text("KV cache's scales")
    shown = {name: size for name, size, _ in cells(ledger)}
    wanted = lab.ask(MEMORY)
    assert {"KV cache, in use", "KV cache, cached prefixes", "KV cache, free"} < set(wanted)
    for name, size in wanted.items():
        assert shown[name] == shown_size(size), name
    total = bytes_of(page.locator(".iw-total").inner_text().removesuffix(" in all"))
    rounded = 0.05 * len(shown) + 1  # MiB; from 100 MiB on, whole ones are shown
    assert abs(total - sum(map(bytes_of, shown.values()))) < rounded * 2**20

    per_token, sample = lab.ask(WASTE)
    held, used, tokens, power, longest = (sample[i] for i in (2, 3, 4, 6, 7))
    rows = cells(page.get_by_test_id("memory-waste"))
    assert [row[0] for row in rows] == ["in blocks", "next power of two", "max_model_len"]
    for row, slots, stored in zip(rows, (held, power, longest), (used, tokens, tokens), strict=True):
        assert row[2] == shown_size(slots * per_token)
        assert abs(float(row[3].split("%")[0]) / 100 - (1 - stored / slots)) < 0.006
    cores = lab.ask("llm.memory().device.name")
    expect(page.get_by_test_id("memory-device")).to_contain_text(f"{cores} · ")
    assert "in use by all processes" in page.get_by_test_id("memory-device").inner_text()

    element = page.get_by_test_id("workbench-memory").element_handle()
    lab.screenshot("memory-light", element)
    lab.set_theme("dark")
    lab.screenshot("memory-dark", element)
    assert [len(n) for n in lab.ask("llm.resume() or [h.result().outputs[0].token_ids for h in handles]")] == [80] * 3
    expect(page.get_by_test_id("memory-waste")).to_be_hidden()
    assert not lab.console_errors
