"""The bundled model's config and tokenizer, as transformers' auto classes would give them.

Those import the modelling code of transformers, whatever the model: half of the time to a reader's first LLM.
"""

import json
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig, PreTrainedTokenizerFast


def bundled_config(folder: Path) -> Any:
    """The config; the file states everything, so that no family's defaults are needed."""
    stated = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    rope = {"rope_type": "default", "rope_theta": stated.pop("rope_theta")}
    return PreTrainedConfig.from_dict({**stated, "rope_parameters": rope})


def bundled_tokenizer(folder: Path) -> Any:
    """The tokenizer."""
    return PreTrainedTokenizerFast.from_pretrained(folder)
