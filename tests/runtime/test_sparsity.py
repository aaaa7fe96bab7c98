"""2:4 sparsity: which weights go, what is left in bytes, and what a device without a kernel for it says."""

import pytest
import torch
import transformers
from random_models import NEW_TOKENS, greedy_answers, make_prompts

from workbench import LLM, SamplingParams
from workbench.core.config import EngineArgs
from workbench.core.errors import ConfigError, DoesNotFitError
from workbench.core.weights import WeightRow
from workbench.runtime.quantization import predicted_bytes
from workbench.runtime.sparsity import packed_bytes, prune

GREEDY = SamplingParams(temperature=0, max_tokens=NEW_TOKENS, ignore_eos=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Feed-forwards of 96 inputs do not qualify, all other matrices do."""
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=100,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.2,
    )
    path = tmp_path_factory.mktemp("sparse")
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(path)
    return path


def test_the_two_smallest_of_every_four_go():
    weight = torch.tensor([[1.0, -4.0, 2.0, 3.0, 0.5, 0.5, 0.5, 0.5], [0.0, -1.0, 0.0, 1.0, -9.0, 8.0, 7.0, 6.0]])
    pruned = [[0.0, -4.0, 0.0, 3.0, 0.5, 0.5, 0.0, 0.0], [0.0, -1.0, 0.0, 1.0, -9.0, 8.0, 0.0, 0.0]]
    assert prune(weight).tolist() == pruned


def test_bytes_by_hand():
    # 64 × 128 weights: 4096 are kept, in 2 bytes each, and 2 bits each are 1024 bytes.
    assert packed_bytes(64, 128) == 8192 + 1024
    rows = [
        WeightRow("layer 0 down", (64, 128), "bfloat16", 64 * 128 * 2 + 64 * 2, bias_bytes=64 * 2, quantizable=True),
        WeightRow("layer 0 up", (64, 96), "bfloat16", 64 * 96 * 2, quantizable=True),  # 96 is no multiple of 64
        WeightRow("layer 0 odd", (48, 64), "bfloat16", 48 * 64 * 2, quantizable=True),  # 48 is none of 32
        WeightRow("head", (128, 64), "bfloat16", 128 * 64 * 2),
    ]
    wanted = (8192 + 1024 + 128) + 64 * 96 * 2 + 48 * 64 * 2 + 128 * 64 * 2
    assert predicted_bytes(rows, "2:4", torch.bfloat16) == wanted
    assert predicted_bytes(rows, "2:4-dense", torch.bfloat16) == sum(row.bytes for row in rows)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU may do what is refused here; see tests/gpu")
def test_without_a_gpu_it_is_predicted_and_refused(folder):
    with LLM(str(folder)) as llm:
        # Each layer: qkv 128 × 64, out 64 × 64, gate and up 192 × 64 (down, of 96 inputs, does not qualify).
        packed = 2 * (64 * (128 + 64 + 192) * 9 // 8)
        dense = 2 * 64 * (128 + 64 + 192) * 4
        change = llm.predict(sparsity="2:4")
        assert change.predicted.weight_bytes == llm.model.weight_bytes - dense + packed
        assert "6 of 8 matrices of the layers qualify" in change.refused
        assert "54.0 KiB with values in bfloat16 where they take 192 KiB now" in change.refused  # 55,296 and 196,608 B
        assert (packed, dense) == (55_296, 196_608)
        assert "2 of 192 × 64: 13.5 KiB each" in change.refused
        assert change.instead == {"sparsity": None, "quantization": "int8"}
        with pytest.raises(DoesNotFitError, match=r"compute capability 8\.0 or more.* this is cpu.*predicted: 6 of 8"):
            llm.configure(sparsity="2:4")
        assert llm.settings["sparsity"] == (None, None)
    with pytest.raises(ConfigError, match=r"compute capability 8\.0"):
        LLM(str(folder), sparsity="2:4")


def test_pruned_weights_in_full_answer_as_transformers_with_the_same_ones(folder):
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    for module in model.model.modules():
        if isinstance(module, torch.nn.Linear) and module.in_features % 64 == 0:
            module.weight.data = prune(module.weight.data)
    prompts = make_prompts()
    prompts = [[token % 100 for token in prompt] for prompt in prompts]
    wanted = greedy_answers(model, prompts, NEW_TOKENS)
    with LLM(str(folder), block_size=4) as llm:

        def answers():
            return [list(o.outputs[0].token_ids) for o in llm.generate(prompts, GREEDY, use_tqdm=False)]

        full, size = answers(), llm.model.weight_bytes
        changed = llm.configure(sparsity="2:4-dense")
        assert changed.measured.weight_bytes == changed.predicted.weight_bytes == size
        assert answers() == wanted != full
        notes = {row.name: row.note for row in llm.weights() if row.name.startswith("layer 0")}
        assert "2 of every 4 weights are zeros" in notes["layer 0 qkv"]
        assert "left as it was" in notes["layer 0 down"]
        quality = llm.quality(prompts=[p for p in prompts if len(p) > 8][:2], greedy_tokens=0, use_tqdm=False)
        assert quality.name.endswith("in 2:4-dense")
        assert quality.mean_kld.value > 0.01
        with pytest.raises(ConfigError, match="cannot be combined"):
            llm.configure(quantization="int8")
        llm.configure(sparsity=None)
        assert answers() == full


def test_settings():
    assert EngineArgs(sparsity="2:4").weight_format == "2:4"
    assert EngineArgs(quantization="int4").with_weight_format("2:4") == EngineArgs(sparsity="2:4")
    assert EngineArgs(sparsity="2:4").with_weight_format("int4") == EngineArgs(quantization="int4")
    assert EngineArgs(sparsity="2:4").with_weight_format(None) == EngineArgs()
    with pytest.raises(ConfigError, match=r"sparsity must be one of None, 2:4, 2:4-dense"):
        EngineArgs(sparsity="1:2")
