"""Settings and sampling parameters refuse what makes no sense, and say what to change."""

import math

import pytest

from workbench.core.config import EngineArgs, ModelSpec, PoolShape, resolve_scheduler_config
from workbench.core.errors import ConfigError, SamplingParamsError
from workbench.core.request import TRANSITIONS, Request, RequestStatus
from workbench.core.sampling_params import SamplingParams
from workbench.core.settings import resolved_settings


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"temperature": math.nan}, "finite"),
        ({"temperature": -0.1}, "at least 0"),
        ({"temperature": "hot"}, "finite number"),
        ({"top_p": 0.0}, "above 0"),
        ({"top_p": 1.1}, "at most 1"),
        ({"top_k": -2}, "at least -1"),
        ({"top_k": 2.5}, "whole number"),
        ({"min_p": 1.5}, "at most 1"),
        ({"max_tokens": 0}, "at least 1"),
        ({"max_tokens": True}, "whole number"),
        ({"min_tokens": 5, "max_tokens": 4}, "lower min_tokens"),
        ({"n": 0}, "at least 1"),
        ({"n": 2, "temperature": 0.0}, "temperature above 0"),
        ({"repetition_penalty": 0.0}, "above 0"),
        ({"presence_penalty": 3.0}, "at most 2"),
        ({"frequency_penalty": math.inf}, "finite"),
        ({"logprobs": -1}, "at least 0"),
        ({"logprobs": 101}, "at most 100"),
        ({"stop": [""]}, "empty string"),
        ({"stop": [1]}, "list of str"),
        ({"stop_token_ids": ["a"]}, "list of int"),
        ({"seed": 1.5}, "whole number"),
        ({"temprature": 1.0}, "unknown sampling parameters"),
    ],
)
def test_sampling_params_are_checked(values, text):
    with pytest.raises(SamplingParamsError, match=text):
        SamplingParams.from_dict(values)


def test_sampling_params_take_what_vllm_takes():
    assert SamplingParams(stop="\n").stop == ("\n",)
    assert SamplingParams(stop=["a", "b"], stop_token_ids=None).stop_token_ids == ()
    assert SamplingParams(temperature=0).greedy
    assert SamplingParams(max_tokens=None).max_tokens is None


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"max_num_seq": 1}, "did you mean 'max_num_seqs'"),
        ({"gpu_memory_utilization": 1.2}, "kv_cache_memory_bytes"),
        ({"gpu_memory_utilization": 0.0}, "above 0"),
        ({"gpu_memory_utilization": math.nan}, "must be a number"),
        ({"block_size": 0}, "at least 1"),
        ({"max_num_seqs": 2.0}, "whole number"),
        ({"kv_cache_memory_bytes": -1}, "at least 1"),
        ({"dtype": "float8"}, "float32"),
        ({"enforce_eager": 1}, "True or False"),
        ({"seed": "x"}, "whole number"),
    ],
)
def test_settings_are_checked(values, text):
    with pytest.raises(ConfigError, match=text):
        EngineArgs.from_dict(values)


def spec(device: str) -> ModelSpec:
    return ModelSpec("m", "a", "decoder", device, "float32", 10, 2000, 1, 8, 2, 1, 4, 1, 4, 32, (0,))


NINE = PoolShape(9, 16, "float32", 512)


def test_the_token_budget_depends_on_the_device_and_on_chunking():
    assert resolve_scheduler_config(EngineArgs(), spec("cpu"), NINE).max_num_batched_tokens == 512
    assert resolve_scheduler_config(EngineArgs(), spec("cuda:0"), NINE).max_num_batched_tokens == 8192
    unchunked = EngineArgs(enable_chunked_prefill=False)
    assert resolve_scheduler_config(unchunked, spec("cpu"), NINE).max_num_batched_tokens == 2000


def test_states_follow_the_table():
    def request():
        return Request("a", (1,), SamplingParams(), arrival_time=0.0, arrival_seq=0, max_tokens=1)

    for start, allowed in TRANSITIONS.items():
        for target in RequestStatus:
            made = request()
            made.status = start
            if target in allowed:
                made.move_to(target)
                assert made.status is target
            else:
                with pytest.raises(Exception, match="no transition"):
                    made.move_to(target)


def test_settings_show_what_was_decided_for_the_reader():
    config = resolve_scheduler_config(EngineArgs(), spec("cpu"), NINE)
    table = resolved_settings(EngineArgs(), spec("cpu"), config, "fcfs", ["loaded as <float32>"])
    assert table["num_gpu_blocks_override"] == (None, 9)
    assert repr(table).endswith("loaded as <float32>")
    assert "<p>loaded as &lt;float32&gt;</p>" in table._repr_html_()
