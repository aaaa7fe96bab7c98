"""The roofline of a step: work counted from its record by hand, parts that are timed, limits that are measured."""

import pytest
import torch

from workbench import LLM, SamplingParams
from workbench.core.errors import InvalidRequestError
from workbench.core.machine import MachineLimits
from workbench.core.work import Work, step_work, work_sizes
from workbench.roofline import make_roofline, seconds_at_the_limit
from workbench.runtime import machine

PARTS = ["layer matrices", "output head", "attention", "norms, rotary, activation", "rest"]
GREEDY = SamplingParams(temperature=0, max_tokens=4, ignore_eos=True)
LIMITS = MachineLimits("cpu", "float32", 1, 1e10, 1e11)


@pytest.fixture(autouse=True)
def _small_measurements(monkeypatch):
    monkeypatch.setitem(machine.COPY_BYTES, "cpu", 2**20)
    monkeypatch.setitem(machine.MATMUL_SIZE, "cpu", 64)


@pytest.fixture(scope="module")
def llm():
    with LLM(num_gpu_blocks_override=32) as llm:
        yield llm


def test_the_work_of_a_step_is_counted_from_its_record(llm):
    llm.reset_prefix_cache()
    llm.generate([{"prompt_token_ids": [5, 6, 7]}, {"prompt_token_ids": [8, 9]}], GREEDY, use_tqdm=False)
    first, last = (record for record in llm.trace.records()[-4:] if record.step in _ends(llm))
    spec = llm.model
    per_layer = 192 * (192 + 2 * 64) + 192 * 192 + 3 * 192 * 512
    assert sum(r.shape[0] * r.shape[1] for r in llm.weights() if r.quantizable) == 6 * per_layer
    matrices, head = 6 * per_layer, spec.vocab_size * spec.hidden_size
    assert llm._runner.work() == work_sizes(spec, llm.weights())  # what views count with
    per_pair = 4 * 6 * 32 * 6  # a multiplication and an addition for K and for V; heads, head size, layers
    assert step_work(first, work_sizes(spec, llm.weights())) == {
        "layer matrices": Work(4 * matrices, 2 * 5 * matrices),
        "output head": Work(4 * head, 2 * 2 * head),
        "attention": Work(5 * spec.kv_bytes_per_token, (1 + 2 + 3 + 1 + 2) * per_pair),
    }
    assert step_work(last, work_sizes(spec, llm.weights())) == {
        "layer matrices": Work(4 * matrices, 2 * 2 * matrices),
        "output head": Work(4 * head, 2 * 2 * head),
        "attention": Work((6 + 5) * spec.kv_bytes_per_token, (6 + 5) * per_pair),
    }


def _ends(llm):
    steps = [record.step for record in llm.trace.records() if record.num_scheduled_tokens]
    return steps[-4], steps[-1]


def test_limits_are_the_larger_of_reading_and_computing(llm):
    record = llm.trace.records()[-1]
    seconds = dict.fromkeys(PARTS, 1e-3)
    found = make_roofline(record, llm.model, llm.weights(), seconds, LIMITS)
    for name, work in step_work(record, work_sizes(llm.model, llm.weights())).items():
        reading, computing = work.bytes / 1e10, work.flops / 1e11
        assert found[name].limit_seconds == max(reading, computing)
        assert found[name].bound == ("memory" if reading >= computing else "arithmetic")
        assert found[name].reached == pytest.approx(max(reading, computing) / 1e-3)
    assert found["forward"].seconds == record.times.forward
    sizes = work_sizes(llm.model, llm.weights())
    assert seconds_at_the_limit([record, record], sizes, LIMITS) == 2 * found["forward"].limit_seconds
    assert found.overhead == pytest.approx(1 - record.times.forward / record.duration)


def test_the_last_step_s_roofline_changes_nothing_and_draws(llm):
    step = llm.trace.last_step
    found = llm.roofline()
    assert found.step == step
    assert [part.name for part in found.parts] == [*PARTS, "forward"]
    assert all(found[name].seconds > 0 for name in PARTS[:4])
    assert found.limits is llm.roofline().limits  # measured once
    assert llm.trace.last_step == step
    assert "of the step is not the forward" in repr(found)
    points = [trace for trace in found.figure().data if "markers" in str(trace.to_plotly_json().get("mode"))]
    assert [trace.text[0] for trace in points] == [*PARTS[:3], "forward"]
    for trace, name in zip(points, [*PARTS[:3], "forward"], strict=True):
        assert trace.y[0] == pytest.approx(found[name].work.flops / found[name].seconds / 1e9)


def test_quantized_weights_are_counted_as_they_are_stored():
    with LLM(num_gpu_blocks_override=32, quantization="int8") as llm:
        llm.generate("Once", GREEDY, use_tqdm=False)
        found = llm.roofline()
        assert found["layer matrices"].work.bytes == sum(row.bytes for row in llm.weights() if row.quantizable)
        assert found["layer matrices"].seconds > 0


def test_nothing_to_look_at_is_refused(llm):
    with LLM(num_gpu_blocks_override=32) as fresh, pytest.raises(InvalidRequestError, match="generate something first"):
        fresh.roofline()
    llm.set_kernel("paged_attention", None)  # a step in which nobody computes
    with pytest.raises(InvalidRequestError, match="computed no tokens"):
        llm.roofline(llm.trace.last_step)


def test_the_machine_is_measured():
    limits = machine.measure_limits(torch.device("cpu"), torch.float32, rounds=1)
    assert limits.copy_bandwidth > 0
    assert limits.matmul_peak > 0
    assert "float32" in str(limits)
    other = machine.measure_limits(torch.device("cpu"), torch.bfloat16, rounds=1)
    assert other.dtype in ("float32", "bfloat16")  # whichever this processor multiplies faster
