"""A decode step as contexts grow."""

import statistics
import time
from collections.abc import Sequence
from typing import Any

import torch
from tqdm import tqdm
from transformers import LlamaConfig

from workbench.bench.gpu import BLOCK, decode_plans, random_model
from workbench.core.config import EngineArgs, resolve_scheduler_config
from workbench.runtime.memory import pool_shape
from workbench.runtime.model_runner import TorchModelRunner

CONTEXTS = (128, 512, 2048, 8192, 16_384)
BATCH = 4  # requests that decode at one context
# The bundled model's shape, with room for long contexts; what the weights are makes no difference to the speed.
SHAPE = {
    "vocab_size": 4096,
    "hidden_size": 192,
    "intermediate_size": 512,
    "num_hidden_layers": 6,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "tie_word_embeddings": True,
}


def context_rows(rounds: int, contexts: Sequence[int] = CONTEXTS) -> list[dict[str, Any]]:
    """A step in which BATCH requests decode at one context each, in the bundled model's shape with random weights."""
    config = LlamaConfig(**SHAPE, max_position_embeddings=max(contexts) + 1)
    with torch.no_grad():
        loaded = random_model("bundled shape", config, torch.float32, torch.device("cpu"))
    rows = []
    for context in tqdm(contexts, desc="contexts", delay=1.0, leave=False):
        pool = pool_shape(loaded.spec, BATCH * (context // BLOCK + 2), BLOCK)
        args = EngineArgs(block_size=BLOCK, max_num_seqs=BATCH)
        runner = TorchModelRunner(loaded, resolve_scheduler_config(args, loaded.spec, pool))
        try:
            first, again = decode_plans(BATCH, context - 1)
            runner.execute(first)
            times = []
            for _ in range(3 * rounds):
                began = time.perf_counter()
                runner.execute(again)
                times.append(time.perf_counter() - began)
        finally:
            runner.close()
        step = statistics.median(times)
        rows.append(
            {
                "context": context,
                "ms per step": round(step * 1e3, 2),
                "tokens/s": round(BATCH / step),
                "KV read MiB": round(BATCH * context * loaded.spec.kv_bytes_per_token / 2**20, 1),
            }
        )
    return rows
