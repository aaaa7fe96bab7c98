"""The whole engine on Triton's kernels (on a CPU: through its interpreter), against transformers."""

from pathlib import Path

import pytest
import torch
import transformers
from random_models import greedy_answers

from workbench import LLM, SamplingParams
from workbench.core.errors import ConfigError
from workbench.core.scheduler_output import Action, Reason

NEW_TOKENS = 3

pytest.importorskip("triton", reason="Triton is not installed; its wheels are for Linux")


def test_greedy_answers_batched_and_chunked(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = transformers.Qwen3Config(
        vocab_size=97,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=3,
        num_key_value_heads=1,
        head_dim=12,
        max_position_embeddings=48,
        initializer_range=0.3,
        eos_token_id=2,
    )
    model = transformers.Qwen3ForCausalLM(config).eval()
    model.save_pretrained(tmp_path)
    prompts = [torch.randint(3, 97, (length,)).tolist() for length in (1, 4, 11)]
    wanted = greedy_answers(model, prompts, NEW_TOKENS)
    params = SamplingParams(temperature=0, max_tokens=NEW_TOKENS, ignore_eos=True)
    with LLM(str(tmp_path), block_size=4, max_num_batched_tokens=9, kernel_backend="triton") as llm:
        assert {choice.backend for choice in llm._loop.core.runner.kernel_choices} == {"triton"}
        outputs = llm.generate(prompts, params, use_tqdm=False)
        assert [list(output.outputs[0].token_ids) for output in outputs] == wanted
        decisions = [list(record.decisions) for record in llm.trace.records()]
    assert any(d.reason == Reason.CHUNK for step in decisions for d in step)
    assert max(sum(d.action == Action.DECODE for d in step) for step in decisions) == 3


def test_without_the_interpreter_a_cpu_is_told_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    if torch.cuda.is_available():
        pytest.skip("with a GPU, Triton compiles and needs no interpreter")
    from workbench_kernels import triton_support  # imports Triton

    monkeypatch.setattr(triton_support, "INTERPRETED", triton_support.tl.constexpr(False))
    with pytest.raises(ConfigError, match=r"(?s)kernel_backend='triton' cannot run here.*TRITON_INTERPRET=1"):
        LLM(kernel_backend="triton")


def test_an_unknown_backend_is_refused() -> None:
    with pytest.raises(ConfigError, match="numba, torch, triton"):
        LLM(kernel_backend="cuda")
