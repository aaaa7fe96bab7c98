"""JSON of records: written from columns or from rows it is the same, and what JSON cannot hold is not written."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from tests.core.helpers import make_scheduler, record_of
from workbench.core.sampling_params import SamplingParams
from workbench.core.scheduler_output import SampledToken
from workbench.trace.wire import RecordReader, dumps, in_columns, records_to_json


@pytest.fixture
def records():
    """Steps with prompts, waiting requests, log-probabilities and ends."""
    scheduler = make_scheduler(max_num_seqs=2)
    for i in range(3):
        scheduler.add_request(
            f"r{i}", [i, i + 1, i + 2], SamplingParams(max_tokens=3 + i, logprobs=2), arrival_time=0.0
        )
    found = []
    while scheduler.has_unfinished():
        plan = scheduler.schedule()
        token = SampledToken(7, -0.5, ((7, -0.5), (8, -math.inf)))
        scheduler.update(plan, {item.request_id: token for item in plan.scheduled if item.sample}, {}, {})
        found.append(replace(record_of(scheduler, plan), time=len(found) / 3))
    return found


def test_columns_are_written_as_they_are_in_files_and_read_back_as_the_records(records):
    written = json.loads(dumps(in_columns(records)))
    in_files = json.loads(dumps(records_to_json(records)))
    assert written == [
        {**told, "time": record.time, "times": list(record.times)}
        for told, record in zip(in_files, records, strict=True)
    ]
    # JSON has no infinity: such a log-probability is told as unknown.
    finite = [
        replace(
            record,
            sampled=tuple(s._replace(alternatives=(s.alternatives[0], (8, None))) for s in record.sampled),
        )
        for record in records
    ]
    assert list(map(RecordReader().from_json, written)) == finite


def test_rows_made_by_hand_become_columns(records):
    by_hand = [replace(r, decisions=tuple(r.decisions), sampled=tuple(r.sampled)) for r in records]
    assert dumps(in_columns(by_hand)) == dumps(in_columns(records))


def test_what_json_cannot_hold(records):
    assert dumps([math.nan, math.inf, np.float64("-inf"), 1.5]) == b"[null,null,null,1.5]"
    assert dumps({3: (np.int64(4), np.float32(0.5))}) == b'{"3":[4,0.5]}'
    half = {"text": "half of a pair: \ud83d", "records": in_columns(records)}
    assert json.loads(dumps(half)) == {
        "text": "half of a pair: ?",
        "records": json.loads(dumps(in_columns(records))),
    }
    with pytest.raises(TypeError, match="a object cannot be written"):
        dumps({"a": object()})
