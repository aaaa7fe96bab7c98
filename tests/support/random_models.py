"""Small models with random weights, one per family, saved as a user would find them, with transformers' own answers."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

from workbench.core.config import ModelSpec
from workbench.runtime.threads import torch_threads

SMALL_SPEC = ModelSpec(
    name="m",
    architecture="A",
    backend="decoder",
    device="cpu",
    dtype="float32",
    vocab_size=100,
    max_model_len=1000,
    num_layers=2,
    hidden_size=64,
    num_heads=4,
    num_kv_heads=2,
    head_size=16,
    num_parameters=1,
    weight_bytes=4,
    kv_bytes_per_token=512,
    eos_token_ids=(),
)
VOCAB = 257
NEW_TOKENS = 24
_SHAPE = {
    "vocab_size": VOCAB,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "initializer_range": 0.2,  # large, so that greedy answers vary
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_GPT2 = {"vocab_size": VOCAB, "n_embd": 64, "n_layer": 3, "n_head": 4, "n_positions": 128, "initializer_range": 0.2}
_LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
_LINEAR_ROPE = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 3.0}


def _configs() -> dict[str, Any]:
    t = transformers
    return {
        "llama": t.LlamaConfig(**_SHAPE),
        "llama_tied_llama3_rope": t.LlamaConfig(**_SHAPE, tie_word_embeddings=True, rope_parameters=_LLAMA3_ROPE),
        "llama_biases_linear_rope": t.LlamaConfig(
            **_SHAPE, attention_bias=True, mlp_bias=True, rope_parameters=_LINEAR_ROPE
        ),
        "qwen2": t.Qwen2Config(**_SHAPE),
        "qwen2_some_layers_sliding": t.Qwen2Config(
            **_SHAPE, use_sliding_window=True, sliding_window=9, max_window_layers=1
        ),
        "qwen3": t.Qwen3Config(**_SHAPE, head_dim=24),
        "mistral_sliding": t.MistralConfig(**_SHAPE, sliding_window=9),
        "gemma": t.GemmaConfig(**_SHAPE, head_dim=32),
        "phi3_partial_rope": t.Phi3Config(**_SHAPE, partial_rotary_factor=0.5),
        "gpt2": t.GPT2Config(**_GPT2, bos_token_id=1, eos_token_id=2),
        "gemma2": t.Gemma2Config(
            **_SHAPE, head_dim=16, sliding_window=9, query_pre_attn_scalar=16, attn_logit_softcapping=2.0
        ),
    }


LEAN = (
    "llama",
    "llama_tied_llama3_rope",
    "llama_biases_linear_rope",
    "qwen2",
    "qwen2_some_layers_sliding",
    "qwen3",
    "mistral_sliding",
    "gemma",
    "phi3_partial_rope",
)
FALLBACK = ("gpt2", "gemma2")


def make_prompts() -> list[list[int]]:
    """Prompts around block ends, and three that begin alike."""
    generator = torch.Generator().manual_seed(1)

    def tokens(count: int) -> list[int]:
        return torch.randint(3, VOCAB, (count,), generator=generator).tolist()

    shared = tokens(33)
    return [tokens(1), tokens(4), tokens(17), tokens(40), shared + tokens(2), shared + tokens(7), shared + tokens(8)]


@dataclass(frozen=True)
class RandomModel:
    """A saved model, and what transformers' generate answers to each of make_prompts()."""

    name: str
    folder: Path
    answers: list[list[int]]


def save_random_model(name: str, folder: Path) -> RandomModel:
    """Make, save and ask a family's model."""
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(_configs()[name]).eval()
    for parameter_name, parameter in model.named_parameters():
        if parameter_name.endswith("bias") or "norm" in parameter_name:  # made as zeros and ones, which hide mistakes
            parameter.data += 0.1 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    return RandomModel(name, folder, greedy_answers(model, make_prompts(), NEW_TOKENS))


def greedy_answers(model: Any, prompts: list[list[int]], new_tokens: int) -> list[list[int]]:
    """transformers' own greedy tokens, one prompt at a time, past any end-of-sequence token."""
    model.generation_config.eos_token_id = None
    with torch_threads(1):  # two threads on a busy machine take many times longer for models so small
        return [
            model.generate(
                torch.tensor([prompt]),
                attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
                do_sample=False,
                max_new_tokens=new_tokens,
                pad_token_id=0,
            )[0, len(prompt) :].tolist()
            for prompt in prompts
        ]
