"""The cost model finds known costs again, through noise and warm-up, and is not invented from nothing."""

import random

import pytest

from tests.core.helpers import make_scheduler, record_of
from workbench.core.errors import ConfigError
from workbench.core.records import StepTimes
from workbench.core.sampling_params import SamplingParams
from workbench.core.scheduler_output import Action, Decision, Reason, SampledToken
from workbench.sim import CostModel, features_of

TRUE = (2e-3, 5e-5, 2e-4, 1e-7)
GAP = 1e-4


def recorded(noise=0.0, warm_up=0.0, stalls=(), num_requests=30):
    """A run of a scheduler whose steps take what TRUE says."""
    rng = random.Random(0)
    scheduler = make_scheduler(num_blocks=600, max_num_batched_tokens=64, max_model_len=200, max_num_seqs=12)
    model, now, records = CostModel(TRUE), 0.0, []
    for index in range(num_requests):
        params = SamplingParams(max_tokens=rng.randint(2, 40))
        prompt = [rng.randrange(100) for _ in range(rng.randint(2, 120))]
        scheduler.add_request(f"r{index}", prompt, params, arrival_time=0.0)
    while scheduler.has_unfinished():
        plan = scheduler.schedule()
        scheduler.update(plan, {i.request_id: SampledToken(7) for i in plan.scheduled if i.sample}, {}, {})
        seconds = model.predict(features_of(plan.decisions)) * (1 + noise * rng.uniform(-1, 1))
        seconds += warm_up if plan.step == 0 else 0.0
        seconds += 0.2 if plan.step in stalls else 0.0
        record = record_of(scheduler, plan)
        values = {name: getattr(record, name) for name in record.__slots__}
        records.append(type(record)(**{**values, "time": now, "times": StepTimes(0, 0, seconds, 0, 0)}))
        now += seconds + GAP
    return records


def test_features_count_what_attention_reads():
    decisions = [
        Decision("a", Action.PREFILL, Reason.CHUNK, 3, 10),  # reads 11 + 12 + 13
        Decision("b", Action.DECODE, Reason.DECODE, 1, 4),  # reads 5
        Decision("c", Action.WAIT, Reason.BEHIND),
    ]
    assert features_of(decisions) == (1, 3, 1, 41)


def test_exact_costs_are_found_exactly():
    model = CostModel.fit(recorded())
    assert model.coefficients == pytest.approx(TRUE, rel=1e-4)
    assert model.gap == pytest.approx(GAP)
    assert model.fit_error.median < 1e-6
    assert "2.00 ms a step + 50 µs a prefill token + 200 µs a decode + 100 ns a context token" in repr(model)


def test_noise_warm_up_and_stalls():
    steps = recorded(noise=0.2, warm_up=3.0, stalls=(40,))
    model = CostModel.fit(steps)
    clean = recorded()
    predicted = sum(model.predict(features_of(r.decisions)) for r in clean)
    assert predicted == pytest.approx(sum(r.duration for r in clean), rel=0.08)
    assert model.fit_error.p95 > model.fit_error.median > 0


def test_no_coefficient_is_negative():
    # Longer steps that do less: least squares alone would give tokens a negative cost.
    steps = recorded()
    values = [{name: getattr(r, name) for name in r.__slots__} for r in steps]
    odd = [
        type(r)(**{**v, "times": StepTimes(0, 0, 1 / (1 + r.num_scheduled_tokens), 0, 0)})
        for r, v in zip(steps, values, strict=True)
    ]
    assert min(CostModel.fit(odd).coefficients) >= 0


def test_only_decode_steps_are_enough():
    steps = [r for r in recorded() if all(d.action in (Action.DECODE, Action.WAIT) for d in r.decisions)]
    model = CostModel.fit(steps)
    assert sum(model.predict(features_of(r.decisions)) for r in steps) == pytest.approx(
        sum(r.duration for r in steps), rel=0.01
    )


def test_too_few_steps_are_refused():
    with pytest.raises(ConfigError, match="at least 8 recorded steps"):
        CostModel.fit(recorded()[:7])
    assert repr(CostModel(TRUE)).endswith("ns a context token)")
