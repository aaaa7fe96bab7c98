"""How large the KV pool may be, and who holds the memory."""

import psutil
import torch

from workbench.core.config import EngineArgs, ModelSpec
from workbench.core.errors import KVCacheTooSmallError
from workbench.core.memory import MemoryRow
from workbench.runtime.kv_store import kv_bytes_per_block

# On a CPU: as many requests of full length as a batch is likely to have, so that a small model's pool can be looked at.
CPU_DEFAULT_REQUESTS = 16
CPU_DEFAULT_BYTES = 256 * 2**20
# A GPU's share for activations, as no forward has been measured when the pool is planned.
GPU_WORKSPACE_SHARE = 0.1


def plan_num_blocks(args: EngineArgs, spec: ModelSpec) -> int:
    """Blocks of the KV pool: num_gpu_blocks_override, else kv_cache_memory_bytes, else what the device has to give.

    On a GPU that is gpu_memory_utilization of its total memory, less what is in use and a share for activations. On a
    CPU it is what 16 requests of max_model_len tokens need, but at most 256 MiB, or what one such request needs if that
    is more, within gpu_memory_utilization of the memory available now.

    Raises KVCacheTooSmallError, with the arithmetic, where that is not one block.
    """
    per_block = kv_bytes_per_block(spec, args.block_size)
    if args.num_gpu_blocks_override is not None:
        return args.num_gpu_blocks_override
    if args.kv_cache_memory_bytes is not None:
        return _blocks(args.kv_cache_memory_bytes, per_block, args, "kv_cache_memory_bytes allows")
    if spec.device.startswith("cuda"):
        free, total = torch.cuda.mem_get_info(torch.device(spec.device))
        share = int(total * args.gpu_memory_utilization)
        left = share - (total - free) - int(share * GPU_WORKSPACE_SHARE)
        return _blocks(
            left, per_block, args, f"of {total:,} bytes, gpu_memory_utilization={args.gpu_memory_utilization} leaves"
        )
    longest = -(-spec.max_model_len // args.block_size) * per_block
    available = int(psutil.virtual_memory().available * args.gpu_memory_utilization)
    wanted = max(min(CPU_DEFAULT_REQUESTS * longest, CPU_DEFAULT_BYTES), longest)
    return _blocks(min(wanted, available), per_block, args, "the available memory allows")


def _blocks(num_bytes: int, per_block: int, args: EngineArgs, what: str) -> int:
    blocks = num_bytes // per_block
    if blocks < 1:
        raise KVCacheTooSmallError(
            f"one KV block of {args.block_size} tokens needs {per_block:,} bytes, and {what} {max(num_bytes, 0):,}; "
            "raise kv_cache_memory_bytes or gpu_memory_utilization, or lower block_size"
        )
    return blocks


def ledger(spec: ModelSpec, kv_bytes: int, closed: bool, graph_bytes: int = 0) -> list[MemoryRow]:
    """Weights, KV pool, CUDA graphs and the allocator's further memory (GPU only), and the rest: all that is held."""
    weights = 0 if closed else spec.weight_bytes
    rows = [MemoryRow("model weights", "weights", weights), MemoryRow("KV cache", "kv", kv_bytes)]
    if spec.device.startswith("cuda"):
        device = torch.device(spec.device)
        free, total = torch.cuda.mem_get_info(device)
        reserved = torch.cuda.memory_reserved(device)
        rows.append(MemoryRow("activations and workspace", "workspace", reserved - weights - kv_bytes - graph_bytes))
        if graph_bytes:
            rows.append(MemoryRow("CUDA graphs", "workspace", graph_bytes))
        rows.append(MemoryRow("other processes and CUDA itself", "other", total - free - reserved))
        return rows
    rest = psutil.Process().memory_info().rss - weights - kv_bytes
    rows.append(MemoryRow("rest of this process (Python, libraries, workspace)", "other", rest))
    return rows
