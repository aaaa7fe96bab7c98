"""The JupyterLab extension as it is installed."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
INSTALLED = Path(sysconfig.get_path("data"), "share", "jupyter", "labextensions", "inference-workbench")


def test_jupyterlab_lists_the_extension_as_enabled_and_ok_in_the_project_s_version() -> None:
    command = [sys.executable, "-m", "jupyter", "labextension", "list"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in (done.stdout + done.stderr).splitlines()]
    version = json.loads((ROOT / "extension" / "package.json").read_text())["version"]
    found = [line.strip() for line in lines if "inference-workbench" in line and "enabled" in line]
    assert found == [f"inference-workbench v{version} enabled OK (python, inference-workbench)"], (
        "run `pip install -e .` again\n" + "\n".join(lines)
    )


def test_what_is_installed_is_what_was_built() -> None:
    built = ROOT / "extension" / "lib" / "labextension"
    names = sorted(path.relative_to(built) for path in built.rglob("*") if path.is_file())
    assert Path("static/tutorials.json") in names
    stale = [str(name) for name in names if (INSTALLED / name).read_bytes() != (built / name).read_bytes()]
    assert not stale, "run hatch_build.py"


def test_the_package_s_list_of_files_names_all_of_the_extension_so_that_removing_it_leaves_nothing() -> None:
    distribution = importlib.metadata.distribution("inference-workbench")
    listed = {Path(str(distribution.locate_file(file))).resolve() for file in distribution.files or ()}
    there = {path.resolve() for path in INSTALLED.rglob("*") if path.is_file()}
    assert len(there) > 5
    assert there <= listed, "run hatch_build.py"
    assert all(path.is_file() for path in listed if path.is_relative_to(INSTALLED.resolve()))


def test_the_tutorials_travel_with_the_extension() -> None:
    carried = json.loads((INSTALLED / "static" / "tutorials.json").read_text())
    originals = sorted((ROOT / "notebooks").glob("*.ipynb"))
    assert [tutorial["name"] for tutorial in carried] == [path.name for path in originals]
    assert [tutorial["notebook"] for tutorial in carried] == [json.loads(path.read_text()) for path in originals]


def test_a_wheel_is_made_without_node_and_holds_what_jupyterlab_looks_for(tmp_path: Path) -> None:
    """What is built already is taken as it is: with an empty PATH nothing could build it."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    environment = {**os.environ, "PATH": ""}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.glob("*.whl")
    installs_and_leaves_nothing(path, tmp_path / "environment")
    with zipfile.ZipFile(path) as wheel:
        files = {name: wheel.read(name) for name in wheel.namelist() if ".data/" in name or "/static/" in name}
    share = path.name.split("-py3")[0] + ".data/data/share/jupyter"
    extension = f"{share}/labextensions/inference-workbench"
    build = json.loads(files[f"{extension}/package.json"])["jupyterlab"]["_build"]
    carried = {name.removeprefix(f"{extension}/") for name in files if name.startswith(extension)}
    assert {"install.json", "schemas/inference-workbench/plugin.json", "static/tutorials.json"} <= carried
    assert build["load"] in carried
    assert f"{share}/lab/settings/overrides.d/inference-workbench.json" in files
    bundle = ROOT / "workbench" / "widgets" / "static" / "workbench.js"
    assert files["workbench/widgets/static/workbench.js"] == bundle.read_bytes()


def installs_and_leaves_nothing(wheel: Path, environment: Path) -> None:
    """Into an environment of its own, with nothing to build with, and out again."""
    venv.create(environment)

    def pip(*arguments: str) -> None:
        python = environment / "bin" / "python"
        command = [sys.executable, "-m", "pip", "--python", str(python), *arguments]
        done = subprocess.run(command, env={**os.environ, "PATH": ""}, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr

    def ours() -> list[Path]:
        return [
            path
            for path in environment.rglob("*")
            if path.is_file() and "workbench" in str(path.relative_to(environment))
        ]

    assert ours() == []
    pip("install", "--no-deps", "--no-index", str(wheel))
    share = environment / "share" / "jupyter"
    assert (share / "labextensions" / "inference-workbench" / "package.json").is_file()
    assert (share / "lab" / "settings" / "overrides.d" / "inference-workbench.json").is_file()
    pip("uninstall", "--yes", "inference-workbench")
    assert ours() == []
