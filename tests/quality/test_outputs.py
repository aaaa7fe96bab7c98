"""Two engines on the same prompts."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
from random_models import RandomModel

from workbench import LLM, SamplingParams, compare_outputs
from workbench.core.errors import ConfigError

PROMPTS = ["Once upon a time", "The little dog", "It was a sunny day and"]
GREEDY = SamplingParams(temperature=0, max_tokens=30)


def test_where_answers_part() -> None:
    with LLM() as full, LLM(quantization="int4") as small:
        found = compare_outputs(full, small, PROMPTS, GREEDY)
        for llm, side in ((full, "first"), (small, "second")):
            outputs = llm.generate(PROMPTS, replace(GREEDY, logprobs=5), use_tqdm=False)
            text = llm.get_tokenizer().token_text
            for pair, output in zip(found.pairs, outputs, strict=True):
                if pair.parting is not None:
                    here, there = pair.parting if side == "first" else pair.parting[::-1]
                    known = output.outputs[0].logprobs[pair.diverges_at]
                    shares = {choice.decoded_token: math.exp(choice.logprob) for choice in known.values()}
                    assert here == (here.text, pytest.approx(shares[here.text]), pytest.approx(shares.get(there.text)))
                    assert f"'{here.text}' {shares[here.text]:.2f}" in pair.summary
            assert [getattr(pair, side) for pair in found.pairs] == [
                tuple(map(text, output.outputs[0].token_ids)) for output in outputs
            ]
    assert found.names == ("float32", "int4")
    assert found.same < len(PROMPTS)
    for pair in found.pairs:
        at = pair.diverges_at
        if at is None:
            assert pair.first == pair.second
        else:
            assert pair.first[:at] == pair.second[:at]
            assert pair.first[at] != pair.second[at]
    parted = next(pair for pair in found.pairs if pair.diverges_at is not None)
    assert f"⟦{parted.first[parted.diverges_at]}⟧" in repr(found)
    assert f"first differs at token {parted.diverges_at + 1}" in found._repr_html_()


def test_an_engine_beside_itself() -> None:
    with LLM() as llm:
        found = compare_outputs(llm, llm, "Once upon a time", GREEDY)
    assert [pair.diverges_at for pair in found.pairs] == [None]
    assert "both: " in repr(found)
    assert "the same" in found._repr_html_()


def test_what_cannot_be_compared(random_model: Callable[[str], RandomModel]) -> None:
    with LLM() as llm, LLM(str(random_model("llama").folder)) as other:
        with pytest.raises(ConfigError, match="same vocabulary"):
            compare_outputs(llm, other, "a")
        llm.pause()
        with pytest.raises(ConfigError, match="paused"):
            compare_outputs(llm, llm, "a")
