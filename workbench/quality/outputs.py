"""Two engines on the same prompts, side by side, with the place where they part."""

import html
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from workbench.core.config import ModelSpec
from workbench.core.errors import ConfigError
from workbench.core.sampling_params import SamplingParams
from workbench.core.scheduler_output import SampledToken
from workbench.quality.lockstep import Lockstep, Prompt, Row, Side

if TYPE_CHECKING:
    from workbench.llm import LLM

ALTERNATIVES = 5
POLL_SECONDS = 0.02


class Chosen(NamedTuple):
    """What one side chose where they part. text: None if its answer had ended.

    probability: its own, of that token. of_other: what this side gave to the other side's token; None if that is not
    known, as only the likeliest tokens are kept.
    """

    text: str | None
    probability: float | None
    of_other: float | None


@dataclass(frozen=True)
class Pair:
    """Two answers to a prompt, token by token as text. diverges_at: the first token that differs, None if none does.

    parting: what either side chose there, first and second.
    """

    prompt: str
    first: tuple[str, ...]
    second: tuple[str, ...]
    diverges_at: int | None
    parting: tuple[Chosen, Chosen] | None = None

    @property
    def summary(self) -> str:
        """In a sentence: how far they are equal, and what either side chose at the first difference."""
        longest = max(len(self.first), len(self.second))
        if self.diverges_at is None:
            return "equal in its 1 token" if longest == 1 else f"equal in all {longest:,} tokens"
        told = ""
        if self.parting is not None:
            told = ": " + " against ".join(map(_choice, self.parting))
        at = self.diverges_at
        return f"equal for {at:,} of {longest:,} tokens; first differs at token {at + 1:,}{told}"


def _choice(chosen: Chosen) -> str:
    if chosen.text is None:
        return "the end"
    text = chosen.text.replace("\n", "⏎").replace("\t", "⇥")
    if chosen.probability is None:
        return f"'{text}'"
    return f"'{text}' " + ("< 0.01" if 0 < chosen.probability < 0.005 else f"{chosen.probability:.2f}")


