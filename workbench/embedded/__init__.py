"""The model that ships with the workbench: where its files are, and text to try it on.

Nothing here imports torch. How the model was made stands in README.md beside this file, its figures in card.json.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path

_HERE = Path(__file__).parent


def model_path() -> Path:
    """Folder of the bundled model, in Hugging Face's layout (config, tokenizer, safetensors)."""
    return _HERE / "model"


def draft_path() -> Path:
    """Folder of the much smaller model with the same tokenizer, made to draft for the bundled one."""
    return _HERE / "draft"


def starters() -> list[dict[str, str]]:
    """Named story beginnings for the playground, each with a ``title`` and the ``text`` to continue."""
    found: list[dict[str, str]] = json.loads((_HERE / "starters.json").read_text(encoding="utf-8"))
    return found


def heldout_text() -> str:
    """About 60 KB of stories the model has not seen in training, separated by lines of ``<|endoftext|>``."""
    return gzip.decompress((_HERE / "heldout.txt.gz").read_bytes()).decode("utf-8")


__all__ = ["draft_path", "heldout_text", "model_path", "starters"]
