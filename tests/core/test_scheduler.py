"""Exact decisions and block ids in small, readable situations."""

import pytest

from tests.core.helpers import make_scheduler, run_step
from workbench.core.errors import (
    ConfigError,
    EmptyPromptError,
    InvalidRequestError,
    KVCacheTooSmallError,
    PromptTooLongError,
    RequestNeverFitsError,
    TokenOutOfVocabularyError,
)
from workbench.core.policy import make_policy
from workbench.core.sampling_params import SamplingParams
from workbench.core.scheduler_output import Action, BlockCopy, Decision, Reason, SampledToken


def add(scheduler, name, length, max_tokens=4, priority=0, first=1, **params):
    prompt = [first + i % 50 for i in range(length)]
    return scheduler.add_request(
        name, prompt, SamplingParams(max_tokens=max_tokens, **params), arrival_time=0.0, priority=priority
    )


def decision(plan, name):
    return next(d for d in plan.decisions if d.request_id == name)


def test_prompt_then_decode_takes_blocks_as_they_are_needed():
    scheduler = make_scheduler()
    add(scheduler, "a", 6)
    first = run_step(scheduler)
    assert first.decisions == (Decision("a", Action.PREFILL, Reason.ADMITTED, 6, 0, 0, 6, 6),)
    assert scheduler.kv.tables["a"] == [0, 1]
    assert [run_step(scheduler).decisions[0].action for _ in range(3)] == [Action.DECODE] * 3
    assert not scheduler.has_unfinished()
    assert scheduler.kv.pool.num_free == 16


def test_a_long_prompt_is_chunked_and_decodes_go_first():
    scheduler = make_scheduler(max_num_batched_tokens=10)
    add(scheduler, "a", 3, max_tokens=20)
    run_step(scheduler)
    add(scheduler, "b", 25)
    chunks = [decision(run_step(scheduler), "b") for _ in range(3)]
    assert [(c.reason, c.num_tokens, c.need) for c in chunks] == [
        (Reason.ADMITTED, 9, 25),
        (Reason.CHUNK, 9, 16),
        (Reason.CHUNK, 7, 7),
    ]


def test_without_chunking_a_prompt_waits_for_a_step_that_has_room():
    scheduler = make_scheduler(max_num_batched_tokens=20, max_model_len=20, enable_chunked_prefill=False)
    add(scheduler, "a", 15)
    add(scheduler, "b", 15, first=50)
    waiting = decision(run_step(scheduler), "b")
    assert (waiting.reason, waiting.need, waiting.have, waiting.other) == (Reason.NO_CHUNKING, 15, 5, "a")
    assert decision(run_step(scheduler), "b").num_tokens == 15


def test_the_token_budget_names_who_used_it():
    scheduler = make_scheduler(max_num_batched_tokens=8)
    add(scheduler, "a", 30)
    add(scheduler, "b", 5)
    add(scheduler, "c", 5)
    plan = run_step(scheduler)
    assert decision(plan, "b") == Decision("b", Action.WAIT, Reason.TOKEN_BUDGET, need=5, have=0, other="a")
    assert decision(plan, "c") == Decision("c", Action.WAIT, Reason.BEHIND, other="b")


def test_max_num_seqs():
    scheduler = make_scheduler(max_num_seqs=1)
    add(scheduler, "a", 4)
    add(scheduler, "b", 4)
    assert decision(run_step(scheduler), "b") == Decision("b", Action.WAIT, Reason.MAX_NUM_SEQS, need=2, have=1)


def test_a_prompt_waits_until_the_pool_can_take_all_of_it():
    scheduler = make_scheduler(num_blocks=8)
    add(scheduler, "a", 20, max_tokens=8)
    add(scheduler, "b", 16, max_tokens=2, first=60)
    waiting = decision(run_step(scheduler), "b")
    assert (waiting.reason, waiting.need, waiting.have, waiting.other) == (Reason.NO_BLOCKS, 4, 3, "a")


def test_the_last_in_order_is_preempted_and_recomputed_with_its_tokens():
    scheduler = make_scheduler(num_blocks=4, enable_prefix_caching=False)
    add(scheduler, "a", 7, max_tokens=9)
    add(scheduler, "b", 7, max_tokens=9)
    run_step(scheduler)  # both prompts: two blocks each
    run_step(scheduler)  # positions 7: both fill their second block
    plan = run_step(scheduler)
    assert decision(plan, "a").action is Action.DECODE
    assert decision(plan, "b") == Decision("b", Action.PREEMPT, Reason.NO_BLOCKS, 0, 8, 0, 1, 0, "a")
    assert [r.request_id for r in scheduler.waiting] == ["b"]
    while scheduler.running:
        plan = run_step(scheduler)
    plan = run_step(scheduler)
    assert decision(plan, "b") == Decision("b", Action.PREFILL, Reason.RESUMED, 9, 0, 0, 9, 9)
    assert plan.new_requests[0].output_token_ids == (7, 7)


