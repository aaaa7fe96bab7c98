"""Who holds the memory: rows that add up to the process (on a GPU: to the device)."""

import psutil
import torch

from workbench.core.config import ModelSpec
from workbench.core.memory import MemoryRow


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
