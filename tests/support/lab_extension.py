"""The JupyterLab extension on a page: its sidebar, panels and status bar."""

from __future__ import annotations

from typing import Any

from lab_page import LabPage
from playwright.sync_api import Locator, expect

PAGE_STATE = "id => globalThis[Symbol.for('inference-workbench')]?.sessions.get(id)?.stateAt('live') ?? null"


class Workbench:
    """What a reader has of the extension, by the ids that it gives its parts for tests."""

    def __init__(self, lab: LabPage) -> None:
        self.lab = lab
        self.page = lab.page
        self.sidebar = lab.page.get_by_test_id("workbench-sidebar")
        self.engines = self.sidebar.get_by_test_id("sidebar-engine")
        self.status = lab.page.get_by_test_id("workbench-status")

    def run(self, command: str, **args: Any) -> None:
        """Execute one of the extension's commands."""
        script = (
            "([id, args]) => window.jupyterapp.commands.execute('inference-workbench:' + id, args).then(() => null)"
        )
        self.page.evaluate(script, [command, args])

    def show_sidebar(self) -> None:
        self.run("show-sidebar")
        expect(self.sidebar).to_be_visible()

    def card(self, engine_id: str) -> Locator:
        """The sidebar's entry of an engine."""
        return self.sidebar.locator(f"[data-engine='{engine_id}']")

    def figures(self, engine_id: str) -> dict[str, str]:
        """What the sidebar says of an engine."""
        names = ("state", "facts", "rate", "kv", "running", "waiting")
        return {name: self.card(engine_id).get_by_test_id(f"engine-{name}").inner_text() for name in names}

    def panel(self, view: str) -> Locator:
        """The panels of a view."""
        return self.page.get_by_test_id(f"panel-{view}")

    def open(self, engine_id: str, view: str) -> Locator:
        """Open a view with the sidebar's button; returns its panel."""
        self.card(engine_id).get_by_test_id(f"open-{view}").click()
        panel = self.panel(view)
        expect(panel.get_by_test_id(f"workbench-{view}")).to_be_visible()
        return panel

    def wait_step(self, engine_id: str, step: int) -> None:
        """Wait until the page's views of an engine have reached a step."""
        self.page.wait_for_function(f"([id, step]) => (({PAGE_STATE})(id)?.step ?? -2) >= step", arg=[engine_id, step])

    def state(self, engine_id: str) -> Any:
        """The engine's newest state as the page's views have it."""
        return self.page.evaluate(PAGE_STATE, engine_id)
