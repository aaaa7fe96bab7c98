"""What the README shows runs, in order, as a reader would paste it."""

import re
from pathlib import Path

import pytest

README = Path(__file__).resolve().parents[1] / "README.md"


def test_the_five_minute_tour_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(blocks) == 3
    cells: dict[str, object] = {}
    try:
        for block in blocks:
            exec(compile(block, "README.md", "exec"), cells)
        assert cells["handle"].done()
        assert cells["llm"].breakpoints
        assert (tmp_path / "run.html").stat().st_size > 10_000
        assert capsys.readouterr().out
    finally:
        if "llm" in cells:
            cells["llm"].shutdown()


def test_every_linked_file_exists():
    links = re.findall(r"\]\(([^)#]+)\)", README.read_text(encoding="utf-8"))
    assert "notebooks/images/dashboard.png" in links
    for link in links:
        assert (README.parent / link).is_file(), link
