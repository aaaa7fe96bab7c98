"""Changes that fit only one after the other: which calls of `configure`, in which order, with the arithmetic."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from workbench.core.config import POOL_SETTINGS, PoolShape
from workbench.core.units import size_text
from workbench.engine.knobs import SIZES


class Call(NamedTuple):
    """Arguments of `configure`, and why this one is needed at this place."""

    settings: Mapping[str, Any]
    why: str

    @property
    def code(self) -> str:
        """The call as a line to copy."""
        told = ", ".join(f"{name}={value!r}" for name, value in self.settings.items())
        return f"llm.configure({told})"


class Room(NamedTuple):
    """Bytes: of the weights now and those asked for, and what is free on the device."""

    old_weights: int
    new_weights: int
    free: int


def calls_in_order(changes: Mapping[str, Any], now: PoolShape, wanted: PoolShape, room: Room) -> tuple[Call, ...]:
    """For changes with new weights: the pool makes room, the weights change, the pool takes what the old ones held.

    The new weights lie beside the old ones until they are in force; that is all that has to fit at a time. Empty where
    one call would do, or where the pool cannot give up enough.
    """
    lacking = max(0, room.new_weights - room.free)
    given = -(-lacking // now.bytes_per_block)
    left = now.num_blocks - given
    if left < 1:
        return ()
    small = left * now.bytes_per_block
    calls = []
    if given:
        calls.append(
            Call(
                {"kv_cache_memory_bytes": small},
                f"the new weights need {size_text(room.new_weights)} beside the old ones and {size_text(room.free)} "
                f"are free: the pool gives up {given:,} of {now.num_blocks:,} blocks",
            )
        )
    calls.append(
        Call(
            {name: value for name, value in changes.items() if name not in POOL_SETTINGS},
            f"the old weights, {size_text(room.old_weights)}, go once the new ones are in force",
        )
    )
    free = room.free + (now.num_blocks - left) * now.bytes_per_block - room.new_weights + room.old_weights
    blocks = min(wanted.num_blocks, (small + free) // wanted.bytes_per_block)
    kept = {name: value for name, value in changes.items() if name in POOL_SETTINGS and name not in SIZES}
    if blocks >= 1 and (kept or blocks * wanted.bytes_per_block != small):
        part = "" if blocks == wanted.num_blocks else f", the most that fits of {size_text(wanted.num_bytes)}"
        calls.append(
            Call(
                {**kept, "kv_cache_memory_bytes": blocks * wanted.bytes_per_block},
                f"{size_text(free)} are free then: the pool takes {size_text(blocks * wanted.bytes_per_block)}{part}",
            )
        )
    return tuple(calls) if len(calls) > 1 else ()
