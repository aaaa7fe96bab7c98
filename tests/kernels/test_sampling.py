"""Penalties and draws against the reference."""

import numpy as np
import pytest
import torch
from draws import near_a_border
from hypothesis import assume, given
from hypothesis import strategies as st

from workbench_kernels.sampling import cpu, reference, torch_impl

IMPLEMENTATIONS = pytest.mark.parametrize("ours", [cpu, torch_impl], ids=["numba", "torch"])


@IMPLEMENTATIONS
@given(
    seed=st.integers(0, 10_000),
    vocab=st.sampled_from([1, 2, 255, 256, 257, 700]),
    spread=st.sampled_from([0.01, 1.0, 5.0, 50.0]),
    uniform=st.floats(0.0, 1 - 2**-53),
    temperature=st.sampled_from([0.3, 1.0, 3.0]),
    top_k=st.sampled_from([0, -1, 1, 2, 50, 5000]),
    top_p=st.sampled_from([1.0, 0.999, 0.5, 1e-6]),
    min_p=st.sampled_from([0.0, 0.05, 1.0]),
)
def test_draw(
    ours: object,
    seed: int,
    vocab: int,
    spread: float,
    uniform: float,
    temperature: float,
    top_k: int,
    top_p: float,
    min_p: float,
) -> None:
    logits = (np.random.default_rng(seed).standard_normal(vocab) * spread).astype(np.float32)
    settings = (temperature, top_k, top_p, min_p)
    assume(not near_a_border(logits, uniform, settings))
    (found,) = ours.draw(torch.from_numpy(logits)[None], [uniform], *([value] for value in settings))
    wanted = reference.draw(logits, uniform, *settings)
    # Two tokens whose probabilities are equal in float32 may change places.
    assert found == wanted or abs(logits[found] - logits[wanted]) < 1e-6 * temperature


@IMPLEMENTATIONS
def test_equal_logits_go_by_id(ours: object) -> None:
    logits = torch.zeros(1, 300)
    for number in (0.0, 0.3, 0.999999):
        assert ours.draw(logits, [number], [1.0], [10], [1.0], [0.0]) == [int(number * 10)]
        assert ours.draw(logits, [number], [1.0], [0], [0.1001], [0.0]) == [int(number * 31)]
        assert ours.draw(logits, [number], [1.0], [0], [1.0], [0.0]) == [int(number * 300)]


@IMPLEMENTATIONS
def test_rows_are_independent(ours: object) -> None:
    logits = torch.randn(6, 500) * 3
    settings = (
        [1.0, 0.5, 2.0, 1.0, 1.0, 1.0],
        [0, 5, 0, 40, 0, 3],
        [1.0, 1.0, 0.9, 0.8, 1.0, 0.3],
        [0, 0, 0, 0, 0.1, 0],
    )
    numbers = [0.1, 0.9, 0.5, 0.3, 0.7, 0.2]
    together = ours.draw(logits, numbers, *settings)
    alone = [ours.draw(logits[i : i + 1], [numbers[i]], *([s[i]] for s in settings))[0] for i in range(6)]
    assert together == alone


@IMPLEMENTATIONS
@pytest.mark.parametrize("penalties", [(1.0, 0.0, 0.0), (1.3, 0.0, 0.0), (0.7, 0.5, 0.0), (1.0, -0.4, 1.1)], ids=str)
def test_penalties(ours: object, penalties: tuple[float, float, float]) -> None:
    logits = torch.randn(200) * 4
    counts = np.random.default_rng(0).integers(0, 4, 200).astype(np.int32)
    in_prompt = np.random.default_rng(1).random(200) < 0.3
    wanted = reference.apply_penalties(logits.numpy(), counts, in_prompt, *penalties)
    ours.apply_penalties(logits, counts, in_prompt, *penalties)
    np.testing.assert_allclose(logits.numpy(), wanted, rtol=1e-6, atol=1e-6)


def test_the_check_finds_a_wrong_draw() -> None:
    logits = np.random.default_rng(0).standard_normal(300).astype(np.float32)
    numbers = np.linspace(0.01, 0.99, 50)
    right = [reference.draw(logits, number, 1.0, 0, 0.9, 0.0) for number in numbers]
    wrong = [cpu.draw(torch.from_numpy(logits)[None], [number], [1.0], [0], [0.88], [0.0])[0] for number in numbers]
    assert right != wrong
