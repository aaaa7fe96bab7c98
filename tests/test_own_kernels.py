"""A reader's own kernel in the engine: checked first, then in force, and never the end of the engine."""

import pytest
from own_kernels import plain_attention

from workbench import LLM, SamplingParams
from workbench.core.errors import ConfigError, WrongKernelError

OP = "paged_attention"
PROMPTS = ["Once upon a time there was a", "The dog and"]
GREEDY = SamplingParams(temperature=0, max_tokens=10, ignore_eos=True)


def tokens_of(outputs):
    return [list(output.outputs[0].token_ids) for output in outputs]


@pytest.fixture(scope="module")
def expected():
    with LLM(num_gpu_blocks_override=32) as llm:
        return tokens_of(llm.generate(PROMPTS, GREEDY, use_tqdm=False))


@pytest.fixture
def llm():
    with LLM(num_gpu_blocks_override=32) as llm:
        yield llm


def off_by_a_little(q, *arguments):
    out = plain_attention(q, *arguments)
    out[:, 3] *= 1.001
    return out


def test_requests_in_flight_are_computed_again_with_the_given_kernel(llm, expected):
    llm.pause()
    handles = [llm.submit(prompt, GREEDY) for prompt in PROMPTS]
    llm.step(4)
    report = llm.set_kernel(OP, plain_attention)
    assert report.ok
    assert report.summary == "plain_attention agrees with the reference in all 7 cases."
    record = llm.trace.record(llm.trace.last_step)
    assert [tuple(change) for change in record.changes] == [("kernel", "paged_attention: plain_attention", "")]
    assert {str(d.action) for d in record.decisions} == {"preempt"}
    assert llm.kernels.backend(OP) == "yours"
    assert "given by the caller: plain_attention" in repr(llm.kernels)
    llm.resume()
    assert tokens_of([handle.result(60) for handle in handles]) == expected


def test_going_back_to_the_engine_s_own(llm, expected):
    own = llm.kernels.backend(OP)
    llm.set_kernel(OP, plain_attention)
    assert llm.set_kernel(OP, None) is None
    assert llm.kernels.backend(OP) == own
    assert tokens_of(llm.generate(PROMPTS, GREEDY, use_tqdm=False)) == expected


def test_a_wrong_kernel_is_refused_and_the_one_before_stays(llm, expected):
    llm.set_kernel(OP, plain_attention)
    step = llm.trace.last_step
    with pytest.raises(
        WrongKernelError, match=r"(?s)off_by_a_little is wrong in 7 of 7 cases.*heads 3 only.*Nothing"
    ) as e:
        llm.set_kernel(OP, off_by_a_little)
    assert len(e.value.report.wrong) == 7
    assert "off_by_a_little" in e.value.report._repr_html_()
    figure = e.value.report.figure("one token, no prefix, blocks of 16")
    assert [level > 0 for level in figure.data[0].z[0]] == [head == 3 for head in range(6)]
    assert llm.trace.last_step == step
    assert "plain_attention" in repr(llm.kernels)
    assert tokens_of(llm.generate(PROMPTS, GREEDY, use_tqdm=False)) == expected


def test_without_the_check_a_wrong_kernel_gives_wrong_text(llm, expected):
    def last_token_only(q, k, v, *_):
        return v.repeat_interleave(q.shape[1] // v.shape[1], 1).contiguous()

    assert llm.set_kernel(OP, last_token_only, check=False) is None
    assert tokens_of(llm.generate(PROMPTS, GREEDY, use_tqdm=False)) != expected


def test_a_kernel_that_fails_later_ends_its_requests_and_the_engine_goes_on(llm, expected):
    def fails_with_company(q, *arguments):
        if len(arguments[3].spans) > 1:
            raise RuntimeError("too many")
        return plain_attention(q, *arguments)

    llm.set_kernel(OP, fails_with_company, check=False)
    outputs = llm.generate(PROMPTS, GREEDY, use_tqdm=False)
    assert {output.outputs[0].finish_reason for output in outputs} == {"error"}
    assert "KernelFailedError" in outputs[0].outputs[0].stop_reason
    assert "(fails_with_company) raised RuntimeError: too many" in outputs[0].outputs[0].stop_reason
    (alone,) = llm.generate(PROMPTS[0], GREEDY, use_tqdm=False)
    assert list(alone.outputs[0].token_ids) == expected[0]


def test_a_kernel_given_at_the_start(expected):
    with LLM(num_gpu_blocks_override=32, kernels={OP: plain_attention}) as llm:
        assert llm.kernels.backend(OP) == "yours"
        assert tokens_of(llm.generate(PROMPTS, GREEDY, use_tqdm=False)) == expected
    with pytest.raises(WrongKernelError):
        LLM(kernels={OP: off_by_a_little})


def test_other_knobs_with_a_given_kernel(llm, expected):
    llm.set_kernel(OP, plain_attention)
    llm.configure(block_size=5)
    assert tokens_of(llm.generate(PROMPTS, GREEDY, use_tqdm=False)) == expected
    with pytest.raises(ConfigError, match="a kernel of yours reads K and V as the model has them"):
        llm.configure(kv_cache_dtype="int8")
    assert llm.settings["kv_cache_dtype"].resolved == "float32"
    llm.set_kernel(OP, None)
    llm.configure(kv_cache_dtype="int8")
    with pytest.raises(ConfigError, match="configure\\(kv_cache_dtype='auto'\\) before"):
        llm.set_kernel(OP, plain_attention)


def test_the_check_alone_changes_nothing_and_times(llm):
    step = llm.trace.last_step
    report = llm.check_kernel(OP, plain_attention)
    assert report.ok
    assert "the engine's own (numba)" in repr(report)
    assert llm.trace.last_step == step


@pytest.mark.parametrize(
    ("op", "function", "text"),
    [("rms_norm", plain_attention, "not for 'rms_norm'"), (OP, "attention", "must be a function, not 'attention'")],
)
def test_what_cannot_be_given(llm, op, function, text):
    for give in (llm.set_kernel, llm.check_kernel):
        with pytest.raises(ConfigError, match=text):
            give(op, function)
