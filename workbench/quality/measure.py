"""The meter: two engines over the same tokens."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from tqdm.auto import tqdm

from workbench.core.errors import ConfigError, InvalidRequestError
from workbench.core.sampling_params import SamplingParams
from workbench.embedded import heldout_text
from workbench.quality.report import WORST, Place, Quality
from workbench.runtime.divergence import TokenScores, joined, score_tokens

if TYPE_CHECKING:
    from workbench.llm import LLM

N_CTX = 512  # llama-perplexity's own default
GREEDY_PROMPTS = 8
GREEDY_PROMPT_TOKENS = 32
BEFORE_TOKENS = 12


def measure(
    llm: "LLM",
    base: "LLM",
    *,
    text: str | None = None,
    prompts: Sequence[str | Sequence[int]] | None = None,
    n_ctx: int | None = None,
    max_chunks: int | None = None,
    greedy_tokens: int = 64,
    use_tqdm: bool = True,
    notes: Sequence[str] = (),
) -> Quality:
    """Score llm against base; see LLM.quality. Both must have the same vocabulary."""
    began = time.perf_counter()
    if llm.model.vocab_size != base.model.vocab_size:
        raise ConfigError(
            f"the two models have {llm.model.vocab_size} and {base.model.vocab_size} tokens; only distributions over "
            "the same vocabulary can be compared"
        )
    if greedy_tokens and base.status().state == "paused":
        raise ConfigError("the base engine is paused and has to generate; resume it, or pass greedy_tokens=0")
    chunks = _chunks(llm, base, text, prompts, n_ctx)[:max_chunks]
    heads = [tokens[:GREEDY_PROMPT_TOKENS] for tokens, _ in chunks[:GREEDY_PROMPTS]] if greedy_tokens else []
    parts: list[TokenScores] = []
    with tqdm(
        total=len(chunks) + len(heads),
        desc="Measuring",
        unit="chunk",
        delay=1.0,
        leave=False,
        disable=not use_tqdm,
        file=sys.stderr,
    ) as bar:
        for tokens, first in chunks:
            targets = torch.tensor(tokens[first + 1 :])
            parts.append(score_tokens(llm.logits(tokens, first)[:-1], base.logits(tokens, first)[:-1], targets))
            bar.update()
        diverging = []
        for head in heads:
            diverging.append(_first_diverging(llm, base, head, greedy_tokens))
            bar.update()
    scores = joined(parts)
    return Quality(
        name=_name(llm),
        base_name=_name(base),
        scores=scores,
        first_diverging_token=tuple(diverging),
        greedy_tokens=greedy_tokens,
        places=_worst(llm, chunks, scores),
        seconds=time.perf_counter() - began,
        notes=tuple(notes),
    )


def _name(llm: "LLM") -> str:
    kv = llm.settings["kv_cache_dtype"]
    cache = "" if kv.requested == "auto" else f" with {kv.resolved} KV"
    return f"{Path(llm.model.name).name} in {llm.model.quantization or llm.model.sparsity or llm.model.dtype}{cache}"


def _chunks(
    llm: "LLM",
    base: "LLM",
    text: str | None,
    prompts: Sequence[str | Sequence[int]] | None,
    n_ctx: int | None,
) -> list[tuple[list[int], int]]:
    """Token sequences, and the token in each from which on logits are scored.

    A text is cut into chunks of n_ctx tokens, each begun with the model's start token if it has one, and only the
    second half of a chunk counts, which has enough text before it: llama-perplexity's way. Prompts count from their
    first token on.
    """
    longest = min(llm.model.max_model_len, base.model.max_model_len)
    if prompts is not None:
        if text is not None:
            raise InvalidRequestError("give text or prompts, not both")
        found = [_encode(llm, p) if isinstance(p, str) else list(p) for p in prompts]
        for tokens in found:
            if not 2 <= len(tokens) <= longest:
                raise InvalidRequestError(
                    f"a prompt has {len(tokens)} tokens; scoring needs 2 to {longest} (max_model_len)"
                )
        if not found:
            raise InvalidRequestError("prompts is empty; give at least one")
        return [(tokens, 0) for tokens in found]
    tokens = _encode(llm, heldout_text() if text is None else text)
    size = min(N_CTX, longest, len(tokens)) if n_ctx is None else n_ctx
    if not 4 <= size <= longest:
        raise ConfigError(f"n_ctx={size} must be between 4 and {longest} (max_model_len), with as much text")
    start = _encode(llm, "")
    cut = [tokens[at : at + size] for at in range(0, len(tokens) - size + 1, size)]
    if not cut:
        raise InvalidRequestError(f"the text has {len(tokens)} tokens, fewer than n_ctx={size}; lower n_ctx")
    return [([*start, *chunk[len(start) :]], size // 2) for chunk in cut]


def _encode(llm: "LLM", text: str) -> list[int]:
    tokenizer = llm.get_tokenizer()
    if tokenizer is None:
        raise InvalidRequestError("this model has no tokenizer; give prompts as lists of token ids")
    return tokenizer.encode(text)


def _first_diverging(llm: "LLM", base: "LLM", head: list[int], count: int) -> int | None:
    """Where the model, given the base's own greedy tokens, would first have chosen another one.

    Up to that token both have the same text before them, so this is where two greedy runs part.
    """
    room = min(llm.model.max_model_len, base.model.max_model_len) - len(head)
    if room < 1:
        return None
    params = SamplingParams(temperature=0.0, max_tokens=min(count, room), ignore_eos=True)
    written = base.generate([head], params, use_tqdm=False)[0].outputs[0].token_ids
    own = llm.logits([*head, *written[:-1]], len(head) - 1).argmax(-1).tolist()
    return next((at for at, (a, b) in enumerate(zip(own, written, strict=True)) if a != b), None)


def _worst(llm: "LLM", chunks: list[tuple[list[int], int]], scores: TokenScores) -> tuple[Place, ...]:
    tokenizer = llm.get_tokenizer()
    if tokenizer is None:
        return ()
    where = [(tokens, at) for tokens, first in chunks for at in range(first + 1, len(tokens))]
    order = scores.kld.argsort(kind="stable")[::-1][:WORST]
    places = []
    for index in order.tolist():
        tokens, at = where[index]
        before = tokenizer.decode(tokens[max(0, at - BEFORE_TOKENS) : at])
        text = tokenizer.token_text
        came, base_top, top = text(tokens[at]), text(int(scores.base_top[index])), text(int(scores.top[index]))
        places.append(Place(float(scores.kld[index]), before, came, base_top, top))
    return tuple(places)
