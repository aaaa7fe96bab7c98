"""The memory ledger's line."""

from typing import NamedTuple


class MemoryRow(NamedTuple):
    """Bytes held for one purpose. kind: weights, kv, workspace or other."""

    name: str
    kind: str
    bytes: int
