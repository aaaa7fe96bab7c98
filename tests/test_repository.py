"""Rules about the repository's own files, not about code."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
MEGABYTE = 1024 * 1024


def committed_files() -> list[Path]:
    """Every file that git tracks."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def test_versions_agree() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    package = json.loads((ROOT / "extension" / "package.json").read_text())
    assert package["version"] == project["version"]
    assert importlib.metadata.version(project["name"]) == project["version"], "run `pip install -e .` again"


def test_there_is_a_notebook() -> None:
    assert (ROOT / "notebooks" / "01_first_tokens.ipynb") in NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebooks_are_committed_without_outputs(path: Path) -> None:
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert "widgets" not in notebook["metadata"], "saved widget state"
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [], f"cell {cell.get('id')} has outputs"
            assert cell["execution_count"] is None, f"cell {cell.get('id')} has an execution count"


def test_no_file_is_larger_than_ten_megabytes() -> None:
    large = {path.name: path.stat().st_size for path in committed_files() if path.stat().st_size > 10 * MEGABYTE}
    assert not large


def test_the_front_end_s_lock_file_names_no_server() -> None:
    # yarn records names and checksums; npm's lock would record the download address of whoever made it.
    assert "://" not in (ROOT / "extension" / "yarn.lock").read_text()
    assert not [path for path in committed_files() if path.name == "package-lock.json"]


def test_only_the_agreed_top_level_folders() -> None:
    agreed = {".ci", "extension", "kernels", "notebooks", "share", "tests", "workbench"}
    folders = {path.relative_to(ROOT).parts[0] for path in committed_files() if path.parent != ROOT}
    assert folders <= agreed
