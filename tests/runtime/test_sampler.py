"""The sampler against plain references, one row at a time."""

import math
import random
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from workbench.core.sampling_params import SamplingParams
from workbench.core.scheduler_output import NewRequest
from workbench.runtime.request_row import RequestRow
from workbench.runtime.sampler import sample
from workbench_kernels.dispatch import select_kernels

VOCAB = 30
KERNELS = select_kernels(torch.device("cpu"), torch.float32, 8)


def row(
    name: str = "r", prompt: tuple[int, ...] = (1, 2), outputs: tuple[int, ...] = (), seed: int = 0, **params: Any
) -> RequestRow:
    return RequestRow(NewRequest(name, prompt, outputs, SamplingParams(max_tokens=999, **params), seed), 0, VOCAB)


def logits(rows: int = 1, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, VOCAB, generator=torch.Generator().manual_seed(seed)) * 3


def token(values: torch.Tensor, request: RequestRow, eos: tuple[int, ...] = ()) -> int:
    return sample(values[None].clone(), [request], eos, KERNELS).sampled[request.request_id].token_id


def plain_distribution(values: np.ndarray, params: SamplingParams) -> np.ndarray:
    """Probabilities by the book: temperature, min_p, top_k, top_p, each renormalised."""
    scaled = values.astype(np.float64) / params.temperature
    probs = np.exp(scaled - scaled.max())
    probs /= probs.sum()
    probs[probs < params.min_p * probs.max()] = 0
    order = np.argsort(-probs, kind="stable")
    if params.top_k > 0:
        probs[order[params.top_k :]] = 0
    probs /= probs.sum()
    kept, running = [], 0.0
    for index in order:
        if running >= params.top_p and kept:
            break
        kept.append(index)
        running += probs[index]
    mask = np.zeros(len(probs), bool)
    mask[kept] = True
    probs[~mask] = 0
    return probs / probs.sum()


@pytest.mark.parametrize(
    "params",
    [
        {"temperature": 0.7},
        {"temperature": 2.0, "min_p": 0.1},
        {"temperature": 1.0, "top_k": 5},
        {"temperature": 1.5, "top_p": 0.8},
        {"temperature": 1.5, "top_k": 7, "top_p": 0.9, "min_p": 0.02},
        {"temperature": 1.0, "top_k": 1},
        {"temperature": 1.0, "top_p": 1e-9},
    ],
    ids=str,
)
def test_distribution(params: dict[str, Any]) -> None:
    values = logits()[0]
    request = row(seed=5, **params)
    draws = 4000
    counts = np.bincount([token(values, request) for _ in range(draws)], minlength=VOCAB)
    wanted = plain_distribution(values.numpy(), request.params)
    assert counts[wanted == 0].sum() == 0
    deviation = np.abs(counts - draws * wanted) / np.sqrt(draws * np.maximum(wanted * (1 - wanted), 1e-12) + 1)
    assert deviation.max() < 4.5  # standard deviations; the draws are the same in every run


def test_every_number_maps_through_the_inverse_distribution() -> None:
    values = logits(seed=3)[0]
    for params in ({"temperature": 1.0}, {"temperature": 1.0, "top_k": 6}):
        wanted = plain_distribution(values.numpy(), SamplingParams(**params))
        order = np.arange(VOCAB) if "top_k" not in params else np.argsort(-values.numpy(), kind="stable")
        sums = np.cumsum(wanted[order])
        for seed in range(50):
            number = random.Random(seed).random()
            assert token(values, row(seed=seed, **params)) == order[np.searchsorted(sums, number, side="right")]


@given(st.integers(0, 10_000), st.integers(1, 6))
def test_a_token_does_not_depend_on_the_batch(seed: int, others: int) -> None:
    kinds = [{"temperature": 1.0}, {"top_p": 0.7}, {"temperature": 0.0}, {"top_k": 3}, {"min_p": 0.2}, {"logprobs": 2}]
    mine = dict(kinds[seed % len(kinds)])
    values = logits(others + 1, seed)
    alone = token(values[0], row(seed=seed, **mine))
    rows = [row("mine", seed=seed, **mine)] + [row(str(i), seed=i, **kinds[i % len(kinds)]) for i in range(others)]
    assert sample(values.clone(), rows, (), KERNELS).sampled["mine"].token_id == alone


