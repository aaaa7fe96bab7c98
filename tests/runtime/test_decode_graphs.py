"""Recorded decode steps, without a GPU: a recording is a step that is run again on the same buffers."""

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from plans import Driver
from random_models import greedy_answers

from workbench.core.config import EngineArgs, resolve_scheduler_config
from workbench.runtime.decode_graphs import DecodeBuffers, DecodeGraphs, Step, bucket_sizes
from workbench.runtime.loader import load_model
from workbench.runtime.memory import pool_shape
from workbench.runtime.model_runner import TorchModelRunner

CPU = torch.device("cpu")


@pytest.mark.parametrize(("most", "sizes"), [(1, (1,)), (3, (1, 2, 3)), (8, (1, 2, 4, 8)), (20, (1, 2, 4, 8, 16, 20))])
def test_bucket_sizes(most: int, sizes: tuple[int, ...]) -> None:
    assert bucket_sizes(most) == sizes


def test_buffers_keep_their_addresses_and_mark_what_is_padding() -> None:
    buffers = DecodeBuffers(4, 3, block_size=8, device=CPU, query_tile=64)
    tokens, meta = buffers.inputs(4)
    addresses = [tensor.data_ptr() for tensor in (tokens, *meta.device[:4])]
    tables = np.array([[5, 6, 0], [7, 0, 0], [1, 2, 3]], np.int32)
    buffers.fill(np.array([50, 51, 52]), np.array([8, 7, 20]), tables)
    assert tokens.tolist() == [50, 51, 52, 0]
    assert meta.device.positions.tolist() == [8, 7, 20, -1]
    assert meta.device.slot_mapping.tolist() == [6 * 8, 7 * 8 + 7, 3 * 8 + 4, -1]
    assert meta.device.block_tables[:3].tolist() == tables.tolist()
    assert meta.device.token_rows.tolist() == [0, 1, 2, 3]
    buffers.fill(np.array([60]), np.array([0]), tables[:1])
    assert tokens.tolist() == [60, 0, 0, 0]
    assert meta.device.slot_mapping.tolist() == [5 * 8, -1, -1, -1]
    assert [tensor.data_ptr() for tensor in (tokens, *meta.device[:4])] == addresses


def test_the_smallest_recording_that_is_large_enough_runs() -> None:
    ran: list[int] = []

    def capture(step: Step) -> Step:
        size = len(step())

        def again() -> torch.Tensor:
            ran.append(size)
            return step()

        return again

    buffers = DecodeBuffers(8, 1, 4, CPU, 64)
    graphs = DecodeGraphs(lambda tokens, meta: tokens[:, None].float(), buffers, (1, 2, 8), capture)
    for count in (1, 2, 3, 8):
        buffers.fill(np.arange(count) + 10, np.zeros(count, np.int64), np.zeros((count, 1), np.int32))
        assert graphs.run(count)[:, 0].tolist() == list(range(10, 10 + count))
    assert ran == [1, 2, 8, 8]
    assert graphs.largest == 8


def test_recorded_steps_give_the_same_answers(tmp_path: Path) -> None:
    pytest.importorskip("triton", reason="Triton is not installed; its wheels are for Linux")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=97,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=48,
        initializer_range=0.3,
    )
    model = transformers.LlamaForCausalLM(config).eval()
    model.save_pretrained(tmp_path)
    prompts = [torch.randint(3, 97, (length,)).tolist() for length in (1, 7, 12)]
    loaded = load_model(EngineArgs(model=str(tmp_path), device="cpu"))
    settings = resolve_scheduler_config(
        EngineArgs(block_size=4, max_num_seqs=4), loaded.spec, pool_shape(loaded.spec, 40, 4)
    )
    ran: list[int] = []

    def capture(step: Step) -> Step:
        def again() -> torch.Tensor:
            logits = step()
            ran.append(len(logits))
            return logits

        return again

    runner = TorchModelRunner(loaded, settings, kernel_backend="triton", capture=capture)
    driver = Driver(runner, 4)
    for index, prompt in enumerate(prompts):
        driver.add(str(index), prompt)
    for _ in range(5):
        driver.step()
    found = [driver.tokens[str(i)][len(prompt) :] for i, prompt in enumerate(prompts)]
    assert found == greedy_answers(model, prompts, 5)
    assert ran == [4] * 4  # the prompts' step is no decode step; three requests fill up to four rows
    eager = TorchModelRunner(loaded, settings, kernel_backend="triton", enforce_eager=True, capture=capture)
    assert eager._graphs is None
    eager.close()
    runner.close()
