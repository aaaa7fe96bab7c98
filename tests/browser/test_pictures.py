"""The README's pictures, taken from the running product: `make screenshot` puts them into notebooks/images."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from dashboard import Dashboard
from lab_page import LabPage
from playwright.sync_api import expect

# A small pool and budget, so that one picture holds all there is to see: sharing, waiting, chunked prefill, preemption.
SETUP = """
from workbench import LLM, SamplingParams
llm = LLM(num_gpu_blocks_override=40, max_num_seqs=7, max_num_batched_tokens=64)
llm.pause()
llm.dashboard()
"""

PROMPTS = [
    "Once upon a time, there was a little girl named Lily. She loved to",
    "In a small house near the woods, there lived a brave little mouse named Max.",
    "One day, Tom and his dog Spot went to the big park. Tom could not find his",
    'Sara found a big old tree behind her house. She touched it, and the tree said, "Hello',
]

SCENE = """
story = ("Once upon a time, there was a little girl named Mia. She loved to play outside in the sunshine with her best "
         "friend, a small brown puppy. They ran over the green grass and ")
params = SamplingParams(temperature=0.7, max_tokens=110, seed=5, logprobs=2, ignore_eos=True)
llm.step(14)
family = [llm.submit(story + ending, params) for ending in ("saw a bird", "found a key", "sang a song")]
llm.step(30)
late = [llm.submit(text, params) for text in (
    "The old bear was very sleepy because", "Tom wanted to build a boat, so", "One rainy day, Anna")]
llm.step(75)
None
"""


@pytest.fixture
def scene(lab: LabPage) -> Dashboard:
    """A paused engine in the middle of its work, the same at each run: every request has a seed."""
    lab.page.set_viewport_size({"width": 1500, "height": 2600})
    lab.open_cells(SETUP, SCENE)
    lab.run_cell(0)
    dashboard = Dashboard(lab)
    dashboard.wait_mode("paused")
    for _ in PROMPTS[2:]:
        dashboard.press("add-prompt")
    for index, prompt in enumerate(PROMPTS):
        dashboard.part(f"prompt-{index}").fill(prompt)
    dashboard.part("param-seed").fill("3")
    dashboard.press("run")
    expect(dashboard.part("stat-waiting")).to_contain_text("4")
    lab.run_cell(1)
    dashboard.wait_step(110)
    dashboard.scroll_to("controls")
    decided = lab.ask("sorted({str(d.action) for record in llm.trace for d in record.decisions})")
    ended = lab.ask("sorted({f.finish_reason for record in llm.trace for f in record.finished})")
    assert decided == ["decode", "preempt", "prefill", "wait"], "the picture should show all that a step can decide"
    assert "error" not in ended
    return dashboard


def test_screenshot_of_the_dashboard_in_both_themes(lab: LabPage, scene: Dashboard) -> None:
    for theme, name in (("light", "dashboard"), ("dark", "dashboard-dark")):
        lab.set_theme(theme)
        lab.page.mouse.move(0, 0)
        lab.page.wait_for_timeout(1000)  # the views draw at their own pace
        picture = lab.screenshot(name, clip=scene.box_down_to("latency"))
        width, height = size_of(picture)
        assert width > 1000
        assert height > 800
        assert picture.stat().st_size < 400_000, "too large to sit in the repository"
    assert not lab.console_errors


def size_of(png: Path) -> tuple[int, int]:
    """Width and height of a PNG file."""
    width, height = struct.unpack(">II", png.read_bytes()[16:24])
    return width, height
