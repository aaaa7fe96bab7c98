"""int8 and fp8 KV caches on the bundled model, held to transformers with K and V quantized the same way."""

import random
import threading

import pytest
import torch
from transformers import AutoModelForCausalLM, DynamicCache

from workbench import LLM, SamplingParams
from workbench.core.errors import ConfigError
from workbench.embedded import model_path
from workbench.runtime.kv_store import QUANTIZED
from workbench_kernels.kv_cache import dequantize, quantize

PROMPTS = ["Once upon a time, there was a little", "The dog and the cat"]
GREEDY = SamplingParams(temperature=0, max_tokens=24, ignore_eos=True)


class FakeQuantized(DynamicCache):
    """transformers' own cache, with what it is given rounded to 8 bits and back."""

    kind: torch.dtype

    def update(self, key_states, value_states, layer_idx, *args, **kwargs):
        rounded = (dequantize(*quantize(x, self.kind)) for x in (key_states, value_states))
        return super().update(*rounded, layer_idx, *args, **kwargs)


@torch.inference_mode()
def fake_quantized_tokens(model, prompt, count, kind):
    cache = FakeQuantized()
    cache.kind = kind
    ids, found = torch.tensor([prompt]), []
    for _ in range(count):
        logits = model(input_ids=ids, past_key_values=cache, use_cache=True).logits
        found.append(int(logits[0, -1].argmax()))
        ids = torch.tensor([[found[-1]]])
    return found


@pytest.mark.parametrize("kind", ["int8", "fp8"])
def test_greedy_tokens_equal_transformers_with_the_same_rounding_after_a_live_switch(kind):
    model = AutoModelForCausalLM.from_pretrained(model_path(), dtype=torch.float32)
    with LLM(num_gpu_blocks_override=64, max_num_batched_tokens=5) as llm:
        plain = llm.generate(PROMPTS, GREEDY, use_tqdm=False)
        llm.pause()
        handle = llm.submit(PROMPTS[0], GREEDY)
        llm.step(6)
        change = llm.configure(kv_cache_dtype=kind)
        llm.resume()
        assert len(handle.result(60).outputs[0].token_ids) == 24
        spec = llm.model
        per_token = 2 * spec.num_layers * spec.num_kv_heads * (spec.head_size + 4)
        assert change.measured.num_preempted == 1
        assert change.measured == change.predicted
        assert change.measured.kv_cache_bytes == change.measured.num_tokens * per_token
        assert change.measured.kv_cache_bytes <= 64 * 16 * spec.kv_bytes_per_token
        assert llm.settings["kv_cache_dtype"] == (kind, kind)
        assert llm.trace.record(change.step).pool.kv_cache_dtype == kind
        outputs = llm.generate(PROMPTS, GREEDY, use_tqdm=False)  # in chunks of 5, so also over a cache
        for output in outputs:
            wanted = fake_quantized_tokens(model, output.prompt_token_ids, 24, QUANTIZED[kind])
            assert list(output.outputs[0].token_ids) == wanted
        llm.configure(kv_cache_dtype="auto")
        again = llm.generate(PROMPTS, GREEDY, use_tqdm=False)
        assert [o.outputs[0].token_ids for o in again] == [o.outputs[0].token_ids for o in plain]


def test_knobs_turned_from_other_threads_change_no_answer():
    prompts = [{"prompt_token_ids": [5 + i, 17, 9 + i % 5]} for i in range(64)]
    params = SamplingParams(temperature=0, max_tokens=10, ignore_eos=True)
    with LLM(num_gpu_blocks_override=200) as llm:
        wanted = [o.outputs[0].token_ids for o in llm.generate(prompts, params, use_tqdm=False)]
        llm.reset_prefix_cache()
        handles = [llm.submit(prompt, params) for prompt in prompts]

        def turn(seed):
            draw = random.Random(seed)
            for _ in range(60):
                changes = {
                    "num_gpu_blocks_override": draw.randint(1, 250),
                    "max_num_seqs": draw.randint(1, 64),
                    "max_num_batched_tokens": draw.randint(4, 200),
                }
                if draw.random() < 0.1:
                    changes["block_size"] = draw.choice([8, 16, 32])
                try:
                    llm.configure(**changes)
                except ConfigError:
                    continue

        threads = [threading.Thread(target=turn, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found = [handle.result(120).outputs[0].token_ids for handle in handles]
        assert found == wanted
        assert llm.trace.at() == llm.snapshot()
