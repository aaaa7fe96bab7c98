"""Packed 2:4 weights on a GPU that multiplies by them: their bytes, and the same logits as with zeros stored."""

import pytest
import torch
import transformers

from workbench import LLM


def refusal() -> str | None:
    """Why there is nothing to test here."""
    if not torch.cuda.is_available():
        return "needs a CUDA device, and torch sees none here"
    have = torch.cuda.get_device_capability()
    return None if have >= (8, 0) else f"needs compute capability 8.0, and this GPU has {have}"


pytestmark = pytest.mark.skipif(refusal() is not None, reason=str(refusal()))


def test_packed_weights_give_the_logits_of_the_same_weights_in_full(tmp_path):
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=1000,
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.1,
    )
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    prompt = [7 * i % 1000 for i in range(40)]
    with LLM(str(tmp_path), dtype="bfloat16", num_gpu_blocks_override=64) as llm:
        full = llm.logits(prompt)
        change = llm.configure(sparsity="2:4")
        assert change.measured.weight_bytes == change.predicted.weight_bytes < change.before.weight_bytes
        assert "2:4 bfloat16" in llm.weights().bytes_by_type()
        assert any(row.name == "weights in 2:4 bfloat16" for row in llm.memory())
        packed = llm.logits(prompt)
        llm.configure(sparsity="2:4-dense")
        dense = llm.logits(prompt)
        scale = dense.abs().max()
        assert (packed - dense).abs().max() < 0.02 * scale
        assert (full - dense).abs().max() > 0.1 * scale, "pruning the wrong way would not show"
        llm.configure(sparsity=None)
        assert torch.equal(llm.logits(prompt), full)
