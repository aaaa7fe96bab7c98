"""What only a GPU can show. The kernels' own tests (tests/kernels/test_triton.py) run on it too where there is one."""

from pathlib import Path

import pytest
import torch
import transformers

from workbench import LLM, SamplingParams
from workbench.core.config import EngineArgs, resolve_scheduler_config
from workbench.runtime.loader import load_model
from workbench.runtime.memory import pool_shape
from workbench.runtime.model_runner import TorchModelRunner

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and torch sees none here")

NEW_TOKENS = 40
LENGTHS = (1, 15, 16, 17, 64, 65, 130, 300)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    config = transformers.Qwen3Config(
        vocab_size=1000,
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=8,
        num_key_value_heads=2,
        head_dim=64,
        max_position_embeddings=512,
        initializer_range=0.1,
        eos_token_id=2,
    )
    path = tmp_path_factory.mktemp("model")
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(path)
    return path


def prompts() -> list[list[int]]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(3, 1000, (length,), generator=generator).tolist() for length in LENGTHS]


@pytest.fixture(scope="module")
def wanted(folder: Path) -> list[list[int]]:
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval().cuda()
    model.generation_config.eos_token_id = None
    found = []
    for prompt in prompts():
        ids = torch.tensor([prompt], device="cuda")
        out = model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=NEW_TOKENS, pad_token_id=0
        )
        found.append(out[0, len(prompt) :].tolist())
    return found


def answers(folder: Path, **settings: object) -> list[list[int]]:
    params = SamplingParams(temperature=0, max_tokens=NEW_TOKENS, ignore_eos=True)
    with LLM(str(folder), device="cuda", dtype="float32", kv_cache_memory_bytes=2**28, **settings) as llm:
        outputs = llm.generate(prompts(), params, use_tqdm=False)
        memory = llm.memory()
    if not settings.get("enforce_eager"):
        assert any(row.name == "CUDA graphs" for row in memory)
    return [list(output.outputs[0].token_ids) for output in outputs]


@pytest.mark.parametrize("eager", [True, False], ids=["eager", "graphs"])
@pytest.mark.parametrize("budget", [None, 50], ids=["whole", "chunked"])
def test_greedy_answers_equal_transformers(
    folder: Path, wanted: list[list[int]], budget: int | None, eager: bool
) -> None:
    assert answers(folder, max_num_batched_tokens=budget, enforce_eager=eager) == wanted


def test_torch_alone_gives_the_same_answers(folder: Path, wanted: list[list[int]]) -> None:
    assert answers(folder, kernel_backend="torch", enforce_eager=True) == wanted


def test_seeded_draws_are_the_same_with_graphs(folder: Path) -> None:
    params = SamplingParams(temperature=0.9, top_p=0.9, top_k=50, max_tokens=20, seed=3, ignore_eos=True)
    found = []
    for eager in (True, False):
        with LLM(str(folder), dtype="float32", kv_cache_memory_bytes=2**28, enforce_eager=eager) as llm:
            found.append([o.outputs[0].token_ids for o in llm.generate(prompts(), params, use_tqdm=False)])
    assert found[0] == found[1]


def test_a_gpu_gets_triton_and_graphs(folder: Path) -> None:
    loaded = load_model(EngineArgs(model=str(folder), device="cuda", dtype="bfloat16"))
    runner = TorchModelRunner(
        loaded, resolve_scheduler_config(EngineArgs(), loaded.spec, pool_shape(loaded.spec, 100, 16))
    )
    assert runner._graphs is not None
    assert {choice.backend for choice in runner.kernel_choices} == {"triton"}
    assert runner._kv.layers[0].dtype is torch.bfloat16
    runner.close()
