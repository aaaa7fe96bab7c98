"""Every knob of a real engine turned wildly while requests run; what does not fit, and memory that runs out."""

import random
import threading

import pytest

from workbench import LLM, SamplingParams
from workbench.core.errors import ConfigError, DoesNotFitError
from workbench.runtime import loader

GREEDY = SamplingParams(temperature=0, max_tokens=24, ignore_eos=True)
PROMPTS = [f"Once upon a time there were {i} little dogs" for i in range(64)]


def test_64_requests_survive_a_storm_of_all_knobs():
    with LLM(num_gpu_blocks_override=128, max_num_seqs=64) as llm:
        before = [list(o.outputs[0].token_ids) for o in llm.generate(PROMPTS[:4], GREEDY, use_tqdm=False)]
        handles = [llm.submit(prompt, GREEDY) for prompt in PROMPTS]
        done, errors = [], []

        def turn(seed: int) -> None:
            own = random.Random(seed)
            for _ in range(8):
                changes = {
                    own.choice(["num_gpu_blocks_override", "kv_cache_memory_bytes"]): own.randint(1, 2_000_000),
                    "max_num_seqs": own.randint(1, 64),
                    "block_size": own.choice([4, 16, 32]),
                    "kv_cache_dtype": own.choice(["auto", "int8", "fp8"]),
                    "quantization": own.choice([None, "int8", "int4", "fp8"]),
                }
                if "num_gpu_blocks_override" in changes:
                    changes["num_gpu_blocks_override"] = own.randint(1, 200)
                try:
                    done.append(llm.configure(**changes))
                except ConfigError as error:
                    errors.append(error)

        threads = [threading.Thread(target=turn, args=(seed,)) for seed in (1, 2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        assert len(done) + len(errors) == 16
        assert done
        assert errors  # a single block, or fp8 weights on a CPU
        llm.configure(max_num_seqs=64, num_gpu_blocks_override=128)
        for handle in handles:
            output = handle.result(120).outputs[0]
            assert (len(output.token_ids), output.finish_reason) == (24, "length")
        assert llm.trace.at() == llm.snapshot()
        # All of it undone, the engine says what it said before.
        llm.configure(block_size=16, kv_cache_dtype="auto", quantization=None)
        after = [list(o.outputs[0].token_ids) for o in llm.generate(PROMPTS[:4], GREEDY, use_tqdm=False)]
        assert after == before


def test_why_not_has_the_arithmetic_and_what_would_fit():
    with LLM(num_gpu_blocks_override=64) as llm:
        llm.pause()
        handle = llm.submit(PROMPTS[0], SamplingParams(max_tokens=100, ignore_eos=True))
        llm.step(2)
        refused = llm.why_not(kv_cache_memory_bytes=100_000)
        assert not refused.fits
        tokens = len(llm.get_tokenizer().encode(PROMPTS[0])) + 99
        need = -(-tokens // 16)
        per_block = 16 * llm.model.kv_bytes_per_token
        assert refused.instead == {"kv_cache_memory_bytes": need * per_block}
        assert f"which need {need} blocks of 16 tokens" in repr(refused)
        assert f"llm.configure(kv_cache_memory_bytes={need * per_block})" in repr(refused)
        assert "does not fit" in refused._repr_html_()
        assert llm.why_not(**refused.instead).fits
        with pytest.raises(DoesNotFitError):
            llm.configure(kv_cache_memory_bytes=(need - 1) * per_block)
        assert llm.configure(**refused.instead).measured.num_blocks == need
        assert llm.why_not(quantization="fp8").instead == {"quantization": "int8"}
        llm.resume()
        assert len(handle.result(60).outputs[0].token_ids) == 100


@pytest.mark.parametrize("failure", [RuntimeError("DefaultCPUAllocator: can't allocate memory"), MemoryError()])
def test_out_of_memory_on_load_is_told_with_the_arithmetic(monkeypatch, failure):
    with LLM(num_gpu_blocks_override=64) as other:

        def fail(*_):
            raise failure

        monkeypatch.setattr(loader.Checkpoint, "get", fail)
        monkeypatch.setattr(loader, "free_bytes", lambda device: 5_000_000)
        with pytest.raises(DoesNotFitError, match=r"float32 need 12,\d+,\d+ bytes.* cpu has 5,000,000 free") as told:
            LLM()
        assert (told.value.need, told.value.have) == (4 * other.model.num_parameters, 5_000_000)
        assert "quantization='int4'" in told.value.change
        monkeypatch.undo()
        assert len(other.generate(PROMPTS[0], GREEDY, use_tqdm=False)[0].outputs[0].token_ids) == 24


def test_other_failures_of_loading_keep_their_names(monkeypatch):
    def fail(*_):
        raise RuntimeError("something else")

    monkeypatch.setattr(loader.Checkpoint, "get", fail)
    with pytest.raises(RuntimeError, match="something else"):
        LLM()


def test_one_block_too_small_names_the_size_that_holds_one():
    with pytest.raises(DoesNotFitError) as told:
        LLM(kv_cache_memory_bytes=10)
    [(name, size)] = told.value.instead.items()
    with LLM(**{name: size}) as llm:
        assert llm.settings["num_gpu_blocks_override"].resolved == 1
