"""Who holds the memory: rows that add up to the process (on a GPU: to the device)."""

from collections.abc import Mapping
from typing import NamedTuple

import psutil
import torch

from workbench.core.memory import DeviceReading, MemoryRow


class Held(NamedTuple):
    """Bytes that the engine knows of. weights: stored as -> bytes. graphs: taken from the device to record steps.

    graphs_idle: of those, what the recordings leave unused.
    """

    weights: Mapping[str, int]
    kv: int
    kv_scales: int
    graphs: int = 0
    graphs_idle: int = 0


def ledger(held: Held, device: torch.device, reading: DeviceReading | None = None) -> list[MemoryRow]:
    """What the engine knows of, then the allocator's, then the rest of what is measured, so that nothing is missing."""
    rows = [MemoryRow(f"weights in {kind}", "weights", size) for kind, size in sorted(held.weights.items())]
    rows.append(MemoryRow("KV cache", "kv", held.kv))
    if held.kv_scales:
        rows.append(MemoryRow("KV cache's scales", "kv_scales", held.kv_scales))
    known = sum(row.bytes for row in rows)
    if device.type != "cuda":
        own = None if reading is None else reading.own_bytes
        resident = psutil.Process().memory_info().rss if own is None else own
        rows.append(MemoryRow("rest of this process (Python, libraries, workspace)", "other", resident - known))
        return rows
    reserved, allocated = torch.cuda.memory_reserved(device), torch.cuda.memory_allocated(device)
    slack = max(0, reserved - allocated - held.graphs_idle)
    rows.append(MemoryRow("activations and workspace", "workspace", reserved - slack - known - held.graphs))
    if held.graphs:
        rows.append(MemoryRow("CUDA graphs", "graphs", held.graphs))
    rows.append(MemoryRow("kept by torch's allocator, unused", "slack", slack))
    return [*rows, *_beyond_torch(device, reserved, reading)]


def _beyond_torch(device: torch.device, reserved: int, reading: DeviceReading | None) -> list[MemoryRow]:
    """What the device holds besides: told apart where NVML knows this process, else in one row."""
    if reading is None or reading.used_bytes is None:
        free, total = torch.cuda.mem_get_info(device)
        return [MemoryRow("other processes and CUDA itself", "other", total - free - reserved)]
    if reading.own_bytes is None:
        return [MemoryRow("other processes and CUDA itself", "other", reading.used_bytes - reserved)]
    others = sum(p.bytes or 0 for p in reading.processes) - reading.own_bytes
    return [
        MemoryRow("CUDA itself, for this process", "other", reading.own_bytes - reserved),
        MemoryRow("other processes", "other", others),
        MemoryRow(
            "the driver, and what no process is named for", "other", reading.used_bytes - reading.own_bytes - others
        ),
    ]