def test_nobody_is_admitted_in_a_step_that_preempts():
    scheduler = make_scheduler(num_blocks=4, enable_prefix_caching=False)
    add(scheduler, "a", 7, max_tokens=9)
    add(scheduler, "b", 7, max_tokens=9)
    run_step(scheduler)
    run_step(scheduler)
    add(scheduler, "c", 1, max_tokens=1)
    assert decision(run_step(scheduler), "c") == Decision("c", Action.WAIT, Reason.AFTER_PREEMPTION, other="b")


def test_priority_orders_the_queue_and_picks_the_victim():
    scheduler = make_scheduler("priority", num_blocks=4, enable_prefix_caching=False)
    add(scheduler, "low", 7, max_tokens=9, priority=5)
    run_step(scheduler)
    add(scheduler, "high", 7, max_tokens=9, priority=1)
    run_step(scheduler)
    assert [r.request_id for r in scheduler.running] == ["high", "low"]
    plan = run_step(scheduler)
    assert decision(plan, "low").action is Action.PREEMPT
    assert decision(plan, "low").other in ("high", "low")


def test_equal_priorities_keep_the_order_of_arrival():
    scheduler = make_scheduler("priority", max_num_seqs=1)
    for name in ("a", "b", "c"):
        add(scheduler, name, 2, max_tokens=1, priority=3)
    assert [run_step(scheduler).scheduled[0].request_id for _ in range(3)] == ["a", "b", "c"]


def test_a_prefix_hit_shares_blocks_and_leaves_one_token_to_compute():
    scheduler = make_scheduler()
    add(scheduler, "a", 8, max_tokens=9)
    run_step(scheduler)
    add(scheduler, "b", 8)
    plan = run_step(scheduler)
    hit = decision(plan, "b")
    assert (hit.num_cached, hit.num_tokens) == (4, 4)
    assert scheduler.kv.tables["b"][0] == scheduler.kv.tables["a"][0]
    assert scheduler.kv.pool.ref_counts[0] == 2


def test_a_finished_request_leaves_its_prefix_for_the_next():
    scheduler = make_scheduler()
    add(scheduler, "a", 12, max_tokens=1)
    run_step(scheduler)
    assert scheduler.kv.pool.num_free == 16
    add(scheduler, "b", 12, max_tokens=1)
    assert decision(run_step(scheduler), "b").num_cached == 8


def test_eviction_takes_empty_blocks_then_the_tail_of_the_oldest_sequence():
    scheduler = make_scheduler(num_blocks=6)
    add(scheduler, "a", 12, max_tokens=1)
    run_step(scheduler)
    assert scheduler.kv.tables == {}
    assert scheduler.kv.pool.free_blocks() == [3, 4, 5, 2, 1, 0]
    add(scheduler, "b", 20, max_tokens=1, first=60)
    scheduler.take_events()
    scheduler.schedule()
    evicted = [e.block for e in scheduler.take_events().block_events if e.kind == "evict"]
    assert evicted == [2, 1]


def test_n_completions_share_the_prompt_and_copy_on_write():
    scheduler = make_scheduler()
    add(scheduler, "r", 6, n=3)
    plan = run_step(scheduler)
    assert decision(plan, "r.1") == Decision("r.1", Action.WAIT, Reason.SIBLING, other="r.0")
    plan = run_step(scheduler)
    tables = scheduler.kv.tables
    assert tables["r.0"][0] == tables["r.1"][0] == tables["r.2"][0]
    assert len({tables[name][1] for name in tables}) == 3
    assert plan.copies == (BlockCopy(1, tables["r.1"][1]), BlockCopy(1, tables["r.2"][1]))
    assert decision(plan, "r.1").num_tokens == 1


def test_abort_gives_back_blocks_and_spares_the_others():
    scheduler = make_scheduler(enable_prefix_caching=False)
    add(scheduler, "a", 6)
    add(scheduler, "b", 6)
    run_step(scheduler)
    assert scheduler.abort(["a", "nobody"]) == ["a"]
    scheduler.check_invariants()
    assert scheduler.kv.pool.num_free == 14
    assert run_step(scheduler).decisions[0].request_id == "b"


def test_a_failed_request_ends_alone():
    scheduler = make_scheduler()
    add(scheduler, "a", 3)
    add(scheduler, "b", 3)
    plan = scheduler.schedule()
    scheduler.update(plan, {"b": SampledToken(1)}, {}, {"a": "NaN"})
    finished = scheduler.take_events().finished
    assert [(f.request_id, f.finish_reason, f.detail) for f in finished] == [("a", "error", "NaN")]
    assert list(scheduler.requests) == ["b"]


