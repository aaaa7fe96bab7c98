"""The compare view in a cell: everything it shows is in the widget, so it needs no engine."""

import uuid
from typing import Any

import traitlets

from workbench.widgets.view_widget import ViewWidget


class CompareWidget(ViewWidget):
    """Made by Comparison.show(). comparison: what Comparison.to_json gives."""

    views = ("compare",)

    comparison = traitlets.Dict().tag(sync=True)

    def __init__(self, comparison: dict[str, Any], height: int = 0) -> None:
        super().__init__(f"compare-{uuid.uuid4().hex[:8]}", "compare", height)
        self.comparison = comparison

    def trace(self) -> None:
        """There is none: a comparison's own HTML is what stays in a saved notebook."""
        return None

    def answer(self) -> str:
        """Nothing is asked of it."""
        return ""

    def receive(self, content: Any) -> None:
        """The page has nothing to ask."""
