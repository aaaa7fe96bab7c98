"""How large the KV pool may be, and what room the device has for another."""

import math
from collections.abc import Collection
from typing import Any, NamedTuple

import psutil
import torch

from workbench.core.config import EngineArgs, ModelSpec, PoolShape
from workbench.core.errors import DoesNotFitError, KVCacheTooSmallError
from workbench.runtime.kv_store import QUANTIZED, kv_bytes_per_token

# On a CPU: as many requests of full length as a batch is likely to have, so that a small model's pool can be looked at.
CPU_DEFAULT_REQUESTS = 16
CPU_DEFAULT_BYTES = 256 * 2**20
CPU_DEFAULT_UTILIZATION = EngineArgs().gpu_memory_utilization
# A GPU's share for activations, as no forward has been measured when the pool is planned.
GPU_WORKSPACE_SHARE = 0.1

_SIZES = ("gpu_memory_utilization", "kv_cache_memory_bytes")


def pool_shape(spec: ModelSpec, num_blocks: int, block_size: int, kv_cache_dtype: str = "auto") -> PoolShape:
    """A pool of so many blocks, with "auto" resolved to the model's dtype."""
    kind = kv_cache_dtype if kv_cache_dtype in QUANTIZED else spec.dtype
    return PoolShape(num_blocks, block_size, kind, kv_bytes_per_token(spec, kind) * block_size)


def plan_pool(
    args: EngineArgs, spec: ModelSpec, current: PoolShape | None = None, turned: Collection[str] = ()
) -> PoolShape:
    """The KV pool: num_gpu_blocks_override blocks, else kv_cache_memory_bytes, else what gpu_memory_utilization leaves.

    On a GPU that is gpu_memory_utilization of its total memory, less what others use and a share for activations. A
    computer's memory is not the engine's to fill, so on a CPU it is a share of a device that is imagined: its 0.9 hold
    the weights and 16 requests of max_model_len tokens (at most 256 MiB of KV, or one such request if that is more).

    current: the pool of a running engine, whose bytes count as free. turned: the settings that change; where none of
    them gives a size, the new pool gets the bytes of the current one.
    Raises KVCacheTooSmallError, with the arithmetic, where that is not one block.
    """
    per_block = pool_shape(spec, 1, args.block_size, args.kv_cache_dtype).bytes_per_block
    one_block = {"kv_cache_memory_bytes": per_block}
    if args.num_gpu_blocks_override is not None:
        blocks = args.num_gpu_blocks_override
    elif args.kv_cache_memory_bytes is not None:
        allowance = _Allowance(args.kv_cache_memory_bytes, "kv_cache_memory_bytes allows", one_block)
        blocks = _blocks(allowance, per_block, args)
    elif current is not None and not any(name in turned for name in _SIZES):
        blocks = _blocks(_Allowance(current.num_bytes, "the pool has", one_block), per_block, args)
    else:
        blocks = _blocks(_allowance(args, spec, per_block, current), per_block, args)
    return pool_shape(spec, blocks, args.block_size, args.kv_cache_dtype)


class _Allowance(NamedTuple):
    """Bytes for the pool, a clause that says why so many, and the setting that would just allow one block."""

    bytes: int
    what: str
    instead: dict[str, Any]


def _allowance(args: EngineArgs, spec: ModelSpec, per_block: int, current: PoolShape | None) -> _Allowance:
    """What gpu_memory_utilization leaves for the pool."""
    share, held = args.gpu_memory_utilization, 0 if current is None else current.num_bytes
    if spec.device.startswith("cuda"):
        free, total = torch.cuda.mem_get_info(torch.device(spec.device))
        others = total - free - held
        workspace = int(total * share * GPU_WORKSPACE_SHARE)
        what = (
            f"gpu_memory_utilization={share} of {total:,} bytes, less {others:,} in use (weights among them) and "
            f"{workspace:,} for activations, leaves"
        )
        needed = (others + per_block) / (total * (1 - GPU_WORKSPACE_SHARE))
        return _Allowance(int(total * share) - others - workspace, what, _share(needed))
    longest = -(-spec.max_model_len // args.block_size) * per_block
    wanted = max(min(CPU_DEFAULT_REQUESTS * longest, CPU_DEFAULT_BYTES), longest)
    device = (spec.weight_bytes + wanted) / CPU_DEFAULT_UTILIZATION
    left = round(device * share) - spec.weight_bytes
    available = psutil.virtual_memory().available + held
    if left > available:
        return _Allowance(available, "the available memory allows", {})
    what = (
        f"gpu_memory_utilization={share} of an imagined device of {device:,.0f} bytes, less {spec.weight_bytes:,} of "
        "weights, leaves"
    )
    return _Allowance(left, what, _share((spec.weight_bytes + per_block) / device))


def _share(needed: float) -> dict[str, Any]:
    """The smallest share of four digits that is enough; none where that is more than all."""
    share = math.ceil(needed * 1e4 + 0.01) / 1e4
    return {"gpu_memory_utilization": share} if share <= 1 else {}


def _blocks(allowance: _Allowance, per_block: int, args: EngineArgs) -> int:
    blocks = allowance.bytes // per_block
    if blocks < 1:
        have = max(allowance.bytes, 0)
        enough = ", ".join(f"{name}={value}" for name, value in allowance.instead.items())
        raise KVCacheTooSmallError(
            f"one KV block of {args.block_size} tokens needs {per_block:,} bytes, and {allowance.what} {have:,}",
            per_block,
            have,
            f"{enough or 'more memory'} would hold one block; a lower block_size needs less",
            allowance.instead,
        )
    return blocks


def check_room(device: torch.device, old: PoolShape, new: PoolShape) -> None:
    """Raise DoesNotFitError if the device has not the memory to change `old` into `new`.

    A pool that is made anew is freed first. One that only changes its size is copied, one layer at a time; that extra
    layer is not counted.
    """
    more = new.num_bytes - old.num_bytes
    if more <= 0:
        return
    free = free_bytes(device)
    if more > free:
        fits = (old.num_bytes + free) // new.bytes_per_block
        raise DoesNotFitError(
            f"a KV pool of {new.num_blocks} blocks of {new.bytes_per_block:,} bytes needs {new.num_bytes:,} bytes, "
            f"{more:,} more than the pool has now, and {device} has {free:,} free",
            more,
            free,
            f"at most {fits} blocks fit (kv_cache_memory_bytes={fits * new.bytes_per_block})",
            {"kv_cache_memory_bytes": fits * new.bytes_per_block} if fits else {},
        )


def free_bytes(device: torch.device) -> int:
    """Memory that can still be allocated: the device's free memory and what torch's allocator keeps unused."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return psutil.virtual_memory().available