@pytest.mark.parametrize(
    ("params", "token", "reason"),
    [
        ({"max_tokens": 1}, 5, "length"),
        ({"max_tokens": 1}, 9, "stop"),
        ({"max_tokens": 5}, 9, "stop"),
        ({"max_tokens": 5, "ignore_eos": True}, 9, None),
        ({"max_tokens": 5, "stop_token_ids": [8]}, 8, "stop"),
        ({"max_tokens": 5, "min_tokens": 2}, 9, None),
    ],
)
def test_why_a_request_ends(params, token, reason):
    scheduler = make_scheduler(eos_token_ids=(9,))
    scheduler.add_request("a", [1, 2], SamplingParams(**params), arrival_time=0.0)
    run_step(scheduler, token)
    finished = scheduler.take_events().finished
    assert [f.finish_reason for f in finished] == ([] if reason is None else [reason])


def test_refused_requests_leave_nothing_behind():
    scheduler = make_scheduler(num_blocks=4)
    before = scheduler.snapshot()
    cases = [
        ([], SamplingParams(), EmptyPromptError, "no tokens"),
        ([1, 100], SamplingParams(), TokenOutOfVocabularyError, "0 to 99"),
        ([1, -1], SamplingParams(), TokenOutOfVocabularyError, "-1"),
        ([1, True], SamplingParams(), TokenOutOfVocabularyError, "True"),
        ([1, 1.5], SamplingParams(), TokenOutOfVocabularyError, "1.5"),
        ([1] * 64, SamplingParams(), PromptTooLongError, "max_model_len=64"),
        ([1] * 20, SamplingParams(), RequestNeverFitsError, "whole pool has 4"),
        ([1] * 10, SamplingParams(max_tokens=8), RequestNeverFitsError, "need 5 blocks"),
        ([1] * 17, SamplingParams(max_tokens=None), RequestNeverFitsError, "need 5 blocks"),
    ]
    for prompt, params, error, text in cases:
        with pytest.raises(error, match=text):
            scheduler.add_request("a", prompt, params, arrival_time=0.0)
    assert scheduler.snapshot() == before


def test_what_just_fits_is_taken():
    scheduler = make_scheduler(num_blocks=4)
    add(scheduler, "a", 10, max_tokens=7)  # 16 tokens with KV, the 17th needs none
    while scheduler.has_unfinished():
        run_step(scheduler)
    assert scheduler.take_events().finished[0].finish_reason == "length"


def test_open_ended_requests_get_what_the_pool_or_the_model_can_hold():
    assert make_scheduler(num_blocks=4).check_request([1] * 10, SamplingParams(max_tokens=None)) == 7
    assert make_scheduler(num_blocks=99).check_request([1] * 10, SamplingParams(max_tokens=None)) == 54


def test_a_name_in_use_is_refused():
    scheduler = make_scheduler()
    add(scheduler, "a", 2)
    with pytest.raises(InvalidRequestError, match="alive already"):
        add(scheduler, "a", 2)


def test_limits_change_between_steps():
    scheduler = make_scheduler(max_num_seqs=2)
    for name in "abc":
        add(scheduler, name, 2, max_tokens=9)
    run_step(scheduler)
    scheduler.configure(scheduler.config.with_changes(max_num_seqs=1))
    plan = run_step(scheduler)  # those that run go on, nobody joins
    assert [d.action for d in plan.decisions] == [Action.DECODE, Action.DECODE, Action.WAIT]
    scheduler.configure(scheduler.config.with_changes(max_num_seqs=3))
    assert run_step(scheduler).decisions[2].reason is Reason.ADMITTED


def test_switching_prefix_caching_off_forgets_what_was_cached():
    scheduler = make_scheduler()
    add(scheduler, "a", 8, max_tokens=1)
    run_step(scheduler)
    scheduler.configure(scheduler.config.with_changes(enable_prefix_caching=False))
    scheduler.check_invariants()
    assert scheduler.kv.pool.cached == {}
    add(scheduler, "b", 8, max_tokens=1)
    assert decision(run_step(scheduler), "b").num_cached == 0


def test_a_policy_can_be_changed_while_requests_wait():
    scheduler = make_scheduler(max_num_seqs=1)
    add(scheduler, "a", 2, max_tokens=2, priority=9)
    add(scheduler, "b", 2, max_tokens=1, priority=1)
    add(scheduler, "c", 2, max_tokens=1, priority=0)
    run_step(scheduler)
    scheduler.set_policy(make_policy("priority"))
    assert [r.request_id for r in scheduler.waiting] == ["c", "b"]
    with pytest.raises(ConfigError, match="fcfs, priority"):
        make_policy("round-robin")


def test_an_empty_pool_is_refused():
    with pytest.raises(KVCacheTooSmallError, match="num_gpu_blocks_override"):
        make_scheduler(num_blocks=0)


def test_unchunked_prompts_must_fit_the_budget():
    with pytest.raises(ConfigError, match="max_num_batched_tokens=32 is below max_model_len=64"):
        make_scheduler(enable_chunked_prefill=False)
