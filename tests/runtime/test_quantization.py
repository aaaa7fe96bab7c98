"""Quantized weights in the engine: the answers are those of plain transformers with the very same weights."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from random_models import NEW_TOKENS, RandomModel, greedy_answers, make_prompts
from transformers.pytorch_utils import Conv1D

from workbench import LLM, SamplingParams
from workbench.core.errors import ConfigError, DoesNotFitError
from workbench.core.scheduler_output import Action, Reason
from workbench.embedded import heldout_text, model_path
from workbench.runtime import model_runner
from workbench.runtime.quantization import quantized_linear
from workbench_kernels.quant_matmul.packing import dequantize, quantize

GREEDY = SamplingParams(temperature=0, max_tokens=NEW_TOKENS, ignore_eos=True)
METHODS = pytest.mark.parametrize("method", ["int8", "int4", "nf4"])
GetModel = Callable[[str], RandomModel]


def with_dequantized_weights(folder: Any, method: str) -> Any:
    """transformers' own model, each matrix of a layer replaced by what its quantized form stands for."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    for module in model.modules():
        if module is model.get_output_embeddings() or not isinstance(module, (torch.nn.Linear, Conv1D)):
            continue
        turned = isinstance(module, Conv1D)
        weight = module.weight.data.t() if turned else module.weight.data
        group = 64 if weight.shape[1] % 64 == 0 else 32
        value = dequantize(quantize(weight.contiguous(), method, group))
        module.weight.data = value.t().contiguous() if turned else value
    return model


def answers(llm: LLM, prompts: list[list[int]]) -> list[list[int]]:
    return [list(output.outputs[0].token_ids) for output in llm.generate(prompts, GREEDY, use_tqdm=False)]


@METHODS
@pytest.mark.parametrize(
    "family",
    ["llama", "llama_tied_llama3_rope", "llama_biases_linear_rope", "qwen3", "gemma", "phi3_partial_rope", "gpt2"],
)
def test_answers_equal_transformers_with_the_same_weights(family: str, method: str, random_model: GetModel) -> None:
    folder, prompts = random_model(family).folder, make_prompts()
    wanted = greedy_answers(with_dequantized_weights(folder, method), prompts, NEW_TOKENS)
    with LLM(str(folder), quantization=method, block_size=4) as llm:
        assert answers(llm, prompts) == wanted
        assert {row.stored_as for row in llm.weights()} == {method, "float32"}
    assert method == "int8" or wanted != random_model(family).answers


@METHODS
def test_the_bundled_model(method: str) -> None:
    model = with_dequantized_weights(model_path(), method)
    with LLM(quantization=method) as llm:
        prompts = [llm.get_tokenizer().encode(heldout_text()[start : start + 300]) for start in (0, 1000)]
        assert answers(llm, prompts) == greedy_answers(model, prompts, NEW_TOKENS)
        assert llm.settings["quantization"] == (method, method)


@METHODS
def test_bytes(method: str, random_model: GetModel) -> None:
    folder = str(random_model("llama").folder)
    with LLM(folder) as full, LLM(folder, quantization=method) as llm:
        assert llm.model.num_parameters == full.model.num_parameters
        assert llm.weights().bytes == llm.model.weight_bytes
        assert full.weights().bytes == full.model.weight_bytes
        small, large = llm.weights().bytes_by_type(), full.weights().bytes_by_type()
        matrices = 3 * ((64 + 2 * 32) * 64 + 64 * 64 + 2 * 96 * 64 + 64 * 96)
        scales = 3 * ((64 + 2 * 32) + 64 + 2 * 96 + 64 * 3)  # inputs of 96 make three groups
        assert small[method] == matrices * (1 if method == "int8" else 0.5) + 4 * scales
        assert large["float32"] - small["float32"] == 4 * matrices
        text = repr(llm.weights())
        assert "each layer's qkv" in text
        assert method in text
        assert "output head" in llm.weights()._repr_html_()


def test_quality_against_full_precision() -> None:
    with LLM(quantization="int4") as llm, LLM() as full:
        options = {"n_ctx": 64, "max_chunks": 3, "greedy_tokens": 8, "use_tqdm": False}
        alone, beside = llm.quality(**options), llm.quality(full, **options)
    assert 0.005 < alone.mean_kld.value < 0.2
    assert alone.mean_kld == beside.mean_kld
    assert alone.first_diverging_token == beside.first_diverging_token
    assert repr(alone).startswith("bundled in int4 against bundled in float32")


