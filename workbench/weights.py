"""A model's weights as a table: which matrices are stored how, in how many bytes."""

import math
import re
from collections.abc import Iterator, Sequence
from typing import overload

from workbench.core.units import size_text
from workbench.core.weights import WeightRow
from workbench.tables import html_table, text_table

_HEADER = ("weights", "count", "shape", "stored as", "held", "bits a weight", "note")


class Weights(Sequence[WeightRow]):
    """One WeightRow a matrix; printed with the same matrices of all layers in one line."""

    def __init__(self, rows: Sequence[WeightRow]) -> None:
        self._rows = tuple(rows)

    @overload
    def __getitem__(self, index: int) -> WeightRow: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[WeightRow, ...]: ...
    def __getitem__(self, index: int | slice) -> WeightRow | tuple[WeightRow, ...]:
        return self._rows[index]

    def __iter__(self) -> Iterator[WeightRow]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def bytes(self) -> int:
        """Bytes of them all."""
        return sum(row.bytes for row in self._rows)

    def bytes_by_type(self) -> dict[str, int]:
        """How each byte is spent: "int8", "float32", ... -> bytes, scales and biases with the matrix they belong to."""
        found: dict[str, int] = {}
        for row in self._rows:
            found[row.stored_as] = found.get(row.stored_as, 0) + row.bytes
        return found

    def _lines(self) -> list[tuple[str, ...]]:
        groups: dict[tuple[str, tuple[int, ...], str, str], list[WeightRow]] = {}
        for row in self._rows:
            name = re.sub(r"^layer \d+ ", "each layer's ", re.sub(r"\.\d+\.", ".*.", row.name))
            groups.setdefault((name, row.shape, row.stored_as, row.note), []).append(row)
        lines = []
        for (name, shape, stored_as, note), rows in groups.items():
            held = sum(row.bytes for row in rows)
            bits = 8 * held / max(1, len(rows) * math.prod(shape))
            sizes = " × ".join(map(str, shape))
            lines.append((name, str(len(rows)), sizes, stored_as, size_text(held), f"{bits:.1f}", note))
        return [*lines, ("all", str(len(self._rows)), "", "", size_text(self.bytes), "", "")]

    def __repr__(self) -> str:
        return text_table(_HEADER, self._lines())

    def _repr_html_(self) -> str:
        return html_table(_HEADER, self._lines())
