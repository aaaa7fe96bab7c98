"""Two engines on the same prompts, side by side, with the place where they part."""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workbench.core.errors import ConfigError
from workbench.core.sampling_params import SamplingParams

if TYPE_CHECKING:
    from workbench.llm import LLM

Prompt = str | Sequence[int]


@dataclass(frozen=True)
class Pair:
    """Two answers to a prompt, token by token as text. diverges_at: the first token that differs, None if none does."""

    prompt: str
    first: tuple[str, ...]
    second: tuple[str, ...]
    diverges_at: int | None


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
            lines.append(f"  same for {at} tokens: {''.join(pair.first[:at])}")
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
        where = "the same" if pair.diverges_at is None else f"part at token {pair.diverges_at + 1}"
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
    if first.model.vocab_size != second.model.vocab_size:
        raise ConfigError(
            f"the two models have {first.model.vocab_size} and {second.model.vocab_size} tokens; only answers in the "
            "same vocabulary can be compared token by token"
        )
    for llm in (first, second):
        if llm.status().state == "paused":
            raise ConfigError("one of the engines is paused and has to generate; resume it first")
    params = SamplingParams(temperature=0.0, max_tokens=48) if sampling_params is None else sampling_params
    single = isinstance(prompts, str) or (prompts and all(isinstance(token, int) for token in prompts))
    asked: list[Prompt] = [prompts] if single else list(prompts)  # type: ignore[list-item, arg-type]
    handles = [(first.submit(prompt, params), second.submit(prompt, params)) for prompt in asked]
    tokenizer = first.get_tokenizer()

    def text(token: int) -> str:
        return f"{token} " if tokenizer is None else tokenizer.token_text(token)

    pairs = []
    for prompt, both in zip(asked, handles, strict=True):
        a, b = (list(handle.result().outputs[0].token_ids) for handle in both)
        shorter = min(len(a), len(b))
        at = next((i for i in range(shorter) if a[i] != b[i]), None if len(a) == len(b) else shorter)
        shown = prompt if isinstance(prompt, str) else "".join(map(text, prompt))
        pairs.append(Pair(shown, tuple(map(text, a)), tuple(map(text, b)), at))
    return OutputComparison((_name(first), _name(second)), tuple(pairs))


def _name(llm: "LLM") -> str:
    return llm.model.quantization or llm.model.sparsity or llm.model.dtype
