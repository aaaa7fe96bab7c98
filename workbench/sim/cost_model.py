"""How long a step takes, as a linear function of what it computes, fitted from recorded steps."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import NamedTuple

from workbench.core.errors import ConfigError
from workbench.core.records import StepRecord
from workbench.core.rows import Decisions
from workbench.core.scheduler_output import NOBODY_RUNS, Action, Decision
from workbench.core.units import time_text

MIN_STEPS = 8
TRIMMED_SHARE = 0.05  # of the steps, those farthest from the fit shape nothing: warm-up, and other programs' turns
ROUNDS = 6
STALL_FACTOR = 3.0  # a step that took longer than so many times its prediction counts as that long in the mean


class StepFeatures(NamedTuple):
    """What a step's time depends on. The first is always 1.

    prefill_tokens: tokens computed by requests in prefill. decode_requests: requests that decode one token.
    context_tokens: for every computed token, the tokens that it attends to, itself included.
    """

    constant: int
    prefill_tokens: int
    decode_requests: int
    context_tokens: int


def features_of(decisions: Iterable[Decision]) -> StepFeatures:
    """The features of a plan or of a record, from its decisions."""
    prefill = decode = context = 0
    if isinstance(decisions, Decisions):
        computed, decisions = decisions.apart()
        decode, context = len(computed), sum(computed) + len(computed)
    for decision in decisions:
        count = decision.num_tokens
        if count:
            context += count * decision.num_computed + count * (count + 1) // 2
            if decision.action is Action.DECODE:
                decode += 1
            else:
                prefill += count
    return StepFeatures(1, prefill, decode, context)


@dataclass(frozen=True, slots=True)
class FitError:
    """How far the model is from the steps that it was fitted to.

    median, p95: of the relative errors of single steps. total: predicted time of all steps against the real one, minus
    1. num_steps: steps used.
    """

    num_steps: int
    median: float
    p95: float
    total: float


@dataclass(frozen=True, slots=True)
class CostModel:
    """Seconds of a step: `coefficients` (none below 0) times StepFeatures. gap: seconds between two busy steps.

    fit_error is None for a model that was written down instead of fitted.
    """

    coefficients: tuple[float, float, float, float]
    gap: float = 0.0
    fit_error: FitError | None = None

    @classmethod
    def fit(cls, records: Iterable[StepRecord]) -> "CostModel":
        """Fit to recorded steps (a Trace will do). Raises ConfigError if there are too few to fit anything."""
        held = list(records)
        steps = [record for record in held if _computed(record)]
        if len(steps) < MIN_STEPS:
            raise ConfigError(
                f"a cost model needs at least {MIN_STEPS} recorded steps that computed something and there are "
                f"{len(steps)}; run some requests first, or give a cost_model that was fitted elsewhere"
            )
        rows = [features_of(record.decisions) for record in steps]
        seconds = [record.duration for record in steps]
        shape = _trimmed_fit(rows, seconds)
        scale = _stall_scale(shape, rows, seconds)
        coefficients = (shape[0] * scale, shape[1] * scale, shape[2] * scale, shape[3] * scale)
        return cls(coefficients, _typical_gap(held), _fit_error(coefficients, rows, seconds))

    def predict(self, features: StepFeatures) -> float:
        """Seconds of a step with these features."""
        a, b, c, d = self.coefficients
        return a + b * features.prefill_tokens + c * features.decode_requests + d * features.context_tokens

    def __repr__(self) -> str:
        a, b, c, d = self.coefficients
        text = (
            f"CostModel({time_text(a)} a step + {time_text(b)} a prefill token + {time_text(c)} a decode "
            f"+ {d * 1e9:,.0f} ns a context token"
        )
        if self.fit_error is None:
            return text + ")"
        e = self.fit_error
        return text + (
            f"; fitted to {e.num_steps} steps, error of a step {e.median:.0%} in the median and {e.p95:.0%} at p95, "
            f"of their sum {e.total:+.1%})"
        )


def _computed(record: StepRecord) -> bool:
    failed = any(ended.finish_reason == "error" for ended in record.finished)
    return record.num_scheduled_tokens > 0 and record.duration > 0 and not failed


def _trimmed_fit(rows: Sequence[StepFeatures], seconds: Sequence[float]) -> list[float]:
    """Least squares of relative errors, refitted without the steps that are farthest from the last fit.

    The first round weighs by the measured time, so that a step of a hundred times the usual length (compilation,
    caches) cannot pull the fit towards it; the later ones by the predicted time, so that noise does not bias it.
    """
    kept: Sequence[int] = range(len(rows))
    scales = list(seconds)
    fitted: list[float] = []
    for _ in range(ROUNDS):
        fitted = _least_squares([rows[i] for i in kept], [seconds[i] for i in kept], [scales[i] for i in kept])
        predicted = [max(_dot(fitted, row), 1e-9) for row in rows]
        order = sorted(range(len(rows)), key=lambda i: abs(seconds[i] / predicted[i] - 1))
        kept = order[: len(rows) - max(1, round(TRIMMED_SHARE * len(rows)))]
        scales = predicted
    return fitted


def _least_squares(rows: Sequence[StepFeatures], targets: Sequence[float], scales: Sequence[float]) -> list[float]:
    """Coefficients of at least 0 that minimise the sum of ((row · coefficients - target) / scale)².

    With four features there are fifteen ways to leave some out; the best one whose solution has no negative
    coefficient is the constrained optimum.
    """
    size = len(StepFeatures._fields)
    gram = [[0.0] * size for _ in range(size)]
    right = [0.0] * size
    for row, target, scale in zip(rows, targets, scales, strict=True):
        weight = 1.0 / (scale * scale)
        for i in range(size):
            right[i] += weight * row[i] * target
            for j in range(size):
                gram[i][j] += weight * row[i] * row[j]
    best, best_gain = [0.0] * size, 0.0
    for count in range(1, size + 1):
        for chosen in combinations(range(size), count):
            solved = _solve([[gram[i][j] for j in chosen] for i in chosen], [right[i] for i in chosen])
            if solved is None or min(solved) < 0:
                continue
            gain = sum(value * right[i] for value, i in zip(solved, chosen, strict=True))
            if gain > best_gain:
                best, best_gain = [0.0] * size, gain
                for value, i in zip(solved, chosen, strict=True):
                    best[i] = value
    return best


def _solve(matrix: list[list[float]], right: list[float]) -> list[float] | None:
    """Gaussian elimination with pivoting on a matrix scaled to a unit diagonal; None if it is singular."""
    size = len(right)
    if any(matrix[i][i] <= 0 for i in range(size)):
        return None
    roots = [matrix[i][i] ** 0.5 for i in range(size)]
    rows = [[matrix[i][j] / (roots[i] * roots[j]) for j in range(size)] + [right[i] / roots[i]] for i in range(size)]
    for column in range(size):
        pivot = max(range(column, size), key=lambda i: abs(rows[i][column]))
        if abs(rows[pivot][column]) < 1e-9:
            return None
        rows[column], rows[pivot] = rows[pivot], rows[column]
        for i in range(column + 1, size):
            factor = rows[i][column] / rows[column][column]
            rows[i] = [a - factor * b for a, b in zip(rows[i], rows[column], strict=True)]
    found = [0.0] * size
    for i in reversed(range(size)):
        known = sum(rows[i][j] * found[j] for j in range(i + 1, size))
        found[i] = (rows[i][size] - known) / rows[i][i]
    return [value / root for value, root in zip(found, roots, strict=True)]


def _stall_scale(shape: list[float], rows: Sequence[StepFeatures], seconds: Sequence[float]) -> float:
    """The factor by which the steps took longer than the fit says, stalls included, each up to STALL_FACTOR.

    A machine that does other things makes some steps long. They say nothing about what a token costs, but the time
    passes, so a fit that left them out would promise too much.
    """
    predicted = [_dot(shape, row) for row in rows]
    counted = sum(min(real, STALL_FACTOR * model) for real, model in zip(seconds, predicted, strict=True))
    return counted / sum(predicted)


def _typical_gap(records: Sequence[StepRecord]) -> float:
    """The median time between the end of a step and the start of the next, while there was work and no pause."""
    gaps = []
    for record, following in pairwise(records):
        ended = {finished.request_id for finished in record.finished}
        busy = any(decision.request_id not in ended for decision in record.decisions)
        held = any(d.reason in NOBODY_RUNS for d in (*record.decisions, *following.decisions))
        if busy and not held:
            gaps.append(max(0.0, following.time - record.time - record.duration))
    return statistics.median(gaps) if gaps else 0.0


def _fit_error(
    coefficients: tuple[float, float, float, float], rows: Sequence[StepFeatures], seconds: Sequence[float]
) -> FitError:
    predicted = [_dot(coefficients, row) for row in rows]
    errors = sorted(abs(model / real - 1) for model, real in zip(predicted, seconds, strict=True))
    p95 = errors[min(len(errors) - 1, int(0.95 * len(errors)))]
    return FitError(len(rows), statistics.median(errors), p95, sum(predicted) / sum(seconds) - 1)


def _dot(coefficients: Sequence[float], row: StepFeatures) -> float:
    return sum(a * b for a, b in zip(coefficients, row, strict=True))
