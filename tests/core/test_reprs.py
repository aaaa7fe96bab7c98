"""Records and snapshots as text: short, and true to what they hold."""

from workbench.core.records import some_ids
from workbench.core.sampling_params import SamplingParams
from workbench.steps import Steps

from .helpers import make_scheduler, record_of, run_step


def records():
    scheduler = make_scheduler(max_num_seqs=2)
    for name in ("a", "b", "<c>"):
        scheduler.add_request(name, [1, 2, 3, 4, 5], SamplingParams(max_tokens=9), arrival_time=0.0)
    return scheduler, Steps(record_of(scheduler, run_step(scheduler)) for _ in range(2))


def test_a_record_is_a_line_and_printed_a_line_for_each_decision():
    _, (first, second) = records()
    assert repr(first) == ("StepRecord(step 0: 2 prefilling, 1 waiting; 10 of 32 tokens; 12 of 16 blocks free; 0 ms)")
    assert str(second).splitlines()[1:] == [
        "  a b: decodes its next token",
        "  <c>: the batch is full: it would be sequence 3, max_num_seqs is 2",
    ]
    assert second.sentences()[0] == (("a", "b"), "decodes its next token")


def test_steps_are_a_list_that_reads_as_text_and_as_a_table():
    _, steps = records()
    assert isinstance(steps, list)
    assert steps == list(steps)
    assert repr(steps) == f"{steps[0]}\n{steps[1]}"
    table = steps._repr_html_()
    assert table.count("<tr>") == 1 + len(steps[0].sentences()) + len(steps[1].sentences())
    assert "a b</td>" in table
    assert "&lt;c&gt;" in table
    assert "<c>" not in table
    assert "no step" in repr(Steps())
    assert "no step" in Steps()._repr_html_()


def test_a_snapshot_says_who_holds_what():
    scheduler, _ = records()
    assert repr(scheduler.snapshot()).splitlines() == [
        "Snapshot(after step 1: 2 running, 1 waiting; 16 blocks of 4 tokens: 4 used, 0 cached, 12 empty)",
        "  running a: 6 of 7 tokens computed, in blocks 0 1",
        "  running b: 6 of 7 tokens computed, in blocks 2 3",
        "  waiting <c>: 0 of 5 tokens computed",
    ]


def test_long_lists_are_cut():
    assert some_ids(range(3)) == "0 1 2"
    assert some_ids(range(1010)) == "0 1 2 3 4 5 6 7 and 1,002 more"
