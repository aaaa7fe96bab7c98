"""Config and tokenizer of any model folder, through transformers' auto classes."""

import json
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoTokenizer
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from workbench.core.errors import ModelLoadError, UnsafeModelError
from workbench.runtime.checkpoints import check_library


def read_config(folder: Path, trust_remote_code: bool, gguf_file: str | None) -> Any:
    """A causal language model's config. Raises ModelLoadError, or UnsafeModelError for code in the folder."""
    if gguf_file is not None:
        check_library("gguf")
        try:
            return AutoConfig.from_pretrained(folder, gguf_file=gguf_file)
        except Exception as error:  # transformers raises many kinds for a file that it cannot use
            raise ModelLoadError(f"transformers cannot read {folder / gguf_file}: {error}") from error
    path = folder / "config.json"
    if not path.is_file():
        raise ModelLoadError(f"{folder} has no config.json, so it is not a Hugging Face model folder")
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelLoadError(f"{path} cannot be read: {error}") from error
    if not isinstance(raw, dict):
        raise ModelLoadError(f"{path} cannot be read: it holds no JSON object")
    if raw.get("auto_map") and not trust_remote_code:
        raise UnsafeModelError(
            f"{folder} wants to run its own Python code (auto_map in config.json); read that code, and pass "
            "trust_remote_code=True if you trust it"
        )
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
    except Exception as error:  # transformers raises many kinds for a config that it cannot use
        raise ModelLoadError(f"transformers cannot read {path}: {error}") from error
    if config.is_encoder_decoder or not _is_causal_lm(config, raw):
        names = ", ".join(config.architectures or ["no architecture named"])
        raise ModelLoadError(
            f"{folder} holds a {config.model_type!r} model ({names}), which is not a causal language model; only those "
            "generate text token by token"
        )
    return config


def _is_causal_lm(config: Any, raw: dict[str, Any]) -> bool:
    if "AutoModelForCausalLM" in (raw.get("auto_map") or {}):
        return True
    if config.model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return False
    known = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[config.model_type]
    names = config.architectures
    return not names or known in names or any(name.endswith(("ForCausalLM", "LMHeadModel")) for name in names)


def read_tokenizer(folder: Path, trust_remote_code: bool) -> Any:
    """The folder's tokenizer. Raises ModelLoadError."""
    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
    except Exception as error:  # transformers raises many kinds for a tokenizer that it cannot use
        raise ModelLoadError(f"the tokenizer in {folder} cannot be read: {error}") from error
