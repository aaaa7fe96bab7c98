"""Random lives of a scheduler: invariants, one decision per live request, exact replay, exact tokens."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.core.helpers import make_scheduler, record_of
from workbench.core.config import PoolShape
from workbench.core.errors import DoesNotFitError, InvalidRequestError
from workbench.core.policy import make_policy
from workbench.core.sampling_params import SamplingParams
from workbench.core.scheduler_output import Action, Reason
from workbench.sim import FakeRunner, expected_tokens
from workbench.trace import Trace

VOCAB = 3  # small, so that prompts share prefixes


class SchedulerMachine(RuleBasedStateMachine):
    @initialize(
        num_blocks=st.integers(1, 24),
        block_size=st.sampled_from([1, 2, 4, 16]),
        max_num_seqs=st.integers(1, 6),
        budget=st.integers(1, 40),
        caching=st.booleans(),
        policy=st.sampled_from(["fcfs", "priority"]),
        capacity=st.sampled_from([3, 1000]),
    )
    def begin(self, num_blocks, block_size, max_num_seqs, budget, caching, policy, capacity):
        self.scheduler = make_scheduler(
            policy,
            num_blocks=num_blocks,
            block_size=block_size,
            max_num_seqs=max_num_seqs,
            max_num_batched_tokens=budget,
            max_model_len=48,
            vocab_size=VOCAB,
            enable_prefix_caching=caching,
        )
        self.runner = FakeRunner(self.scheduler.config)
        self.trace = Trace(self.scheduler.snapshot(), capacity)
        self.states = {-1: self.scheduler.snapshot()}
        self.asked = {}
        self.outputs = {}
        self.count = 0

    @rule(
        prompt=st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=30),
        max_tokens=st.integers(1, 18),
        n=st.integers(1, 3),
        priority=st.integers(-1, 1),
    )
    def add(self, prompt, max_tokens, n, priority):
        self.count += 1
        try:
            made = self.scheduler.add_request(
                f"r{self.count}",
                prompt,
                SamplingParams(max_tokens=max_tokens, n=n),
                arrival_time=0.0,
                priority=priority,
            )
        except InvalidRequestError:
            return
        for request in made:
            self.asked[request.request_id] = (prompt, request.max_tokens)
            self.outputs[request.request_id] = []

    @rule(data=st.data())
    def abort(self, data):
        if self.scheduler.requests:
            name = data.draw(st.sampled_from(sorted(self.scheduler.requests)))
            self.scheduler.abort([name])
            del self.asked[name]

    @rule(limit=st.integers(1, 6), budget=st.integers(1, 40), caching=st.booleans())
    def configure(self, limit, budget, caching):
        self.scheduler.configure(
            self.scheduler.config.with_changes(
                max_num_seqs=limit, max_num_batched_tokens=budget, enable_prefix_caching=caching
            )
        )

    @rule(
        num_blocks=st.integers(1, 24),
        block_size=st.sampled_from([None, None, 1, 2, 4, 16]),
        kind=st.sampled_from([None, None, None, "int8", "fp8"]),
    )
    def change_pool(self, num_blocks, block_size, kind):
        old = self.scheduler.config
        pool = PoolShape(num_blocks, block_size or old.block_size, kind or old.kv_cache_dtype, 8)
        recompute = (pool.block_size, pool.kv_cache_dtype) != (old.block_size, old.kv_cache_dtype)
        before = self.scheduler.snapshot()
        try:
            copies = self.scheduler.change_pool(old.with_pool(pool), "a knob", recompute)
        except DoesNotFitError:
            assert self.scheduler.snapshot() == before
            return
        assert set(before.requests) == set(self.scheduler.requests)
        self.runner.change_pool(pool, copies)
        plan = self.scheduler.hold()
        self.runner.execute(plan)
        self._keep(plan)

    @rule(name=st.sampled_from(["fcfs", "priority"]))
    def change_policy(self, name):
        self.scheduler.set_policy(make_policy(name))

    @rule()
    def hold(self):
        plan = self.scheduler.hold()
        self.runner.execute(plan)
        self._keep(plan)

    @rule()
    def step(self):
        plan = self.scheduler.schedule()
        self._check_plan(plan)
        result = self.runner.execute(plan)
        self.scheduler.update(plan, result.sampled, {}, {})
        for name, token in result.sampled.items():
            self.outputs[name].append(token.token_id)
        self._keep(plan)

    def _check_plan(self, plan):
        config = self.scheduler.config
        assert sorted(d.request_id for d in plan.decisions) == sorted(self.scheduler.requests)
        ran = [d for d in plan.decisions if d.action in (Action.PREFILL, Action.DECODE)]
        assert sum(d.num_tokens for d in ran) == plan.num_scheduled_tokens <= config.max_num_batched_tokens
        assert {d.request_id: d.num_tokens for d in ran} == {s.request_id: len(s.token_ids) for s in plan.scheduled}
        assert all(d.num_tokens == 0 for d in plan.decisions if d.action in (Action.WAIT, Action.PREEMPT))
        admitted = [d for d in plan.decisions if d.reason in (Reason.ADMITTED, Reason.RESUMED)]
        if admitted:
            assert len(self.scheduler.running) <= config.max_num_seqs
        if any(d.action is Action.PREEMPT for d in plan.decisions):
            assert not admitted
        if self.scheduler.requests and not self.scheduler.running:
            raise AssertionError("requests are alive and none could run")

    def _keep(self, plan):
        self.trace.append(record_of(self.scheduler, plan))
        self.states[plan.step] = self.scheduler.snapshot()

    @invariant()
    @precondition(lambda self: hasattr(self, "scheduler"))
    def books_balance(self):
        self.scheduler.check_invariants()

    def teardown(self):
        if not hasattr(self, "scheduler"):
            return
        for _ in range(5000):
            if not self.scheduler.has_unfinished():
                break
            self.step()
            self.scheduler.check_invariants()
        assert not self.scheduler.has_unfinished(), "a request never finished"
        assert self.scheduler.kv.pool.num_free == self.scheduler.config.num_blocks
        for name, (prompt, max_tokens) in self.asked.items():
            assert self.outputs[name] == expected_tokens(prompt, max_tokens, VOCAB), name
        for step in range(self.trace.first_step - 1, self.trace.last_step + 1):
            assert self.trace.at(step) == self.states[step], step


SchedulerMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestSchedulerMachine = SchedulerMachine.TestCase
