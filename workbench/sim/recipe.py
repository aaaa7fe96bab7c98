"""A workload from a recipe of plain values, as the page's traffic form fills it in."""

import math
from collections.abc import Mapping
from typing import Any

from workbench.core.errors import ConfigError
from workbench.sim.checks import check_count, check_share
from workbench.sim.lengths import LengthDistribution, LogNormal, Uniform
from workbench.sim.workload import Workload

MAX_REQUESTS = 2000
LOGNORMAL_SIGMA = 0.7

# Arrivals -> what they are made from, with the values that a recipe may leave out.
ARRIVALS: dict[str, dict[str, float]] = {
    "poisson": {"rate": 4.0, "count": 24},
    "bursts": {"num_bursts": 3, "burst_size": 8, "interval": 2.0},
    "closed_loop": {"num_users": 6, "requests_per_user": 4, "think_time": 0.5},
}
COMMON: dict[str, Any] = {
    "arrivals": "poisson",
    "prompt_len": [16, 64],
    "output_len": [16, 64],
    "lengths": "uniform",
    "shared_fraction": 0.0,
    "prefix_len": 48,
    "urgent_fraction": 0.0,
    "seed": 0,
}


def workload_from_recipe(recipe: Mapping[str, Any], vocab_size: int) -> Workload:
    """The workload. Raises ConfigError for unknown names and values that make no sense.

    arrivals: a key of ARRIVALS, with its own values beside it. prompt_len, output_len: [low, high] in tokens; lengths:
    "uniform" or "lognormal" between them. shared_fraction of the prompts begin with the same prefix_len tokens, and
    urgent_fraction of the requests have priority -1, the others 0. The same seed gives the same workload.
    """
    arrivals = recipe.get("arrivals", "poisson")
    if arrivals not in ARRIVALS:
        raise ConfigError(f"arrivals must be one of {', '.join(ARRIVALS)}, not {arrivals!r}")
    unknown = sorted(set(recipe) - set(COMMON) - {name for values in ARRIVALS.values() for name in values})
    if unknown:
        raise ConfigError(f"a traffic recipe knows nothing of {', '.join(unknown)}")
    values = {**COMMON, **ARRIVALS[arrivals], **recipe}
    own = {name: _number(name, values[name]) for name in ARRIVALS[arrivals]}
    seed = values["seed"]
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise ConfigError(f"seed must be a whole number, not {seed!r}")
    _check_size(arrivals, own)
    common: dict[str, Any] = {
        "prompt_len": _lengths("prompt_len", values["prompt_len"], values["lengths"]),
        "output_len": _lengths("output_len", values["output_len"], values["lengths"]),
        "seed": seed,
        "vocab_size": vocab_size,
    }
    workload: Workload = getattr(Workload, arrivals)(**own, **common)
    check_share("shared_fraction", values["shared_fraction"])
    check_share("urgent_fraction", values["urgent_fraction"])
    if values["shared_fraction"]:
        workload = workload.with_shared_prefix(
            fraction=values["shared_fraction"], prefix_len=values["prefix_len"], seed=seed, vocab_size=vocab_size
        )
    if values["urgent_fraction"]:
        urgent = values["urgent_fraction"]
        workload = workload.with_priorities({-1: urgent, 0: 1 - urgent}, seed=seed)
    return workload


def preview(workload: Workload) -> dict[str, Any]:
    """What the very workload holds, for a picture: requests as [time, after, prompt tokens, output tokens, priority].

    `after` is the number of the request whose end comes first (a closed loop), else null.
    """
    return {
        "name": workload.name,
        "num_prompt_tokens": workload.num_prompt_tokens,
        "num_output_tokens": workload.num_output_tokens,
        "requests": [[r.time, r.after, len(r.prompt_token_ids), sum(r.output_lens), r.priority] for r in workload],
    }


def _check_size(arrivals: str, own: Mapping[str, float]) -> None:
    names = {
        "poisson": ("count",),
        "bursts": ("num_bursts", "burst_size"),
        "closed_loop": ("num_users", "requests_per_user"),
    }
    for name in names[arrivals]:
        check_count(name, own[name])  # type: ignore[arg-type]
    total = math.prod(own[name] for name in names[arrivals])
    if total > MAX_REQUESTS:
        raise ConfigError(f"that makes {total:.0f} requests; a view sends at most {MAX_REQUESTS}, use drive() for more")


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ConfigError(f"{name} must be a number, not {value!r}")
    return value


def _lengths(name: str, value: Any, kind: str) -> LengthDistribution:
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        raise ConfigError(f"{name} must be [low, high], not {value!r}")
    low, high = value
    if kind == "uniform":
        return Uniform(low, high)
    if kind == "lognormal":
        Uniform(low, high)  # checks the range
        return LogNormal(math.sqrt(low * high), LOGNORMAL_SIGMA, low, high)
    raise ConfigError(f"lengths must be 'uniform' or 'lognormal', not {kind!r}")
