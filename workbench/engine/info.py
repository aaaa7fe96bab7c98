"""What never changes about an engine while it lives: for the views' greeting and the header of a saved trace."""

from collections.abc import Sequence
from typing import Any

from workbench.core.config import ModelSpec, SchedulerConfig
from workbench.core.settings import Settings


def engine_info(
    engine_id: str, spec: ModelSpec, config: SchedulerConfig, settings: Settings, starters: Sequence[dict[str, str]]
) -> dict[str, Any]:
    """EngineInfo of extension/PROTOCOL.md. starters: prompts that the playground offers, each with title and text."""
    return {
        "engine_id": engine_id,
        "model": spec.name,
        "architecture": spec.architecture,
        "backend": spec.backend,
        "device": spec.device,
        "dtype": spec.dtype,
        "max_model_len": spec.max_model_len,
        "vocab_size": spec.vocab_size,
        "num_parameters": spec.num_parameters,
        "num_layers": spec.num_layers,
        "weight_bytes": spec.weight_bytes,
        "settings": {name: [str(row.requested), str(row.resolved)] for name, row in settings.items()},
        "starters": list(starters),
    }
