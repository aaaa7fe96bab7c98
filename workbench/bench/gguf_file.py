"""A Llama checkpoint as a GGUF file, for llama.cpp. Its vocabulary is made up: only token ids are sent to be measured.

The format is GGML's; the writer is the gguf package, which llama.cpp keeps. llama.cpp turns pairs of neighbours where
transformers turns halves, so the rows of queries and keys are put in that order.
"""

import json
from pathlib import Path
from typing import Any

from workbench.core.errors import ConfigError, MissingPackageError

# transformers' name of a layer's matrix -> GGUF's.
_LAYER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_WHOLE = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def write_gguf(folder: Path, path: Path, dtype: str) -> None:
    """Write folder's weights to path, matrices as float32, float16 or bfloat16, norms as float32.

    Raises MissingPackageError without the gguf package, ConfigError for another architecture.
    """
    try:
        import gguf  # type: ignore[import-untyped, unused-ignore]
    except ImportError as error:
        raise MissingPackageError("llama.cpp reads GGUF files; to write one: pip install gguf") from error
    from safetensors.torch import load_file

    config = json.loads((folder / "config.json").read_text())
    if config["model_type"] != "llama":
        raise ConfigError(f"only Llama checkpoints are written for llama.cpp, and {folder} is {config['model_type']!r}")
    writer = gguf.GGUFWriter(path, "llama")
    _describe(writer, config, gguf, dtype)
    weights: dict[str, Any] = {}
    for file in sorted(folder.glob("*.safetensors")):
        weights |= load_file(file)
    if config.get("tie_word_embeddings"):
        weights.pop("lm_head.weight", None)
    for name, tensor in weights.items():
        matrix = name.removesuffix(".weight")
        heads = {"q_proj": "num_attention_heads", "k_proj": "num_key_value_heads"}.get(matrix.rsplit(".", 1)[-1])
        _add(writer, gguf, _gguf_name(matrix), tensor if heads is None else _pairs(tensor, config[heads]), dtype)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _describe(writer: Any, config: dict[str, Any], gguf: Any, dtype: str) -> None:
    heads, size = config["num_attention_heads"], config.get("head_dim")
    size = size or config["hidden_size"] // heads
    rope = config.get("rope_parameters") or {}
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.get("num_key_value_heads") or heads)
    writer.add_key_length(size)
    writer.add_value_length(size)
    writer.add_rope_dimension_count(size)
    writer.add_rope_freq_base(float(rope.get("rope_theta") or config.get("rope_theta") or 10000.0))
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    kinds = gguf.LlamaFileType
    writer.add_file_type({"float32": kinds.ALL_F32, "float16": kinds.MOSTLY_F16, "bfloat16": kinds.MOSTLY_BF16}[dtype])
    from tokenizers.pre_tokenizers import ByteLevel

    tokens = sorted(ByteLevel.alphabet())
    tokens += [f"t{index}" for index in range(config["vocab_size"] - len(tokens))]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.NORMAL] * len(tokens))
    writer.add_token_merges(["t 1"])
    writer.add_add_bos_token(False)


def _gguf_name(matrix: str) -> str:
    if matrix in _WHOLE:
        return f"{_WHOLE[matrix]}.weight"
    _, _, layer, name = matrix.split(".", 3)
    return f"blk.{layer}.{_LAYER[name]}.weight"


def _pairs(tensor: Any, heads: int) -> Any:
    """Rows (heads, two halves) to (heads, neighbours in pairs)."""
    rows, columns = tensor.shape
    return tensor.view(heads, 2, rows // heads // 2, columns).transpose(1, 2).reshape(rows, columns)


def _add(writer: Any, gguf: Any, name: str, tensor: Any, dtype: str) -> None:
    import torch

    if tensor.ndim == 1 or dtype == "float32":
        writer.add_tensor(name, tensor.float().contiguous().numpy())
    elif dtype == "float16":
        writer.add_tensor(name, tensor.half().contiguous().numpy())
    else:
        raw = tensor.bfloat16().contiguous().view(torch.uint8).numpy()
        writer.add_tensor(name, raw, raw_dtype=gguf.GGMLQuantizationType.BF16)
