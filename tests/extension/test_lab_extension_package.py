"""The JupyterLab extension as it is installed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
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
