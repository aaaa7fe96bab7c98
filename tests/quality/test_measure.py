"""The quality meter's figures against the same ones calculated another way, with transformers alone."""

import math
import statistics
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from random_models import RandomModel, greedy_answers

from workbench import LLM, SamplingParams
from workbench.core.errors import ConfigError, InvalidRequestError
from workbench.embedded import draft_path, heldout_text, model_path
from workbench.quality.report import Quality
from workbench.runtime.divergence import score_tokens

N_CTX, CHUNKS = 128, 3


@pytest.fixture(scope="module")
def base() -> Iterator[LLM]:
    with LLM() as llm:
        yield llm


@pytest.fixture(scope="module")
def small() -> Iterator[LLM]:
    with LLM(str(draft_path())) as llm:
        yield llm


@pytest.fixture(scope="module")
def measured(base: LLM, small: LLM) -> Quality:
    return small.quality(base, n_ctx=N_CTX, max_chunks=CHUNKS, greedy_tokens=20)


def theirs() -> tuple[Any, Any]:
    load = transformers.AutoModelForCausalLM.from_pretrained
    return load(draft_path()).eval(), load(model_path()).eval()


@pytest.fixture(scope="module")
def expected(base: LLM) -> dict[str, list[float]]:
    """Per scored token, by transformers: losses of both models, KL divergence, whether the top token is the same."""
    own, full = theirs()
    tokens = base.get_tokenizer().encode(heldout_text())
    found: dict[str, list[float]] = {"nll": [], "base_nll": [], "kld": [], "same": []}
    with torch.inference_mode():
        for at in range(0, CHUNKS * N_CTX, N_CTX):
            chunk = torch.tensor([[0, *tokens[at + 1 : at + N_CTX]]])
            scored = slice(N_CTX // 2, N_CTX - 1)
            p, q = (model(chunk).logits[0, scored].log_softmax(-1) for model in (full, own))
            came = chunk[0, N_CTX // 2 + 1 :]
            found["nll"] += torch.nn.functional.nll_loss(q, came, reduction="none").tolist()
            found["base_nll"] += torch.nn.functional.nll_loss(p, came, reduction="none").tolist()
            found["kld"] += torch.nn.functional.kl_div(q, p, reduction="none", log_target=True).sum(-1).tolist()
            found["same"] += (p.argmax(-1) == q.argmax(-1)).float().tolist()
    return found


def test_perplexity(measured: Quality, expected: dict[str, list[float]]) -> None:
    for found, nll in ((measured.perplexity, expected["nll"]), (measured.base_perplexity, expected["base_nll"])):
        value = math.exp(statistics.fmean(nll))
        assert found.value == pytest.approx(value, rel=1e-4)
        assert found.error == pytest.approx(value * statistics.stdev(nll) / math.sqrt(len(nll)), rel=1e-3)
    assert measured.num_tokens == CHUNKS * (N_CTX // 2 - 1)


def test_the_ratios_error_knows_that_both_saw_the_same_text(
    measured: Quality, expected: dict[str, list[float]]
) -> None:
    differences = [a - b for a, b in zip(expected["nll"], expected["base_nll"], strict=True)]
    ratio = measured.perplexity.value / measured.base_perplexity.value
    assert measured.perplexity_ratio.value == pytest.approx(ratio)
    error = ratio * statistics.stdev(differences) / math.sqrt(len(differences))
    assert measured.perplexity_ratio.error == pytest.approx(error, rel=1e-3)


def test_divergence(measured: Quality, expected: dict[str, list[float]]) -> None:
    kld = expected["kld"]
    assert measured.mean_kld.value == pytest.approx(statistics.fmean(kld), rel=1e-3)
    assert measured.mean_kld.error == pytest.approx(statistics.stdev(kld) / math.sqrt(len(kld)), rel=1e-3)
    assert measured.median_kld == pytest.approx(statistics.median(kld), rel=1e-3)
    percentile = statistics.quantiles(kld, n=100, method="inclusive")[98]
    assert measured.kld_percentile(99.0) == pytest.approx(percentile, rel=1e-3)
    assert measured.max_kld == pytest.approx(max(kld), rel=1e-3)
    assert measured.mean_kld.value > 0.1


def test_top_tokens_and_probabilities(measured: Quality, expected: dict[str, list[float]]) -> None:
    share = statistics.fmean(expected["same"])
    assert measured.same_top_p.value == pytest.approx(share)
    assert measured.same_top_p.error == pytest.approx(math.sqrt(share * (1 - share) / (len(expected["same"]) - 1)))
    delta = [math.exp(-a) - math.exp(-b) for a, b in zip(expected["nll"], expected["base_nll"], strict=True)]
    assert measured.mean_delta_p.value == pytest.approx(statistics.fmean(delta), rel=1e-3)
    assert measured.rms_delta_p == pytest.approx(math.sqrt(statistics.fmean(d * d for d in delta)), rel=1e-3)


def test_the_first_diverging_token_is_where_two_greedy_runs_part(measured: Quality, base: LLM) -> None:
    own, full = theirs()
    tokens = base.get_tokenizer().encode(heldout_text())
    heads = [[0, *tokens[at + 1 : at + 32]] for at in range(0, CHUNKS * N_CTX, N_CTX)]
    ours, original = (greedy_answers(model, heads, 20) for model in (own, full))
    parts = tuple(
        next((at for at, (x, y) in enumerate(zip(a, b, strict=True)) if x != y), None)
        for a, b in zip(ours, original, strict=True)
    )
    assert measured.first_diverging_token == parts
    assert any(place is not None for place in parts)


def test_a_model_against_itself(base: LLM) -> None:
    same = base.quality(n_ctx=64, max_chunks=2, greedy_tokens=8)
    assert same.mean_kld.value == pytest.approx(0.0, abs=1e-12)
    assert same.same_top_p.value == 1.0
    assert same.perplexity_ratio == (1.0, 0.0)
    assert same.first_diverging_token == (None, None)
    assert "against itself" in repr(same)


def test_prompts_of_ones_own_count_whole(base: LLM, small: LLM) -> None:
    ids = base.get_tokenizer().encode("The little dog ran to the park.")
    found = small.quality(base, prompts=["The little dog ran to the park.", ids[:4]], greedy_tokens=0)
    assert found.num_tokens == len(ids) - 1 + 3
    assert found.first_diverging_token == ()
    assert "First diverging" not in repr(found)


def test_it_shows_itself(measured: Quality) -> None:
    text, page = repr(measured), measured._repr_html_()
    for word in ("Mean PPL(Q)", "Mean KLD", "99.0% KLD", "Median KLD", "Same top p", "RMS Δp"):
        assert word in text
        assert word in page
    assert "<svg" in page
    assert len(measured.places) == 6
    assert measured.places[0].kld == pytest.approx(measured.max_kld)


def test_requests_in_flight_are_left_alone(base: LLM) -> None:
    params = SamplingParams(temperature=0, max_tokens=40, ignore_eos=True)
    alone = base.generate("Once upon a time", params, use_tqdm=False)[0].outputs[0].token_ids
    base.reset_prefix_cache()
    base.pause()
    handle = base.submit("Once upon a time", params)
    base.step(5)
    before, steps = base.snapshot(), len(base.trace.records())
    base.logits(list(range(200)))
    assert base.snapshot() == before
    assert len(base.trace.records()) == steps
    base.resume()
    assert handle.result().outputs[0].token_ids == alone


def test_what_cannot_be_measured(base: LLM, small: LLM, random_model: Callable[[str], RandomModel]) -> None:
    with pytest.raises(InvalidRequestError, match="not both"):
        base.quality(text="a", prompts=["b"])
    with pytest.raises(InvalidRequestError, match="1 tokens"):
        base.quality(prompts=[[5]])
    with pytest.raises(ConfigError, match="n_ctx"):
        base.quality(n_ctx=100_000)
    with pytest.raises(InvalidRequestError, match="first=9"):
        base.logits([1, 2], 9)
    base.pause()
    with pytest.raises(ConfigError, match="paused"):
        small.quality(base)
    base.resume()
    with (
        LLM(str(random_model("llama").folder)) as other,
        pytest.raises(ConfigError, match="same vocabulary"),
    ):
        other.quality(base)


def test_a_token_that_the_base_rules_out_adds_nothing() -> None:
    base = torch.tensor([[0.0, 0.0, -torch.inf]])
    own = torch.tensor([[0.0, 1.0, -torch.inf]])
    scores = score_tokens(own, base, torch.tensor([0]))
    p = np.exp([0.0, 1.0]) / np.exp([0.0, 1.0]).sum()
    assert scores.kld[0] == pytest.approx(sum(0.5 * math.log(0.5 / x) for x in p))


def test_an_8_bit_kv_cache_is_measured_against_the_models_own(base: LLM) -> None:
    options = {"n_ctx": N_CTX, "max_chunks": CHUNKS, "greedy_tokens": 8, "use_tqdm": False}
    found = {}
    for kind in ("int8", "fp8"):
        with LLM(kv_cache_dtype=kind, num_gpu_blocks_override=64) as llm:
            found[kind] = llm.quality(**options)
            assert f"with {kind} KV" in found[kind].name
    own = base.quality(**options)
    for quality in found.values():
        assert quality.base_perplexity == own.perplexity
    assert own.max_kld == 0
    # Eight bits with a scale for each token cost little, and three bits of mantissa more than seven.
    assert 0 < found["int8"].mean_kld.value < found["fp8"].mean_kld.value < 0.05
