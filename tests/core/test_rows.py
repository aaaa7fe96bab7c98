"""Decisions and sampled tokens as columns: to a reader they are the tuples that they stand for."""

import pytest

from tests.core.helpers import make_scheduler, run_step
from workbench.core.records import Sampled
from workbench.core.rows import Decisions, Packer, SampledTokens
from workbench.core.sampling_params import SamplingParams
from workbench.core.scheduler_output import Action, Decision, Reason

DECODES = [Decision(name, Action.DECODE, Reason.DECODE, 1, number) for name, number in (("a", 5), ("b", 9))]
WAITS = Decision("c", Action.WAIT, Reason.MAX_NUM_SEQS, need=3, have=2)
PREFILLS = Decision("d", Action.PREFILL, Reason.ADMITTED, 4, 0, need=4, have=4)


@pytest.mark.parametrize("rows", [[], DECODES, [*DECODES, WAITS], [PREFILLS, *DECODES], [WAITS, PREFILLS]])
def test_decisions_read_like_their_rows(rows):
    packed = Packer().decisions(rows)
    assert isinstance(packed, Decisions)
    assert list(packed) == rows
    assert packed == tuple(rows)
    assert tuple(rows) == packed
    assert packed == rows
    assert packed != [*rows, WAITS]
    assert len(packed) == len(rows)
    assert [packed[i] for i in range(len(rows))] == rows
    assert packed[1:] == tuple(rows[1:])
    assert list(reversed(packed)) == rows[::-1]
    assert repr(packed) == repr(tuple(rows))
    assert hash(packed) == hash(tuple(rows))
    with pytest.raises(IndexError):
        packed[len(rows)]


def test_sampled_tokens_keep_log_probabilities_where_there_are_any():
    rows = [Sampled("a", 7, None, (), 0), Sampled("b", 8, -0.5, ((8, -0.5), (1, float("-inf"))), 3)]
    packed = Packer().sampled(rows)
    assert isinstance(packed, SampledTokens)
    assert list(packed) == rows
    assert packed[-1] == rows[-1]
    assert packed[:1] == (rows[0],)


def test_steps_of_the_same_batch_share_the_names():
    packer = Packer()
    first, second = packer.decisions(DECODES), packer.decisions(list(DECODES))
    assert first.request_ids is second.request_ids
    assert packer.decisions([WAITS]).request_ids == ("c",)


def test_the_scheduler_s_steps_share_them_too():
    scheduler = make_scheduler(num_blocks=64)
    for name in ("a", "b"):
        scheduler.add_request(name, [1, 2, 3], SamplingParams(max_tokens=20), arrival_time=0.0)
    run_step(scheduler)
    plans = [run_step(scheduler) for _ in range(6)]
    assert len({id(plan.decisions.request_ids) for plan in plans}) == 1
    assert [d.num_computed for plan in plans for d in plan.decisions] == [n for n in range(3, 9) for _ in "ab"]
