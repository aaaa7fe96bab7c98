"""What was measured, named and defined as llama.cpp's `llama-perplexity --kl-divergence` names and defines it."""

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from workbench.quality.picture import divergence_picture
from workbench.runtime.divergence import TokenScores
from workbench.tables import html_table, text_table

WORST = 6


class Estimate(NamedTuple):
    """A mean and its standard error."""

    value: float
    error: float

    def __str__(self) -> str:
        return f"{self.value:.6f} ± {self.error:.6f}"


class Place(NamedTuple):
    """One scored token: the text before it, the token that came, and what either model thought more probable."""

    kld: float
    before: str
    came: str
    base_top: str
    top: str


@dataclass(frozen=True, eq=False)
class Quality:
    """A model beside its base, over scored tokens of a text.

    With p and p_base the probabilities that model and base give to the token that came:

    - perplexity (PPL(Q)) and base_perplexity (PPL(base)): e to the mean of -ln p; the errors follow from the standard
      error of that mean. perplexity_ratio: one by the other, its error from the tokens' differences, which is much
      smaller, as both models see the same text.
    - kld: KL divergence of the distributions over the next token, in nats: mean_kld, median_kld, kld_percentile(99.0),
      max_kld.
    - same_top_p: share of tokens at which both have the same most probable token, between 0 and 1.
    - mean_delta_p, rms_delta_p: of p - p_base, between -1 and 1.

    first_diverging_token: for each greedy continuation of the base (of at most greedy_tokens tokens), the place of the
    first token that the model, greedy too, would have chosen otherwise; None where there is none.
    """

    name: str
    base_name: str
    scores: TokenScores
    first_diverging_token: tuple[int | None, ...]
    greedy_tokens: int
    places: tuple[Place, ...]
    seconds: float
    notes: tuple[str, ...] = field(default=())

    @property
    def num_tokens(self) -> int:
        """Scored tokens."""
        return len(self.scores.kld)

    @property
    def perplexity(self) -> Estimate:
        """PPL(Q)."""
        return _perplexity(self.scores.nll)

    @property
    def base_perplexity(self) -> Estimate:
        """PPL(base)."""
        return _perplexity(self.scores.base_nll)

    @property
    def perplexity_ratio(self) -> Estimate:
        """PPL(Q) / PPL(base)."""
        return _perplexity(self.scores.nll - self.scores.base_nll)

    @property
    def mean_kld(self) -> Estimate:
        """Mean KLD, in nats."""
        return _mean(self.scores.kld)

    @property
    def median_kld(self) -> float:
        """Median KLD, in nats."""
        return self.kld_percentile(50.0)

    @property
    def max_kld(self) -> float:
        """Maximum KLD, in nats."""
        return float(self.scores.kld.max())

    def kld_percentile(self, percent: float) -> float:
        """The KLD, in nats, that so many percent of the tokens stay below; linear between two tokens' values."""
        return float(np.percentile(self.scores.kld, percent))

    @property
    def same_top_p(self) -> Estimate:
        """Share of equal top tokens."""
        same = self.scores.top == self.scores.base_top
        share = float(same.mean())
        return Estimate(share, math.sqrt(share * (1 - share) / max(len(same) - 1, 1)))

    @property
    def mean_delta_p(self) -> Estimate:
        """Mean Δp."""
        return _mean(self._delta_p)

    @property
    def rms_delta_p(self) -> float:
        """RMS Δp."""
        return float(np.sqrt(np.mean(self._delta_p**2)))

    @property
    def _delta_p(self) -> np.ndarray:
        return np.exp(-self.scores.nll) - np.exp(-self.scores.base_nll)

    def rows(self) -> list[tuple[str, str]]:
        """The figures as text, in llama.cpp's order and words, then the greedy one."""
        delta = self.mean_delta_p
        rows = [
            ("Mean PPL(Q)", str(self.perplexity)),
            ("Mean PPL(base)", str(self.base_perplexity)),
            ("Mean PPL(Q)/PPL(base)", str(self.perplexity_ratio)),
            ("Mean KLD", str(self.mean_kld)),
            ("Maximum KLD", f"{self.max_kld:.6f}"),
            ("99.9% KLD", f"{self.kld_percentile(99.9):.6f}"),
            ("99.0% KLD", f"{self.kld_percentile(99.0):.6f}"),
            ("Median KLD", f"{self.median_kld:.6f}"),
            ("Mean Δp", f"{delta.value:.3%} ± {delta.error:.3%}"),
            ("RMS Δp", f"{self.rms_delta_p:.3%}"),
            ("Same top p", f"{self.same_top_p.value:.3%} ± {self.same_top_p.error:.3%}"),
        ]
        if self.first_diverging_token:
            rows.append(("First diverging token (greedy)", self._divergence()))
        return rows

    def _divergence(self) -> str:
        found = sorted(place for place in self.first_diverging_token if place is not None)
        total = len(self.first_diverging_token)
        if not found:
            return f"none in {total} continuations of {self.greedy_tokens} tokens"
        return (
            f"{len(found)} of {total} continuations leave the base's within {self.greedy_tokens} tokens, the first at "
            f"token {found[0] + 1}, half of these by token {found[(len(found) - 1) // 2] + 1}"
        )

    def _title(self) -> str:
        return f"{self.name} against {self.base_name}: {self.num_tokens:,} tokens in {self.seconds:.1f} s"

    def __repr__(self) -> str:
        lines = [self._title(), text_table(("figure", "value"), self.rows())]
        return "\n".join([*lines, *self.notes])

    def _repr_html_(self) -> str:
        parts = [
            f"<p><b>{html.escape(self._title())}</b></p>",
            html_table(("figure", "value"), self.rows()),
            divergence_picture(self.scores.kld),
        ]
        if self.places:
            parts.append("<p>Where they differ most:</p>")
            header = ("KLD", "the text so far", "came", "base's choice", "its own choice")
            cells = [(f"{p.kld:.3f}", "…" + p.before, repr(p.came), repr(p.base_top), repr(p.top)) for p in self.places]
            parts.append(html_table(header, cells))
        parts += [f"<p>{html.escape(note)}</p>" for note in self.notes]
        return "".join(parts)


def _mean(values: Sequence[float] | np.ndarray) -> Estimate:
    """The mean and sqrt((mean of squares - square of mean) / (count - 1))."""
    array = np.asarray(values, np.float64)
    return Estimate(float(array.mean()), float(np.sqrt(array.var() / max(len(array) - 1, 1))))


def _perplexity(nll: np.ndarray) -> Estimate:
    mean = _mean(nll)
    value = math.exp(mean.value)
    return Estimate(value, value * mean.error)
