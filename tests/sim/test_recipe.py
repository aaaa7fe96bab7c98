"""A recipe of plain values makes the workload that the generators make, and nonsense is refused by name."""

import pytest

from workbench.core.errors import ConfigError
from workbench.sim import LogNormal, Workload
from workbench.sim.recipe import preview, workload_from_recipe


def test_each_kind_of_arrivals_is_the_generator_s_own():
    common = {"prompt_len": (4, 9), "output_len": (2, 5), "seed": 3, "vocab_size": 50}
    recipe = {"prompt_len": [4, 9], "output_len": [2, 5], "seed": 3}
    cases = {
        "poisson": ({"rate": 5.0, "count": 7}, Workload.poisson),
        "bursts": ({"num_bursts": 2, "burst_size": 3, "interval": 0.5}, Workload.bursts),
        "closed_loop": ({"num_users": 2, "requests_per_user": 3, "think_time": 0.1}, Workload.closed_loop),
    }
    for arrivals, (own, make) in cases.items():
        made = workload_from_recipe({"arrivals": arrivals, **own, **recipe}, 50)
        assert made.requests == make(**own, **common).requests


def test_prefixes_priorities_and_a_long_tail():
    recipe = {"count": 200, "lengths": "lognormal", "prompt_len": [4, 64], "shared_fraction": 0.5, "prefix_len": 8}
    made = workload_from_recipe({**recipe, "urgent_fraction": 0.25, "seed": 1}, 50)
    tails = LogNormal(16, 0.7, 4, 64), LogNormal(32, 0.7, 16, 64)
    plain = Workload.poisson(rate=4.0, count=200, prompt_len=tails[0], output_len=tails[1], seed=1, vocab_size=50)
    longer = [len(a.prompt_token_ids) - len(b.prompt_token_ids) for a, b in zip(made, plain, strict=True)]
    assert set(longer) == {0, 8}
    assert 60 < longer.count(8) < 140
    assert {r.priority for r in made} == {0, -1}
    assert made.requests == workload_from_recipe({**recipe, "urgent_fraction": 0.25, "seed": 1}, 50).requests


def test_the_preview_is_of_the_very_workload():
    made = workload_from_recipe({"arrivals": "closed_loop", "num_users": 2, "requests_per_user": 2}, 50)
    shown = preview(made)
    assert shown["requests"] == [
        [r.time, r.after, len(r.prompt_token_ids), r.output_lens[0], r.priority] for r in made.requests
    ]
    assert [row[1] for row in shown["requests"]] == [None, None, 0, 1]
    assert shown["num_prompt_tokens"] == sum(row[2] for row in shown["requests"])


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"arrivals": "flood"}, "poisson, bursts, closed_loop"),
        ({"speed": 3}, "knows nothing of speed"),
        ({"rate": 0}, "rate must be a number above 0"),
        ({"rate": "fast"}, "rate must be a number"),
        ({"count": 5000}, "at most 2000"),
        ({"count": 2.5}, "count must be a whole number"),
        ({"prompt_len": 5}, r"\[low, high\]"),
        ({"prompt_len": [9, 4]}, "1 <= low <= high"),
        ({"lengths": "flat"}, "lognormal"),
        ({"shared_fraction": 2}, "shared_fraction"),
        ({"seed": None}, "seed must be a whole number"),
    ],
)
def test_nonsense_is_refused(recipe, message):
    with pytest.raises(ConfigError, match=message):
        workload_from_recipe(recipe, 50)
