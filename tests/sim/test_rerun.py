"""A recorded run, repeated with its recorded step times, gives the recorded records, whatever happened in it."""

import contextlib
import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.core.config import EngineArgs, SchedulerConfig
from workbench.core.errors import DoesNotFitError, InvalidRequestError, KVCacheTooSmallError
from workbench.core.policy import make_policy
from workbench.core.sampling_params import SamplingParams
from workbench.core.settings import resolved_settings
from workbench.engine.engine_core import EngineCore
from workbench.engine.info import engine_info
from workbench.engine.request_stream import RequestStream
from workbench.sim import FakeRunner
from workbench.simulate import simulate

VOCAB = 3  # small, so that prompts share prefixes

ADD = st.tuples(
    st.just("add"),
    st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=30),
    st.integers(1, 18),
    st.integers(1, 3),
    st.integers(-1, 1),
    st.sampled_from([(), (0,)]),
)
STEP = st.tuples(st.just("step"), st.integers(1, 6))
ABORT = st.tuples(st.just("abort"), st.integers(0, 30))
NOTE = st.tuples(st.just("note"))
FIRST = st.tuples(st.just("first"), st.integers(0, 30), st.booleans())
CONFIGURE = st.tuples(
    st.just("configure"),
    st.fixed_dictionaries(
        {},
        optional={
            "max_num_seqs": st.integers(1, 6),
            "max_num_batched_tokens": st.integers(1, 40),
            "enable_prefix_caching": st.booleans(),
            "scheduling_policy": st.sampled_from(["fcfs", "priority", "sjf", "fair"]),
            "num_gpu_blocks_override": st.integers(1, 30),
            "block_size": st.sampled_from([1, 2, 4, 16]),
            "kv_cache_dtype": st.sampled_from(["auto", "int8"]),
        },
    ),
)


class Run:
    """An engine without a thread, on a clock that ticks at every look."""

    def __init__(self, policy, fail_steps=(), **config):
        values = SchedulerConfig(
            max_model_len=48, vocab_size=VOCAB, kv_bytes_per_block=8 * config["block_size"], **config
        )
        runner = FakeRunner(values, fail_steps)
        settings_table = resolved_settings(EngineArgs(), runner.spec, values, policy)
        info = engine_info("test", runner.spec, values, settings_table, [])
        ticks = itertools.count()
        clock = lambda: next(ticks) * 1e-3  # noqa: E731
        self.core = EngineCore(runner, values, make_policy(policy), 100_000, info=info, clock=clock)
        self.fail_steps = fail_steps
        self.names = []

    def do(self, operation, *values):
        getattr(self, operation)(*values)

    def add(self, prompt, max_tokens, n, priority, stop_token_ids):
        params = SamplingParams(max_tokens=max_tokens, n=n, stop_token_ids=stop_token_ids)
        stream = RequestStream(f"r{len(self.names)}", None, tuple(prompt), params, None, self.core.now())
        try:
            self.core.add_request(stream, priority, "label")
        except InvalidRequestError:
            return
        self.names.append(stream.request_id)

    def step(self, count):
        for _ in range(count):
            if self.core.has_work():
                self.core.step()

    def abort(self, index):
        if self.names:
            self.core.abort(self.names[index % len(self.names)])

    def first(self, index, to_front):
        if self.names:
            name = self.names[index % len(self.names)]
            _ = self.core.move_to_front(name) if to_front else self.core.set_priority(name, -5)
            self.step(1)

    def note(self):
        if self.core.has_news() and self.core.scheduler.num_steps not in self.fail_steps:
            self.core.note()

    def configure(self, changes):
        if self.core.scheduler.num_steps not in self.fail_steps:
            with contextlib.suppress(DoesNotFitError, KVCacheTooSmallError):
                self.core.configure(changes)
        self.step(1)  # records do not tell in which order settings and cancellations of one gap came

    def finish(self):
        self.step(5000)
        self.note()
        assert not self.core.has_work()


@settings(max_examples=60, deadline=None)
@given(
    operations=st.lists(st.one_of(ADD, ADD, STEP, STEP, CONFIGURE, ABORT, NOTE, FIRST), max_size=40),
    num_blocks=st.integers(2, 24),
    block_size=st.sampled_from([1, 2, 4, 16]),
    max_num_seqs=st.integers(1, 6),
    budget=st.integers(1, 40),
    caching=st.booleans(),
    policy=st.sampled_from(["fcfs", "priority", "sjf", "fair"]),
    fail_steps=st.lists(st.integers(0, 30), max_size=2),
)
def test_the_same_records(operations, num_blocks, block_size, max_num_seqs, budget, caching, policy, fail_steps):
    run = Run(
        policy,
        fail_steps,
        num_blocks=num_blocks,
        block_size=block_size,
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=budget,
        enable_prefix_caching=caching,
    )
    for operation in operations:
        run.do(*operation)
    run.finish()
    recorded = run.core.trace
    if len(recorded):
        again = simulate(recorded, step_times="recorded").trace
        assert again.records() == recorded.records()
        assert again.at() == recorded.at()


def test_the_kinds_of_events_do_occur():
    run = Run("priority", num_blocks=10, block_size=4, max_num_seqs=4, max_num_batched_tokens=16)
    for priority in (1, 0, -1, 0):
        run.add([1, 2, 0, 1, 2, 0, 1, 1, 2], 12, 2, priority, ())
        run.step(2)
    run.finish()
    recorded = run.core.trace.records()
    decisions = [d for record in recorded for d in record.decisions]
    assert any(d.action == "preempt" for d in decisions)
    assert any(d.num_cached for d in decisions)
    assert any(e.kind == "copy" for record in recorded for e in record.block_events)
    again = simulate(run.core.trace, step_times="recorded")
    assert again.trace.records() == recorded
    assert again.summary()["preemptions"] > 0
