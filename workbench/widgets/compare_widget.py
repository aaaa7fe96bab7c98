"""The compare view in a cell: everything it shows is in the widget, so it needs no engine."""

import uuid
from collections.abc import Callable
from typing import Any

import traitlets

from workbench.widgets.view_widget import ViewWidget


class CompareWidget(ViewWidget):
    """Made by Comparison.show(). comparison: what Comparison.to_json gives; page, text: the same where no view is."""

    views = ("compare",)

    comparison = traitlets.Dict().tag(sync=True)

    def __init__(self, comparison: dict[str, Any], page: str, text: str, height: int = 0) -> None:
        super().__init__(f"compare-{uuid.uuid4().hex[:8]}", "compare", height)
        self.comparison = comparison
        self._page, self._text = page, text

    def trace(self) -> None:
        """There is none: a comparison's own HTML is what stays in a saved notebook."""
        return None

    def _draw_still(self) -> tuple[object, Callable[[], str]]:
        return self._page, lambda: self._page

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]] | None:
        bundle = super()._repr_mimebundle_(**kwargs)
        return None if bundle is None else ({**bundle[0], "text/plain": self._text}, bundle[1])

    def answer(self) -> str:
        """Nothing is asked of it."""
        return ""

    def receive(self, content: Any) -> None:
        """The page has nothing to ask."""
