"""Which kernels an engine runs, as a table."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from workbench.tables import html_table, text_table

if TYPE_CHECKING:
    from workbench_kernels.dispatch import Choice

_HEADER = ("operation", "runs on", "why")


class Kernels(tuple["Choice", ...]):
    """One Choice (op, backend, reason) an operation, printed as a table; `kernels.backend("rms_norm")` is one's name.

    backend: "numba", "torch", "triton", or "yours" for one that the caller gave.
    """

    def backend(self, op: str) -> str:
        """The backend of that operation. Raises KeyError."""
        return {choice.op: choice.backend for choice in self}[op]

    def _lines(self) -> Sequence[tuple[str, ...]]:
        return [tuple(choice) for choice in self]

    def __repr__(self) -> str:
        return text_table(_HEADER, self._lines())

    def _repr_html_(self) -> str:
        return html_table(_HEADER, self._lines())
