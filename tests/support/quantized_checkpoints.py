"""A small random model saved in the formats of other quantizers, each by the library that keeps the format."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
import transformers

SHAPE = {
    "vocab_size": 257,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "initializer_range": 0.2,
    "eos_token_id": 2,
}


def make_model() -> Any:
    torch.manual_seed(0)
    return transformers.AutoModelForCausalLM.from_config(transformers.LlamaConfig(**SHAPE)).eval()


def _requantized(folder: Path, config: Any) -> None:
    plain = folder.parent / f"{folder.name}-plain"
    make_model().save_pretrained(plain)
    load = transformers.AutoModelForCausalLM.from_pretrained
    load(plain, quantization_config=config, dtype=torch.float32).save_pretrained(folder)


def _bitsandbytes(bits: int, folder: Path) -> None:
    four = {"bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": torch.float32} if bits == 4 else {}
    options = {"load_in_4bit": bits == 4, "load_in_8bit": bits == 8, **four}
    _requantized(folder, transformers.BitsAndBytesConfig(**options))


def _torchao(folder: Path) -> None:
    from torchao.quantization import Int8WeightOnlyConfig

    _requantized(folder, transformers.TorchAoConfig(Int8WeightOnlyConfig(version=2)))


def _fp8(folder: Path) -> None:
    make_model().save_pretrained(folder)
    path = folder / "model.safetensors"
    stored = {}
    for name, weight in safetensors.torch.load_file(path).items():
        stored[name] = weight
        if name.endswith("proj.weight"):
            scale = weight.abs().amax() / 448
            stored[name] = (weight / scale).to(torch.float8_e4m3fn)
            stored[f"{name}_scale_inv"] = scale.reshape(1, 1)
    safetensors.torch.save_file(stored, path, metadata={"format": "pt"})
    about = {"quant_method": "fp8", "weight_block_size": [128, 128], "activation_scheme": "dynamic"}
    declare(folder, about)


GROUP = 32


def rounded(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Numbers of 0 to 15, where 8 is nothing, in weight's shape; and the scales in groups, [outputs, groups]."""
    groups = weight.view(weight.shape[0], -1, GROUP)
    scales = (groups.abs().amax(-1) / 7.5).half().float()
    numbers = (groups / scales[..., None]).round().clamp(-8, 7) + 8
    return numbers.view_as(weight).long(), scales


def _packed(numbers: torch.Tensor, order: tuple[int, ...] = tuple(range(8))) -> torch.Tensor:
    # Eight in an int32, along the last dimension; the lowest four bits hold the one that `order` names first.
    shifts = 4 * torch.tensor(order).argsort()
    return (numbers.unflatten(-1, (-1, 8)) << shifts).sum(-1).to(torch.int32)


def _gptq(folder: Path) -> None:
    def store(numbers: torch.Tensor, scales: torch.Tensor) -> dict[str, torch.Tensor]:
        return {
            "qweight": _packed(numbers).T.contiguous(),
            "qzeros": _packed(torch.full(scales.T.shape, 7)),  # the format keeps them less one
            "g_idx": (torch.arange(numbers.shape[1]) // GROUP).int(),
        }

    about = {"quant_method": "gptq", "desc_act": False, "sym": True, "checkpoint_format": "gptq"}
    _four_bits(folder, about, store)


def _awq(folder: Path) -> None:
    order = (0, 2, 4, 6, 1, 3, 5, 7)

    def store(numbers: torch.Tensor, scales: torch.Tensor) -> dict[str, torch.Tensor]:
        return {
            "qweight": _packed(numbers.T.contiguous(), order),
            "qzeros": _packed(torch.full(scales.T.shape, 8), order),
        }

    _four_bits(folder, {"quant_method": "awq", "zero_point": True, "version": "gemm"}, store)


def _four_bits(folder: Path, about: dict[str, Any], store: Callable[..., dict[str, torch.Tensor]]) -> None:
    make_model().save_pretrained(folder)
    path, stored = folder / "model.safetensors", {}
    for name, weight in safetensors.torch.load_file(path).items():
        if name.endswith("proj.weight"):
            numbers, scales = rounded(weight)
            parts = {**store(numbers, scales), "scales": scales.T.contiguous().half()}
            stored |= {f"{name.removesuffix('weight')}{part}": value for part, value in parts.items()}
        else:
            stored[name] = weight
    safetensors.torch.save_file(stored, path, metadata={"format": "pt"})
    declare(folder, {**about, "bits": 4, "group_size": GROUP})


def declare(folder: Path, about: dict[str, Any]) -> None:
    """Write quantization_config into a folder's config.json."""
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "quantization_config": about}))


