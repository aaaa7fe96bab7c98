"""The model runner, driven by plans made by hand."""

import gc
import weakref
from collections.abc import Callable, Iterator

import pytest
import torch
from plans import GREEDY, Driver, plan
from random_models import NEW_TOKENS, VOCAB, RandomModel, make_prompts

from workbench.core.config import EngineArgs, resolve_scheduler_config
from workbench.core.errors import EngineClosedError, KVCacheTooSmallError
from workbench.core.sampling_params import SamplingParams
from workbench.core.scheduler_output import BlockCopy, NewRequest, ScheduledRequest
from workbench.runtime.loader import LoadedModel, load_model
from workbench.runtime.memory import pool_shape
from workbench.runtime.model_runner import TorchModelRunner
from workbench_kernels import dispatch

GetModel = Callable[[str], RandomModel]
BLOCK = 4


@pytest.fixture(scope="module")
def loaded(random_model: GetModel) -> LoadedModel:
    return load_model(EngineArgs(model=str(random_model("llama").folder)))


def make_runner(loaded: LoadedModel, num_blocks: int = 200, **settings: int) -> TorchModelRunner:
    return TorchModelRunner(
        loaded,
        resolve_scheduler_config(EngineArgs(**settings), loaded.spec, pool_shape(loaded.spec, num_blocks, BLOCK)),
    )


@pytest.fixture
def runner(loaded: LoadedModel) -> Iterator[TorchModelRunner]:
    made = make_runner(loaded)
    yield made
    made.close()


@pytest.mark.parametrize("chunk", [1, 3, 1000])
def test_answers_by_hand_made_plans(runner: TorchModelRunner, random_model: GetModel, chunk: int) -> None:
    driver = Driver(runner, BLOCK)
    prompts = make_prompts()
    for index, prompt in enumerate(prompts):
        driver.add(str(index), prompt)
    unfinished = list(driver.tokens)
    while unfinished:
        driver.step(unfinished, chunk)
        unfinished = [r for r in unfinished if len(driver.tokens[r]) < len(prompts[int(r)]) + NEW_TOKENS]
    found = [driver.tokens[str(i)][len(prompt) :] for i, prompt in enumerate(prompts)]
    assert found == random_model("llama").answers


def test_only_the_sampling_rows_are_sampled(runner: TorchModelRunner) -> None:
    driver = Driver(runner, BLOCK)
    driver.add("long", make_prompts()[3])
    driver.add("short", make_prompts()[1])
    assert set(driver.step(chunk=10).sampled) == {"short"}
    assert runner.execute(plan([])).sampled == {}


def test_copy_on_write_of_a_block(runner: TorchModelRunner, random_model: GetModel) -> None:
    prompt, answer = make_prompts()[2], random_model("llama").answers[2]
    driver = Driver(runner, BLOCK)
    driver.add("first", prompt)
    driver.step()
    table = driver.tables["first"]
    # The second one shares all blocks but the last, which is copied and then written by both.
    shared = ScheduledRequest("second", (answer[0],), len(prompt), 0, (*table[:-1], 190), True)
    one = ScheduledRequest("first", (answer[0],), len(prompt), len(table), (), True)
    output = runner.execute(
        plan([one, shared], [NewRequest("second", tuple(prompt), (), GREEDY, 0)], [BlockCopy(table[-1], 190)])
    )
    assert [output.sampled[name].token_id for name in ("first", "second")] == [answer[1]] * 2


def test_rows_grow_past_max_num_seqs_and_are_used_again(loaded: LoadedModel, random_model: GetModel) -> None:
    runner = make_runner(loaded, max_num_seqs=2)
    driver = Driver(runner, BLOCK)
    prompts, answers = make_prompts(), random_model("llama").answers
    for index, prompt in enumerate(prompts):
        driver.add(str(index), prompt)
    first = driver.step()
    assert [first.sampled[str(i)].token_id for i in range(len(prompts))] == [answer[0] for answer in answers]
    runner.execute(plan([], dropped=[str(i) for i in range(len(prompts))]))
    assert not runner._batch.requests
    runner.close()


def test_a_resumed_request_continues_as_if_nothing_had_happened(runner: TorchModelRunner) -> None:
    params = SamplingParams(temperature=1.3, top_p=0.95, frequency_penalty=0.3, max_tokens=100)
    driver = Driver(runner, BLOCK)
    prompt = make_prompts()[2]
    driver.add("whole", prompt, params, seed=7)
    for _ in range(12):
        driver.step(["whole"])
    whole = driver.tokens["whole"][len(prompt) :]
    driver.add("resumed", prompt, params, seed=7, outputs=whole[:5])
    for _ in range(7):
        driver.step(["resumed"])
    assert driver.tokens["resumed"][len(prompt) :] == whole


def test_a_request_with_nan_logits_harms_nobody_else(loaded: LoadedModel, random_model: GetModel) -> None:
    runner = make_runner(loaded)
    driver = Driver(runner, BLOCK)
    driver.add("bad", make_prompts()[1])
    driver.add("good", make_prompts()[2])
    driver.step()
    for layer in runner._kv.layers:
        layer[:, driver.tables["bad"]] = float("nan")
    output = driver.step()
    assert set(output.errors) == {"bad"}
    assert "not finite" in output.errors["bad"]
    assert output.sampled["good"].token_id == random_model("llama").answers[2][1]
    runner.close()