@dataclass(frozen=True)
class OutputComparison:
    """One Pair a prompt; prints what both answers have in common once, and marks where they part."""

    names: tuple[str, str]
    pairs: tuple[Pair, ...]

    @property
    def same(self) -> int:
        """Prompts that both answer alike."""
        return sum(pair.diverges_at is None for pair in self.pairs)

    def _title(self) -> str:
        return f"{self.names[0]} beside {self.names[1]}: {self.same} of {len(self.pairs)} answers are the same"

    def __repr__(self) -> str:
        width = max(map(len, self.names))
        lines = [self._title()]
        for pair in self.pairs:
            lines += ["", pair.prompt + (" …" if pair.prompt else "")]
            if pair.diverges_at is None:
                lines.append(f"  both: {''.join(pair.first)}")
                continue
            at = pair.diverges_at
            lines.append(f"  {pair.summary}")
            lines.append(f"  {'both':{width}} {''.join(pair.first[:at])}")
            for name, tokens in zip(self.names, (pair.first, pair.second), strict=True):
                lines.append(f"  {name:{width}} ⟦{''.join(tokens[at : at + 1])}⟧{''.join(tokens[at + 1 :])}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        cells = "".join(self._row(pair) for pair in self.pairs)
        heads = "".join(f"<th style='text-align:left;width:50%'>{html.escape(name)}</th>" for name in self.names)
        return (
            f"<p><b>{html.escape(self._title())}</b>; the first token that differs is framed</p>"
            f"<table style='width:100%;table-layout:fixed'><tr>{heads}</tr>{cells}</table>"
        )

    def _row(self, pair: Pair) -> str:
        where = "the same" if pair.diverges_at is None else html.escape(pair.summary)
        answers = "".join(
            "<td style='text-align:left;vertical-align:top;white-space:pre-wrap'>"
            f"{_marked(tokens, pair.diverges_at)}</td>"
            for tokens in (pair.first, pair.second)
        )
        prompt = html.escape(pair.prompt)
        return (
            "<tr><td colspan='2' style='text-align:left;white-space:pre-wrap;border-top:1px solid #8888'>"
            f"<i>{prompt}</i> <small>({where})</small></td></tr><tr>{answers}</tr>"
        )


def _marked(tokens: tuple[str, ...], at: int | None) -> str:
    if at is None:
        return f"<span style='opacity:.65'>{html.escape(''.join(tokens))}</span>"
    common, token, rest = (html.escape("".join(part)) for part in (tokens[:at], tokens[at : at + 1], tokens[at + 1 :]))
    frame = "display:inline-block;outline:2px solid #d55e00;border-radius:2px;font-weight:bold"
    return f"<span style='opacity:.65'>{common}</span><span style='{frame}'>{token or '∎'}</span>{rest}"


def compare_outputs(
    first: "LLM",
    second: "LLM",
    prompts: Prompt | Sequence[Prompt],
    sampling_params: SamplingParams | None = None,
) -> OutputComparison:
    """Let two engines answer the same prompts, step for step at the same time, and show where their answers part.

    Greedy by default, 48 tokens. With a temperature give a seed: the same draws then meet both distributions. The
    engines must be of the same vocabulary, and not paused.
    """
    for llm in (first, second):
        if llm.status().state == "paused":
            raise ConfigError("one of the engines is paused and has to generate; resume it first")
    params = SamplingParams(temperature=0.0, max_tokens=48) if sampling_params is None else sampling_params
    if params.logprobs is None:
        params = replace(params, logprobs=ALTERNATIVES)
    single = isinstance(prompts, str) or (prompts and all(isinstance(token, int) for token in prompts))
    asked: list[Prompt] = [prompts] if single else list(prompts)  # type: ignore[list-item, arg-type]
    run = Lockstep(first.client, second.client, asked, params)
    rows: list[Row] = []
    try:
        while not run.done:
            rows += run.advance()
            time.sleep(POLL_SECONDS)
    except BaseException:  # KeyboardInterrupt above all
        run.cancel()
        raise
    tokenizer = first.get_tokenizer()

    def text(token: int) -> str:
        return f"{token} " if tokenizer is None else tokenizer.token_text(token)

    shown = [prompt if isinstance(prompt, str) else "".join(map(text, prompt)) for prompt in asked]
    return comparison((side_name(first.model), side_name(second.model)), shown, rows, text)


def comparison(
    names: tuple[str, str], prompts: Sequence[str], rows: Iterable[Row], text: Callable[[int], str]
) -> OutputComparison:
    """What the rows of a Lockstep come to. text: of a token."""
    places: list[list[Row]] = [[] for _ in prompts]
    for row in rows:
        places[row.prompt].append(row)
    return OutputComparison(names, tuple(_pair(*both, text) for both in zip(prompts, places, strict=True)))


def side_name(spec: ModelSpec, kv_cache_dtype: str = "auto") -> str:
    """What sets an engine apart from another of the same model: how weights and, if not plainly, KV are stored."""
    weights = spec.quantization or spec.sparsity or spec.dtype
    return weights if kv_cache_dtype == "auto" else f"{weights}, {kv_cache_dtype} KV"


def _pair(prompt: str, rows: Sequence[Row], text: Callable[[int], str]) -> Pair:
    first, second = (
        tuple(text(row[side].token_id) for row in rows if isinstance(row[side], SampledToken)) for side in (1, 2)
    )
    at = next((place for place, row in enumerate(rows) if token_of(row.first) != token_of(row.second)), None)
    parting = None
    if at is not None:
        a, b = rows[at].first, rows[at].second
        parting = (_chosen(a, b, text), _chosen(b, a, text))
    return Pair(prompt, first, second, at, parting)


def token_of(side: Side) -> int | None:
    """The token's id; None past the end."""
    return side.token_id if isinstance(side, SampledToken) else None


def _chosen(side: Side, other: Side, text: Callable[[int], str]) -> Chosen:
    if not isinstance(side, SampledToken):
        return Chosen(None, None, None)
    known = {**dict(side.alternatives), **({} if side.logprob is None else {side.token_id: side.logprob})}
    theirs = known.get(token_of(other)) if isinstance(other, SampledToken) else None
    own = None if side.logprob is None else math.exp(side.logprob)
    return Chosen(text(side.token_id), own, None if theirs is None else math.exp(theirs))
