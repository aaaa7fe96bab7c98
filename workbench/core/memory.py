"""The memory ledger's lines, and what a device says of itself."""

from typing import NamedTuple


class MemoryRow(NamedTuple):
    """Bytes held for one purpose.

    kind: weights, kv (in views kv_used, kv_cached and kv_free), kv_scales, workspace, graphs, slack or other.
    """

    name: str
    kind: str
    bytes: int


class ProcessMemory(NamedTuple):
    """A process that holds memory of a GPU. bytes: None where the driver does not tell."""

    pid: int
    bytes: int | None


class DeviceReading(NamedTuple):
    """What a device said when it was asked; None for what it does not tell. problem: why it told nothing.

    used_bytes: by all processes; own_bytes: by this one. utilization: of a GPU, the share of the last moments in which
    a kernel ran; of a CPU, the share of all cores that this process used since it was asked before.
    """

    name: str
    source: str
    total_bytes: int | None = None
    used_bytes: int | None = None
    own_bytes: int | None = None
    utilization: float | None = None
    power_watts: float | None = None
    power_limit_watts: float | None = None
    clock_mhz: int | None = None
    memory_clock_mhz: int | None = None
    temperature_celsius: int | None = None
    processes: tuple[ProcessMemory, ...] = ()
    problem: str | None = None