def test_a_matrix_that_fits_no_group_says_so() -> None:
    made = quantized_linear("int4")(torch.randn(4, 40), None)
    assert (made.info.stored_as, made.info.note) == ("float32", "left as it was: 40 inputs are no multiple of 32")
    whole = quantized_linear("int8")(torch.randn(4, 40), None)
    assert (whole.info.stored_as, whole.info.note) == ("int8", "a scale for every 40 inputs")


def test_what_runs_is_said() -> None:
    with LLM(quantization="int8") as llm:
        choice = {choice.op: choice for choice in llm._runner.kernel_choices}["quant_matmul"]
    assert choice.backend == "numba"
    assert "reads packed weights for up to 71 tokens" in choice.reason
    assert "writes them out" in choice.reason


def test_what_cannot_be() -> None:
    with pytest.raises(ConfigError, match="quantization must be one of"):
        LLM(quantization="int3")
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="needs a GPU that multiplies float8"):
            LLM(quantization="fp8")


def test_live_and_back() -> None:
    prompts = make_bundled_prompts()
    with LLM(block_size=8) as llm:
        before = [llm.logits(prompt) for prompt in prompts]
        for method in ("int8", "int4", None):
            predicted = llm.predict(quantization=method)
            assert predicted.measured is None
            change = llm.configure(quantization=method)
            assert change.resolved["quantization"] == method
            assert change.measured.weight_bytes == change.predicted.weight_bytes == llm.weights().bytes
            assert predicted.predicted.weight_bytes == change.measured.weight_bytes
            assert llm.settings["quantization"] == (method, method)
            if method is not None:
                with LLM(block_size=8, quantization=method) as fresh:
                    assert all(torch.equal(llm.logits(p), fresh.logits(p)) for p in prompts)
        assert all(torch.equal(llm.logits(p), x) for p, x in zip(prompts, before, strict=True))


def make_bundled_prompts() -> list[list[int]]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randint(3, 4000, (n,), generator=generator).tolist() for n in (30, 17, 5)]


def test_requests_in_flight_are_computed_again_with_the_new_weights() -> None:
    """What they had stays; what comes after is what the new weights say of the whole text so far."""
    prompts = make_bundled_prompts()
    with LLM(block_size=8) as llm, LLM(block_size=8, quantization="int4") as fresh:
        llm.pause()
        handles = [llm.submit({"prompt_token_ids": prompt}, GREEDY) for prompt in prompts]
        llm.step(6)
        had = [list(state.output_token_ids) for state in llm.snapshot().requests.values()]
        assert all(had)
        cached = sum(bool(h) for h in llm.snapshot().block_hashes)
        change = llm.configure(quantization="int4")
        assert llm.trace.at() == llm.snapshot()
        assert not any(llm.snapshot().block_hashes)
        assert cached > 0
        record = llm.trace.records()[-1]
        assert change.step == record.step
        assert [(c.name, c.value) for c in record.changes] == [("quantization", "int4")]
        assert {d.action for d in record.decisions} == {Action.PREEMPT}
        assert {d.reason for d in record.decisions} == {Reason.RECONFIGURED}
        assert change.measured.num_preempted == len(prompts)
        llm.resume()
        for prompt, tokens, handle in zip(prompts, had, handles, strict=True):
            whole = list(handle.result(60).outputs[0].token_ids)
            assert whole[: len(tokens)] == tokens
            rest = SamplingParams(temperature=0, max_tokens=NEW_TOKENS - len(tokens), ignore_eos=True)
            again = fresh.generate([prompt + tokens], rest, use_tqdm=False)[0].outputs[0].token_ids
            assert whole[len(tokens) :] == list(again)


def test_a_refused_change_leaves_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    prompt = make_bundled_prompts()[0]
    with LLM(block_size=8) as llm:
        logits = llm.logits(prompt)
        with pytest.raises(ConfigError, match="quantization must be one of"):
            llm.configure(quantization="int3")
        monkeypatch.setattr(model_runner, "free_bytes", lambda _: 1000)
        with pytest.raises(DoesNotFitError, match=r"need .* bytes beside the old ones"):
            llm.configure(quantization="int8")
        monkeypatch.undo()

        def fail(*_: object) -> None:
            raise RuntimeError("DefaultCPUAllocator: not enough memory")

        monkeypatch.setattr(llm._runner, "_reload", fail)
        with pytest.raises(DoesNotFitError, match="not enough memory"):
            llm.configure(quantization="int8", max_num_seqs=3)
        assert llm.settings["quantization"] == (None, None)
        assert llm.settings["max_num_seqs"].resolved == 64
        assert torch.equal(llm.logits(prompt), logits)
        assert len(llm.generate([prompt], GREEDY, use_tqdm=False)[0].outputs[0].token_ids) == NEW_TOKENS