def test_times_and_kernel_choices(runner: TorchModelRunner) -> None:
    driver = Driver(runner, BLOCK)
    driver.add("r", make_prompts()[2])
    output = driver.step()
    assert min(output.prepare_seconds, output.forward_seconds, output.sample_seconds) > 0
    assert {choice.op: choice.backend for choice in runner.kernel_choices}["paged_attention"] == "numba"


def test_memory_rows_add_up_to_the_process(runner: TorchModelRunner) -> None:
    import psutil

    rows = runner.memory()
    resident = psutil.Process().memory_info().rss
    assert sum(row.bytes for row in rows) == pytest.approx(resident, rel=0.02)
    by_kind = {row.kind: row.bytes for row in rows}
    assert by_kind["weights"] == runner.spec.weight_bytes
    assert rows[0].name == "weights in float32"
    assert by_kind["kv"] == 200 * BLOCK * 3 * 2 * 2 * 16 * 4


def test_close_frees_the_pool_and_the_weights(random_model: GetModel) -> None:
    for name in ("llama", "gpt2"):
        loaded = load_model(EngineArgs(model=str(random_model(name).folder)))
        runner = make_runner(loaded)
        driver = Driver(runner, BLOCK)
        driver.add("r", make_prompts()[2])
        driver.step()
        watched = [weakref.ref(runner._kv.layers[0]), weakref.ref(next(loaded.model.tensors()))]
        runner.close()
        runner.close()
        del loaded, driver
        gc.collect()
        assert [ref() for ref in watched] == [None, None]
        assert {row.kind: row.bytes for row in runner.memory()}["kv"] == 0
        with pytest.raises(EngineClosedError):
            runner.execute(plan([]))


def test_a_pool_larger_than_memory_is_refused(loaded: LoadedModel) -> None:
    with pytest.raises(KVCacheTooSmallError, match="num_gpu_blocks_override"):
        make_runner(loaded, num_blocks=2**40)


@pytest.mark.parametrize("name", ["qwen3", "gemma", "mistral_sliding", "phi3_partial_rope", "gpt2"])
def test_torch_kernels_alone_give_the_same_answers(
    random_model: GetModel, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """What runs on a GPU without kernels of its own, run here."""
    monkeypatch.setattr(dispatch, "choose", lambda op, *_: dispatch.Choice(op, "torch", "asked for"))
    runner = make_runner(load_model(EngineArgs(model=str(random_model(name).folder))))
    driver = Driver(runner, BLOCK)
    prompts = make_prompts()
    for index, prompt in enumerate(prompts):
        driver.add(str(index), prompt)
    driver.step(chunk=9)
    unfinished = list(driver.tokens)
    while unfinished:
        driver.step(unfinished, chunk=9)
        unfinished = [r for r in unfinished if len(driver.tokens[r]) < len(prompts[int(r)]) + NEW_TOKENS]
    found = [driver.tokens[str(i)][len(p) :][:NEW_TOKENS] for i, p in enumerate(prompts)]
    assert found == random_model(name).answers
    runner.close()


def test_two_runners_share_nothing(loaded: LoadedModel, random_model: GetModel) -> None:
    runners = [make_runner(loaded), make_runner(load_model(EngineArgs(model=str(random_model("qwen3").folder))))]
    drivers = [Driver(runner, BLOCK) for runner in runners]
    prompts = make_prompts()
    for driver in drivers:
        driver.add("r", prompts[3])
    for _ in range(NEW_TOKENS):
        for driver in drivers:
            driver.step()
    for driver, name in zip(drivers, ("llama", "qwen3"), strict=True):
        assert driver.tokens["r"][len(prompts[3]) :] == random_model(name).answers[3]
    for runner in runners:
        runner.close()


def test_torch_threads_of_the_caller_are_left_alone(runner: TorchModelRunner) -> None:
    before = torch.get_num_threads()
    driver = Driver(runner, BLOCK)
    driver.add("r", [VOCAB - 1])
    driver.step()
    assert torch.get_num_threads() == before


def test_bfloat16_stays_close_to_float32(random_model: GetModel) -> None:
    folder = str(random_model("llama").folder)
    logits = []
    for dtype in ("float32", "bfloat16"):
        loaded = load_model(EngineArgs(model=folder, dtype=dtype))
        assert loaded.spec.dtype == dtype
        runner = make_runner(loaded)
        driver = Driver(runner, BLOCK)
        driver.add("r", make_prompts()[3], SamplingParams(temperature=0, logprobs=100, max_tokens=9))
        logits.append(dict(driver.step().sampled["r"].alternatives))
        runner.close()
    shared = set(logits[0]) & set(logits[1])
    assert len(shared) > 80
    assert max(abs(logits[0][token] - logits[1][token]) for token in shared) < 0.5  # of logits that span about 30
