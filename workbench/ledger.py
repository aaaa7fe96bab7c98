"""The memory ledger for readers: rows, their total, and what the device says of itself."""

import html
from collections.abc import Sequence
from typing import overload

from workbench.core.memory import DeviceReading, MemoryRow
from workbench.core.units import size_text
from workbench.tables import html_table, text_table

_HEADER = ("memory", "held", "share", "")
_BAR = 24


class Ledger(Sequence[MemoryRow]):
    """One MemoryRow a purpose; they add up to `total`, which on a GPU is all that is used of it, and on a CPU what the
    system says that this process holds. device: the reading that it is held against."""

    def __init__(self, rows: Sequence[MemoryRow], device: DeviceReading) -> None:
        self._rows = tuple(rows)
        self.device = device

    @overload
    def __getitem__(self, index: int) -> MemoryRow: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[MemoryRow, ...]: ...
    def __getitem__(self, index: int | slice) -> MemoryRow | tuple[MemoryRow, ...]:
        return self._rows[index]

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def total(self) -> int:
        """Bytes of them all."""
        return sum(row.bytes for row in self._rows)

    def by_kind(self) -> dict[str, int]:
        """Bytes of each kind: weights, kv_used, kv_cached, kv_free, kv_scales, workspace, graphs, slack, other."""
        found: dict[str, int] = {}
        for row in self._rows:
            found[row.kind] = found.get(row.kind, 0) + row.bytes
        return found

    def device_text(self) -> str:
        """The device in one line."""
        device = self.device
        if device.problem is not None:
            return f"{device.name}: {device.problem}"
        said = [device.name]
        if device.used_bytes is not None and device.total_bytes is not None:
            said.append(f"{size_text(device.used_bytes)} of {size_text(device.total_bytes)} in use by all processes")
        if device.utilization is not None:
            said.append(f"{device.utilization:.0%} busy")
        if device.power_watts is not None:
            limit = "" if device.power_limit_watts is None else f" of {device.power_limit_watts:.0f}"
            said.append(f"{device.power_watts:.0f}{limit} W")
        if device.clock_mhz is not None:
            said.append(f"{device.clock_mhz} MHz")
        if device.temperature_celsius is not None:
            said.append(f"{device.temperature_celsius} °C")
        return ", ".join(said)

    def _lines(self) -> list[tuple[str, str, str, str]]:
        total = max(self.total, 1)
        lines = [
            (row.name, size_text(row.bytes), f"{row.bytes / total:.1%}", "█" * round(_BAR * row.bytes / total))
            for row in self._rows
        ]
        return [*lines, ("all", size_text(self.total), "", "")]

    def __repr__(self) -> str:
        return f"{text_table(_HEADER, self._lines())}\n{self.device_text()}"

    def _repr_html_(self) -> str:
        return f"{html_table(_HEADER, self._lines())}<div>{html.escape(self.device_text())}</div>"
