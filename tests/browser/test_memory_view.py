"""The memory view on a real engine: its rows, its account of waste and its device are Python's."""

from __future__ import annotations

from lab_page import LabPage
from playwright.sync_api import Locator, expect

from workbench.core.units import size_text

SETUP = """
from workbench import LLM, SamplingParams
llm = LLM(num_gpu_blocks_override=48, kv_cache_dtype="int8")
params = SamplingParams(temperature=0, max_tokens=80, ignore_eos=True)
llm.pause()
handles = [llm.submit(f"Once upon a time, a {who} went to the park and", params) for who in ("girl", "boy", "dog")]
llm.step(20)
llm.view("memory")
"""

MEMORY = "{row.name: row.bytes for row in llm.memory() if row.kind != 'other'}"
WASTE = "(lambda w: [w.bytes_per_token, list(w.samples[-1])])(llm.waste())"


def shown_size(size: float) -> str:
    return size_text(size).replace(" ", "\u00a0")


def bytes_of(text: str) -> float:
    number, unit = text.replace(",", "").split("\u00a0")
    return float(number) * {"B": 1, "KiB": 2**10, "MiB": 2**20}[unit]


def cells(table: Locator) -> list[list[str]]:
    return [row.locator("td").all_inner_texts() for row in table.locator("tr").all()]


def test_the_memory_view_shows_pythons_figures(lab: LabPage) -> None:
    lab.open_cells(SETUP)
    lab.run_cell(0)
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
