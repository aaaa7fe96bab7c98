"""Shipped policies order as they say; a policy that fails harms nobody."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.helpers import make_scheduler, run_step
from workbench.core.errors import ConfigError
from workbench.core.policy import POLICIES, Policy, PolicyError, make_policy
from workbench.core.sampling_params import SamplingParams


def add(scheduler, name, length, max_tokens=4, priority=0, first=1):
    params = SamplingParams(max_tokens=max_tokens)
    scheduler.add_request(name, [first] * length, params, arrival_time=0.0, priority=priority)


def names(queue):
    return [request.request_id for request in queue]


def test_shortest_job_first_looks_at_prompt_and_max_tokens():
    scheduler = make_scheduler("sjf", max_num_seqs=1)
    add(scheduler, "long", 9, 9)
    add(scheduler, "short", 2, 3)
    add(scheduler, "middle", 2, 9)
    assert names(scheduler.waiting) == ["short", "middle", "long"]
    run_step(scheduler)
    assert names(scheduler.running) == ["short"]


def test_fair_share_serves_whoever_has_had_least():
    scheduler = make_scheduler("fair", max_num_batched_tokens=3)
    for name in "ab":
        add(scheduler, name, 1, 12)
    for _ in range(4):
        run_step(scheduler)
    add(scheduler, "late", 1, 12)
    run_step(scheduler)
    run_step(scheduler)
    assert names(scheduler.running)[0] == "late"
    outputs = {r.request_id: r.num_output_tokens for r in scheduler.running}
    assert outputs["late"] < outputs["a"]


class HalfBudget(Policy):
    name = "half"

    def share(self, request, wanted, left):
        return min(wanted, left, 4)


def test_a_policy_may_split_the_token_budget():
    scheduler = make_scheduler(max_num_batched_tokens=8)
    scheduler.set_policy(HalfBudget())
    add(scheduler, "a", 20)
    add(scheduler, "b", 20, first=2)
    plan = run_step(scheduler)
    assert [(d.request_id, d.num_tokens) for d in plan.decisions] == [("a", 4), ("b", 4)]


class MostBlocks(Policy):
    name = "most-blocks"

    def victim(self, candidates):
        return max(candidates, key=lambda r: (r.num_computed_tokens, r.arrival_seq))


def test_a_policy_may_choose_the_victim():
    scheduler = make_scheduler(num_blocks=6, enable_prefix_caching=False)
    scheduler.set_policy(MostBlocks())
    add(scheduler, "a", 4, 12)
    add(scheduler, "big", 12, 8)
    add(scheduler, "c", 4, 12)
    preempted = []
    while scheduler.has_unfinished():
        preempted += [d.request_id for d in run_step(scheduler).decisions if d.action == "preempt"]
    assert preempted[0] == "big"


class RaisesLater(Policy):
    """Fails in one of its methods once it is told to."""

    name = "raises"

    def __init__(self, method):
        self.method = method
        self.armed = False

    def _check(self, method):
        if self.armed and method == self.method:
            raise RuntimeError(f"{method} is broken")

    def key(self, request):
        self._check("key")
        return super().key(request)

    def share(self, request, wanted, left):
        self._check("share")
        return super().share(request, wanted, left)

    def victim(self, candidates):
        self._check("victim")
        return super().victim(candidates)


@pytest.mark.parametrize("method", ["key", "share", "victim"])
def test_a_policy_that_raises_is_taken_off_and_the_one_before_is_back(method):
    scheduler = make_scheduler("priority", num_blocks=5, enable_prefix_caching=False)
    policy = RaisesLater(method)
    scheduler.set_policy(policy)
    for index, priority in enumerate((2, 1, 0)):
        add(scheduler, f"r{index}", 6, 9, priority)
    policy.armed = True
    add(scheduler, "r3", 6, 9, -1)
    while scheduler.has_unfinished():
        run_step(scheduler)
    assert scheduler.policy.name == "priority"
    assert scheduler.guard.failure == (
        f"policy 'raises' was taken off, 'priority' is back: RuntimeError: {method} is broken"
    )


class Nonsense(Policy):
    name = "nonsense"

    def __init__(self, share=None, victim=None):
        self._share, self._victim = share, victim

    def share(self, request, wanted, left):
        return min(wanted, left) if self._share is None else self._share

    def victim(self, candidates):
        return candidates[0] if self._victim is None else self._victim


@pytest.mark.parametrize("policy", [Nonsense(share=-1), Nonsense(share=10**6), Nonsense(share="all"), Nonsense(share=0),
                                    Nonsense(victim="you")])  # fmt: skip
def test_a_policy_that_returns_nonsense_is_taken_off(policy):
    scheduler = make_scheduler(num_blocks=5, enable_prefix_caching=False)
    scheduler.set_policy(policy)
    for index in range(3):
        add(scheduler, f"r{index}", 6, 9)
    for _ in range(200):
        if not scheduler.has_unfinished():
            break
        run_step(scheduler)
    assert not scheduler.has_unfinished()
    assert scheduler.policy.name == "fcfs"
    assert "was taken off" in scheduler.guard.failure


@pytest.mark.parametrize(
    ("key", "text"),
    [
        (lambda self, r: r.no_such_thing, "AttributeError"),
        (lambda self, r: 3, "must return a tuple"),
        (lambda self, r: (1,), "same key"),
        (lambda self, r: ("a",) if r.request_id == "r0" else (1,), "TypeError"),
    ],
)
def test_a_policy_without_a_usable_order_is_refused_at_once(key, text):
    scheduler = make_scheduler("priority")
    for index in range(3):
        add(scheduler, f"r{index}", 2, priority=-index)
    bad = type("Bad", (Policy,), {"name": "bad", "key": key})()
    with pytest.raises(PolicyError, match=text):
        scheduler.set_policy(bad)
    assert scheduler.policy.name == "priority"
    assert names(scheduler.waiting) == ["r2", "r1", "r0"]


def test_a_class_without_a_name_goes_by_its_own_and_a_class_in_place_of_an_object_is_named():
    class Mine(Policy):
        pass

    class Later(HalfBudget):
        pass

    assert (Mine.name, Later.name, HalfBudget.name) == ("Mine", "Later", "half")
    with pytest.raises(ConfigError, match=r"Mine\(\), not the class Mine"):
        make_policy(Mine)


def test_waiting_requests_can_be_reordered():
    scheduler = make_scheduler("priority", max_num_seqs=1)
    for name in "abcd":
        add(scheduler, name, 2, priority=1)
    run_step(scheduler)
    assert scheduler.move_to_front("d")
    assert names(scheduler.waiting) == ["d", "b", "c"]
    assert scheduler.set_priority("c", 0)
    assert names(scheduler.waiting) == ["c", "d", "b"]
    assert not scheduler.move_to_front("a")  # it runs
    assert not scheduler.set_priority("nobody", 0)
    scheduler.check_invariants()


@given(st.data())
def test_every_shipped_policy_finishes_every_request(data):
    name = data.draw(st.sampled_from(sorted(POLICIES)))
    scheduler = make_scheduler(name, num_blocks=data.draw(st.integers(3, 9)), max_num_batched_tokens=7)
    assert make_policy(name).name == name
    for index in range(data.draw(st.integers(1, 6))):
        length = data.draw(st.integers(1, 7))
        add(scheduler, f"r{index}", length, data.draw(st.integers(1, 5)), data.draw(st.integers(0, 2)), first=index % 2)
    for _ in range(500):
        if not scheduler.has_unfinished():
            break
        run_step(scheduler)
    assert not scheduler.has_unfinished()
    assert scheduler.guard.failure is None
