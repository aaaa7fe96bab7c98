"""The dashboard on a page, through what a reader sees and presses."""

from __future__ import annotations

import re
from typing import Any

from lab_page import LabPage
from playwright.sync_api import FloatRect, Locator, expect

# The page's side of the engine whose view came last: the widgets of a page meet under this name.
SESSION = "[...globalThis[Symbol.for('inference-workbench')].sessions.values()].at(-1)"

STATE_FIELDS = ("step", "block_tables", "ref_counts", "block_hashes", "free_blocks", "waiting", "running")


def plain(state: str) -> str:
    """The Python expression that makes plain values of a Snapshot, in the page's shape."""
    fields = ", ".join(f"'{name}': _s.{name}" for name in STATE_FIELDS)
    return f"(lambda _s: __import__('json').loads(__import__('json').dumps({{{fields}}})))({state})"


class Dashboard:
    """One dashboard, by the ids that the front end gives its parts for tests."""

    def __init__(self, lab: LabPage) -> None:
        self.page = lab.page
        self.root = lab.page.get_by_test_id("workbench-dashboard")

    def part(self, name: str) -> Locator:
        """The element with this test id."""
        return self.root.get_by_test_id(name)

    def press(self, name: str) -> None:
        self.part(name).click()

    def scroll_to(self, view: str) -> None:
        """Bring one view into sight; a view out of sight is not drawn."""
        self.root.locator(f".iw-panel-{view}").scroll_into_view_if_needed()

    def box_down_to(self, view: str) -> FloatRect:
        """Where the dashboard lies on the page, from its top to the end of one view."""
        top, last = self.root.bounding_box(), self.root.locator(f".iw-panel-{view}").bounding_box()
        assert top is not None
        assert last is not None
        return {"x": top["x"], "y": top["y"], "width": top["width"], "height": last["y"] + last["height"] - top["y"]}

    @property
    def mode(self) -> str:
        """running, paused, idle, ..."""
        return self.part("state").inner_text()

    def wait_mode(self, mode: str) -> None:
        expect(self.part("state")).to_have_text(mode)

    @property
    def step(self) -> int:
        """The step that the time cursor shows; -1 if there is none."""
        found = re.search(r"step (.+)", self.part("position").inner_text())
        return int(re.sub(r"\D", "", found[1])) if found else -1

    def wait_step(self, step: int) -> None:
        """Wait until the engine's newest step on this page is that one or a later one."""
        self.page.wait_for_function(f"step => ({SESSION}.stateAt('live')?.step ?? -1) >= step", arg=step)

    def state(self, cursor: int | str = "live") -> dict[str, Any]:
        """The state that the views draw for a step, by the names of the engine's snapshot."""
        return dict(self.page.evaluate(f"cursor => {SESSION}.stateAt(cursor)", cursor))

    @property
    def selected_request(self) -> str | None:
        """The request that all views have picked."""
        found: str | None = self.page.evaluate(f"() => {SESSION}.selection.request")
        return found

    def completions(self) -> list[str]:
        """The texts of the playground's columns that have one."""
        return [text for text in self.root.locator(".iw-panel-playground .iw-tokens").all_inner_texts() if text]

    def wait_completions(self, count: int) -> None:
        """Wait until that many columns of the playground show text."""
        self.page.wait_for_function(
            "count => [...document.querySelectorAll('.iw-panel-playground .iw-tokens')]"
            ".filter(element => element.textContent).length >= count",
            arg=count,
        )

    def blocks_pointed_at(self, columns: int, rows: int) -> dict[int, str]:
        """Point at a grid of places in the block map; what the card said of each block that was met."""
        self.scroll_to("blocks")
        box = self.part("block-map").locator("canvas").first.bounding_box()
        assert box is not None
        card = self.root.locator(".iw-panel-blocks").get_by_test_id("hover-card")
        found = {}
        for row in range(rows):
            for column in range(columns):
                x = box["x"] + box["width"] * (column + 0.5) / columns
                y = box["y"] + box["height"] * (row + 0.5) / rows
                self.page.mouse.move(x, y)
                if card.is_visible():
                    title, *lines = card.inner_text().replace("\t", " ").splitlines()
                    found[int(title.removeprefix("Block ").replace(",", ""))] = " ".join(lines)
        self.page.mouse.move(0, 0)
        return found
