"""The graded exercises of tutorial 4: their graders pass the solutions and fail plain first come, first served."""

import json
from pathlib import Path

import pytest

from workbench import CostModel, Policy, Workload, simulate
from workbench.sim import LogNormal

NOTEBOOK = Path(__file__).resolve().parents[2] / "notebooks" / "04_write_your_own_scheduler.ipynb"
SERVICE = {"rate": 7, "p95_under": 0.7}
FAIR = {"rate": 6, "p95_under": 0.5, "longest_under": 1.2}


def tagged(tag: str) -> dict[str, object]:
    """The one cell of that tag, as JSON has it."""
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    (found,) = [cell for cell in cells if tag in cell["metadata"].get("tags", [])]
    return found


@pytest.fixture(scope="module")
def cells():
    """What the grader's and the solutions' cells define; the solutions' own asserts run too."""
    names = {
        "CostModel": CostModel,
        "Policy": Policy,
        "Workload": Workload,
        "simulate": simulate,
        "LogNormal": LogNormal,
    }
    for tag in ("grader", "solution-2", "solution-3"):
        exec("".join(tagged(tag)["source"]), names)
    return names


def test_the_solutions_pass_and_first_come_first_served_fails(cells, capsys):
    assert cells["grade_service"](cells["ShortAnswersFirst"](), **SERVICE)
    assert "PASSED  short answers first" in capsys.readouterr().out
    assert not cells["grade_service"](Policy(), **SERVICE)
    assert "not yet  fcfs: time to first token, p95 1" in capsys.readouterr().out
    assert cells["grade_service"](cells["ByDueTime"](), **FAIR)
    assert not cells["grade_service"](cells["ShortAnswersFirst"](), **FAIR)
    assert not cells["grade_service"](Policy(), **FAIR)


def test_the_grader_runs_the_reader_s_policy(cells):
    asked = []

    class Spy(Policy):
        def key(self, request):
            asked.append(request.request_id)
            return super().key(request)

    cells["grade_service"](Spy(), **SERVICE)
    assert len(set(asked)) == 120


def test_the_solutions_are_folded_away():
    for number in (1, 2, 3):
        assert tagged(f"solution-{number}")["metadata"]["jupyter"]["source_hidden"] is True
