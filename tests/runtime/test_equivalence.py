"""Greedy answers equal transformers' own, token for token, however the scheduler arranged the work."""

from collections.abc import Callable

import pytest
import torch
import transformers
from random_models import FALLBACK, LEAN, NEW_TOKENS, RandomModel, greedy_answers, make_prompts

from workbench import LLM, SamplingParams
from workbench.core.scheduler_output import Action, Reason
from workbench.embedded import heldout_text, model_path

GREEDY = SamplingParams(temperature=0, max_tokens=NEW_TOKENS, ignore_eos=True)
FAMILIES = pytest.mark.parametrize("family", [*LEAN, *FALLBACK])
GetModel = Callable[[str], RandomModel]


def answers(llm: LLM, prompts: list[list[int]]) -> list[list[int]]:
    outputs = llm.generate(prompts, GREEDY, use_tqdm=False)
    return [list(output.outputs[0].token_ids) for output in outputs]


def reasons(llm: LLM) -> set[Reason]:
    return {decision.reason for record in llm.trace.records() for decision in record.decisions}


@FAMILIES
def test_batched(family: str, random_model: GetModel) -> None:
    model = random_model(family)
    with LLM(str(model.folder), block_size=4, enable_prefix_caching=False) as llm:
        assert llm.model.backend == ("decoder" if family in LEAN else "transformers")
        assert answers(llm, make_prompts()) == model.answers
        most = max(sum(d.action == Action.DECODE for d in record.decisions) for record in llm.trace.records())
    assert most == len(model.answers)


@FAMILIES
def test_chunked(family: str, random_model: GetModel) -> None:
    model = random_model(family)
    with LLM(str(model.folder), block_size=4, enable_prefix_caching=False, max_num_batched_tokens=7) as llm:
        assert answers(llm, make_prompts()) == model.answers
        assert Reason.CHUNK in reasons(llm)


@FAMILIES
def test_prefix_hits(family: str, random_model: GetModel) -> None:
    model = random_model(family)
    prompts = make_prompts()
    with LLM(str(model.folder), block_size=4) as llm:
        for _ in range(2):
            assert answers(llm, prompts) == model.answers
        hit = llm.generate(prompts[-1], GREEDY, use_tqdm=False)[0]
        assert hit.num_cached_tokens == (len(prompts[-1]) - 1) // 4 * 4
        assert list(hit.outputs[0].token_ids) == model.answers[-1]


@FAMILIES
def test_preempted(family: str, random_model: GetModel) -> None:
    model = random_model(family)
    for caching in (False, True):
        with LLM(str(model.folder), block_size=4, num_gpu_blocks_override=34, enable_prefix_caching=caching) as llm:
            assert answers(llm, make_prompts()) == model.answers
            assert Reason.RESUMED in reasons(llm)


@pytest.mark.parametrize("budget", [None, 23], ids=["whole", "chunked"])
def test_bundled_model(budget: int | None) -> None:
    model = transformers.AutoModelForCausalLM.from_pretrained(model_path(), dtype=torch.float32)
    with LLM(max_num_batched_tokens=budget) as llm:
        text = heldout_text()
        prompts = [llm.get_tokenizer().encode(text[start : start + 300]) for start in (0, 1000, 2000)]
        wanted = greedy_answers(model, prompts, NEW_TOKENS)
        assert answers(llm, prompts) == wanted


def test_two_engines_side_by_side(random_model: GetModel) -> None:
    first, second = random_model("llama"), random_model("gpt2")
    prompts = make_prompts()
    with LLM(str(first.folder), block_size=4) as one, LLM(str(second.folder), block_size=8) as two:
        handles = [(one.submit(prompt, GREEDY), two.submit(prompt, GREEDY)) for prompt in prompts]
        found = [tuple(list(h.result(60).outputs[0].token_ids) for h in pair) for pair in handles]
    assert found == list(zip(first.answers, second.answers, strict=True))