def test_a_resumed_request_goes_on_with_its_stream() -> None:
    steps = [logits(seed=seed)[0] for seed in range(6)]
    whole = row(seed=9, temperature=1.0, frequency_penalty=0.5, prompt=(4,))
    outputs: list[int] = []
    for values in steps:
        outputs.append(token(values, whole))
        whole.append(outputs[-1])
    resumed = row(seed=9, temperature=1.0, frequency_penalty=0.5, prompt=(4,), outputs=tuple(outputs[:3]))
    again = []
    for values in steps[3:]:
        again.append(token(values, resumed))
        resumed.append(again[-1])
    assert again == outputs[3:]


def test_seeds_differ() -> None:
    values = torch.zeros(VOCAB)
    assert len({token(values, row(seed=seed, temperature=1.0)) for seed in range(40)}) > 15


@pytest.mark.parametrize("repetition", [1.0, 1.7, 0.6])
@pytest.mark.parametrize(("presence", "frequency"), [(0.0, 0.0), (1.5, 0.0), (0.0, 0.8), (-1.0, -0.3)])
def test_penalties(repetition: float, presence: float, frequency: float) -> None:
    prompt, outputs = (3, 3, 7), (5, 7, 5, 5)
    values = logits(seed=1)[0]
    wanted = values.numpy().astype(np.float64)
    for index in range(VOCAB):
        count = outputs.count(index)
        if index in prompt + outputs:
            wanted[index] = wanted[index] / repetition if wanted[index] > 0 else wanted[index] * repetition
        wanted[index] -= frequency * count + presence * (count > 0)
    request = row(
        prompt=prompt,
        outputs=outputs,
        temperature=0.0,
        repetition_penalty=repetition,
        presence_penalty=presence,
        frequency_penalty=frequency,
    )
    changed = values[None].clone()
    found = sample(changed, [request], (), KERNELS).sampled["r"].token_id
    assert found == wanted.argmax()
    np.testing.assert_allclose(changed[0].numpy(), wanted, rtol=1e-5, atol=1e-6)


def test_min_tokens_forbids_stopping_until_reached() -> None:
    values = torch.zeros(VOCAB)
    values[8], values[9], values[10] = 5.0, 4.0, 3.0
    stops = {"temperature": 0.0, "min_tokens": 2, "stop_token_ids": [9]}
    assert token(values, row(**stops), eos=(8,)) == 10
    assert token(values, row(outputs=(1,), **stops), eos=(8,)) == 10
    assert token(values, row(outputs=(1, 1), **stops), eos=(8,)) == 8
    assert token(values, row(ignore_eos=True, **stops), eos=(8,)) == 8  # ignored, so it stops nothing


def test_logprobs_are_of_the_models_own_distribution() -> None:
    values = logits(seed=2)[0]
    wanted = torch.log_softmax(values.double(), -1)
    best = wanted.argsort(descending=True)[:3].tolist()
    request = row(temperature=0.0, logprobs=3, repetition_penalty=1.9, prompt=tuple(best[:1]))
    result = sample(values[None].clone(), [request], (), KERNELS).sampled["r"]
    assert result.logprob == pytest.approx(wanted[result.token_id].item(), abs=1e-5)
    assert [pair[0] for pair in result.alternatives] == best
    assert [pair[1] for pair in result.alternatives] == pytest.approx(wanted[best].tolist(), abs=1e-5)
    only = sample(values[None].clone(), [row(temperature=0.0, logprobs=0)], (), KERNELS).sampled["r"]
    assert only.alternatives == ()
    assert only.logprob == pytest.approx(wanted.max().item(), abs=1e-5)


@pytest.mark.parametrize("params", [{"temperature": 0.0}, {"temperature": 1.0}, {"top_p": 0.5}], ids=str)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_bad_row_is_an_error_of_its_own(params: dict[str, Any], bad: float) -> None:
    values = logits(3)
    values[1, 4] = bad
    result = sample(values, [row(name, **params) for name in "abc"], (), KERNELS)
    assert set(result.sampled) == {"a", "c"}
    assert "not finite" in result.errors["b"]


def test_forbidden_tokens_are_never_drawn() -> None:
    values = torch.full((VOCAB,), float("-inf"))
    values[[2, 11, 29]] = 0.0
    for params in ({"temperature": 1.0}, {"temperature": 1.0, "top_p": 0.99}):
        assert {token(values, row(seed=seed, **params)) for seed in range(60)} == {2, 11, 29}
