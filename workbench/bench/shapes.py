"""What the measurements run on: the bundled model, or random weights in the shape of a known one."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from workbench.core.errors import ConfigError
from workbench.embedded import model_path

BUNDLED = "bundled"

# What the weights are makes no difference to the speed.
SHAPES: dict[str, dict[str, Any]] = {
    "135M": {  # SmolLM2-135M's
        "vocab_size": 49152,
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "max_position_embeddings": 2048,
        "tie_word_embeddings": True,
    },
    "0.6B": {  # Qwen3-0.6B's, without its norms of queries and keys
        "vocab_size": 151936,
        "hidden_size": 1024,
        "intermediate_size": 3072,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "max_position_embeddings": 2048,
        "tie_word_embeddings": True,
    },
}


@contextmanager
def model_folder(name: str) -> Iterator[str]:
    """A folder with that model: "bundled" or one of SHAPES, made in bfloat16 and deleted at the end.

    Raises ConfigError for another name.
    """
    if name == BUNDLED:
        yield str(model_path())
        return
    if name not in SHAPES:
        raise ConfigError(f"no model {name!r} to measure; there are {', '.join([BUNDLED, *SHAPES])}")
    with tempfile.TemporaryDirectory() as folder:
        save_random(Path(folder), SHAPES[name])
        yield folder


def save_random(folder: Path, shape: dict[str, Any]) -> None:
    """Write a checkpoint with random weights, the same each time."""
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(LlamaConfig(**shape), dtype=torch.bfloat16).save_pretrained(folder)