def _compressed_tensors(folder: Path) -> None:
    from compressed_tensors.compressors import ModelCompressor
    from compressed_tensors.quantization import (
        QuantizationArgs,
        QuantizationConfig,
        QuantizationScheme,
        apply_quantization_config,
    )

    model = make_model()
    weights = QuantizationArgs(num_bits=4, type="int", symmetric=True, strategy="group", group_size=32)
    scheme = QuantizationScheme(targets=["Linear"], weights=weights)
    config = QuantizationConfig(config_groups={"all": scheme}, ignore=["lm_head"], format="pack-quantized")
    apply_quantization_config(model, config)
    for module in model.modules():
        if hasattr(module, "weight_scale"):
            groups = module.weight.data.view(module.weight.shape[0], -1, 32)
            module.weight_scale.data = groups.abs().amax(-1) / 7.5
            if hasattr(module, "weight_zero_point"):
                module.weight_zero_point.data.zero_()
    compressor = ModelCompressor.from_pretrained_model(model)
    compressor.compress_model(model)
    model.save_pretrained(folder)
    compressor.update_config(str(folder))


_GGUF_NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def _gguf(folder: Path) -> None:
    import gguf

    folder.mkdir()
    writer = gguf.GGUFWriter(folder / "model.gguf", "llama")
    writer.add_context_length(SHAPE["max_position_embeddings"])
    writer.add_embedding_length(SHAPE["hidden_size"])
    writer.add_block_count(SHAPE["num_hidden_layers"])
    writer.add_feed_forward_length(SHAPE["intermediate_size"])
    writer.add_head_count(SHAPE["num_attention_heads"])
    writer.add_head_count_kv(SHAPE["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_dimension_count(16)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(SHAPE["vocab_size"])
    outer = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
    kind = gguf.GGMLQuantizationType.Q8_0
    for key, tensor in make_model().state_dict().items():
        base, value = key.removesuffix(".weight"), tensor.numpy()
        found = re.match(r"model\.layers\.(\d+)\.(.*)", base)
        name = outer[base] if found is None else f"blk.{found[1]}.{_GGUF_NAMES[found[2]]}"
        for part, heads in (("attn_q", 4), ("attn_k", 2)):
            if name.endswith(part):  # llama.cpp keeps the two halves of a rotation next to each other
                value = value.reshape(heads, 2, -1, value.shape[1]).swapaxes(1, 2).reshape(value.shape)
        if value.ndim == 2 and found is not None:
            writer.add_tensor(f"{name}.weight", gguf.quantize(np.ascontiguousarray(value), kind), raw_dtype=kind)
        else:
            writer.add_tensor(f"{name}.weight", value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


SAVE: dict[str, Callable[[Path], None]] = {
    "gguf": _gguf,
    "compressed-tensors": _compressed_tensors,
    "fp8": _fp8,
    "gptq": _gptq,
    "awq": _awq,
    "torchao": _torchao,
    "bitsandbytes-4": lambda folder: _bitsandbytes(4, folder),
    "bitsandbytes-8": lambda folder: _bitsandbytes(8, folder),
}
