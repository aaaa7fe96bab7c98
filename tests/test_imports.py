"""Holds the layers: who may import whom, what `import workbench` may load, and that importing starts nothing."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Layer → the layers of ours that it may import. A layer is a folder or a module directly under workbench/;
# workbench_kernels is one too. Every layer may import itself.
ARROWS: dict[str, set[str]] = {
    "core": set(),
    "trace": {"core", "chart_style"},
    "sim": {"core"},
    "engine": {"core", "trace"},
    "workbench_kernels": set(),
    "runtime": {"core", "workbench_kernels"},
    "embedded": set(),
    "assembly": {"core", "engine", "runtime", "embedded"},
    "llm": {
        "assembly",
        "core",
        "trace",
        "engine",
        "runtime",
        "embedded",
        "widgets",
        "quality",
        "weights",
        "ledger",
        "waste",
        "why_not",
        "kernel_check",
        "kernel_table",
        "roofline",
        "workbench_kernels",
        "steps",
    },
    "kernel_check": {"chart_style", "tables", "workbench_kernels"},
    "roofline": {"chart_style", "core", "tables"},
    "kernel_table": {"tables", "workbench_kernels"},
    "weights": {"core", "tables"},
    "ledger": {"core", "tables"},
    "why_not": {"core", "engine"},
    "waste": {"core", "trace", "sim", "tables"},
    "quality": {"core", "engine", "runtime", "embedded", "tables", "llm"},
    "show": {"trace", "llm", "widgets"},
    "tables": {"core"},
    "steps": {"core", "tables"},
    "compare": {"core", "trace", "sim", "tables", "compare_picture", "widgets"},
    "compare_picture": set(),
    "chart_style": set(),
    "simulate": {"core", "trace", "sim", "compare", "tables"},
    "traffic": {"core", "sim", "engine"},
    "traffic_job": {"core", "sim", "engine", "traffic"},
    "limits_job": {"core", "engine"},
    "lockstep_job": {"assembly", "core", "engine", "quality"},
    "what_if": {"core", "trace", "sim", "simulate"},
    "__init__": {"core", "trace", "sim", "engine", "llm", "quality", "show", "simulate", "traffic"},
    "widgets": {
        "core",
        "trace",
        "engine",
        "sim",
        "quality",
        "ledger",
        "tables",
        "limits_job",
        "lockstep_job",
        "traffic_job",
        "what_if",
    },
    "server": {"core", "trace", "engine", "llm"},
    "bench": {
        "core",
        "trace",
        "engine",
        "sim",
        "widgets",  # whose cost it measures
        "simulate",
        "llm",
        "roofline",
        "runtime",
        "embedded",
        "workbench_kernels",
    },
    "demo": {"core", "engine", "llm", "embedded"},
    "cli": {"core", "trace", "engine", "sim", "llm", "server", "bench", "demo"},
    "__main__": {"cli"},
}

# The layers that may name these libraries, which cost seconds and hundreds of megabytes to load.
HEAVY = {"torch", "transformers", "triton", "numba", "safetensors", "tokenizers"}
HEAVY_LAYERS = {"runtime", "workbench_kernels", "embedded", "bench", "llm", "quality"}

# Where an import of ours inside a function is meant: to load torch only when a model is, transformers' modelling code
# only for models that need it, or one command's needs only.
LAZY = {
    "workbench/__init__.py",
    "workbench/assembly.py",
    "workbench/llm.py",
    "workbench/show.py",
    "workbench/compare.py",
    "workbench/cli.py",
    "workbench/bench/run.py",
    "workbench/runtime/loader.py",
}


class Import(NamedTuple):
    """One imported module: where, and how."""

    path: Path
    line: int
    module: str
    in_function: bool
    typing_only: bool

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line} imports {self.module}"


def sources() -> list[Path]:
    """Every Python file of the two import packages."""
    return sorted([*(ROOT / "workbench").rglob("*.py"), *(ROOT / "kernels" / "workbench_kernels").rglob("*.py")])


def module_name(path: Path) -> str:
    """The dotted name a file is imported by."""
    base = ROOT if path.is_relative_to(ROOT / "workbench") else ROOT / "kernels"
    parts = list(path.relative_to(base).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def layer(module: str) -> str:
    """The layer a module of ours belongs to."""
    parts = module.split(".")
    if parts[0] == "workbench_kernels":
        return "workbench_kernels"
    return parts[1] if len(parts) > 1 else "__init__"


def is_ours(module: str) -> bool:
    return module.split(".")[0] in {"workbench", "workbench_kernels"}


KNOWN = {module_name(path) for path in sources()}


def imports_of(path: Path) -> Iterator[Import]:
    """Every import statement of one file, relative names resolved, `from package import module` told apart."""
    package = module_name(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]

    def walk(node: ast.AST, in_function: bool, typing_only: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(path, node.lineno, alias.name, in_function, typing_only)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            target = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                module = f"{target}.{alias.name}"
                yield Import(path, node.lineno, module if module in KNOWN else target, in_function, typing_only)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for child in node.body:
                yield from walk(child, in_function, True)
            for child in node.orelse:
                yield from walk(child, in_function, typing_only)
        else:
            function = in_function or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            for child in ast.iter_child_nodes(node):
                yield from walk(child, function, typing_only)

    yield from walk(ast.parse(path.read_text(encoding="utf-8")), False, False)


ALL = [found for path in sources() for found in imports_of(path)]


def test_the_sources_are_found() -> None:
    assert {"workbench.core.scheduler", "workbench.engine"} <= KNOWN
    assert any(found.module == "workbench.core.block_pool" for found in ALL)


def test_every_layer_has_its_arrows_written_down() -> None:
    assert {layer(module) for module in KNOWN} - {"__init__"} <= set(ARROWS)


def test_imports_follow_the_arrows() -> None:
    wrong = [
        str(found)
        for found in ALL
        if is_ours(found.module)
        and layer(found.module) != (home := layer(module_name(found.path)))
        and layer(found.module) not in ARROWS[home]
    ]
    assert not wrong, "\n".join(wrong)


def test_core_uses_only_the_standard_library() -> None:
    wrong = [
        str(found)
        for found in ALL
        if layer(module_name(found.path)) == "core"
        and not is_ours(found.module)
        and found.module.split(".")[0] not in sys.stdlib_module_names
    ]
    assert not wrong, "\n".join(wrong)


def test_core_has_no_clock_no_random_and_no_threads() -> None:
    forbidden = {"time", "random", "secrets", "threading", "asyncio", "concurrent", "multiprocessing", "queue"}
    wrong = [
        str(found)
        for found in ALL
        if layer(module_name(found.path)) == "core" and found.module.split(".")[0] in forbidden
    ]
    assert not wrong, "\n".join(wrong)


def test_only_the_lower_layers_know_torch() -> None:
    wrong = [
        str(found)
        for found in ALL
        if found.module.split(".")[0] in HEAVY and layer(module_name(found.path)) not in HEAVY_LAYERS
    ]
    assert not wrong, "\n".join(wrong)


def test_imports_of_ours_inside_functions_are_the_listed_ones() -> None:
    wrong = [
        str(found)
        for found in ALL
        if found.in_function and is_ours(found.module) and str(found.path.relative_to(ROOT)) not in LAZY
    ]
    assert not wrong, "\n".join(wrong)


def test_no_import_cycles() -> None:
    graph: dict[str, set[str]] = {module: set() for module in KNOWN}
    for found in ALL:
        if found.module in KNOWN and not found.in_function and not found.typing_only:
            graph[module_name(found.path)].add(found.module)
    done: set[str] = set()

    def visit(module: str, trail: list[str]) -> None:
        if module in trail:
            pytest.fail("import cycle: " + " → ".join([*trail[trail.index(module) :], module]))
        if module not in done:
            for target in sorted(graph[module] - {module}):
                visit(target, [*trail, module])
            done.add(module)

    for module in sorted(graph):
        visit(module, [])


def run_python(code: str) -> str:
    """Run code in a fresh interpreter, away from the repository, and return what it printed."""
    with tempfile.TemporaryDirectory() as elsewhere:
        done = subprocess.run([sys.executable, "-c", code], cwd=elsewhere, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_workbench_is_cheap() -> None:
    loaded = set(json.loads(run_python("import json, sys, workbench; print(json.dumps(list(sys.modules)))")))
    assert "workbench" in loaded
    assert not loaded & (HEAVY | {"numpy", "pandas", "anywidget", "ipywidgets", "IPython", "plotly"})


def test_the_kernels_folder_is_no_package() -> None:
    code = "import importlib.util; print(importlib.util.find_spec('kernels') is None)"
    assert run_python(code).strip() == "True"


def test_importing_starts_no_thread() -> None:
    # Every module is imported, but for the ones whose optional library (triton, NVML) this machine lacks.
    code = f"""
import importlib, threading
started = []
start = threading.Thread.start
threading.Thread.start = lambda thread: (started.append(thread), start(thread))
before = threading.active_count()
import_errors = []
for name in {sorted(module for module in KNOWN if not module.endswith("__main__"))!r}:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name not in ("triton", "pynvml"):
            raise
print(len(started), threading.active_count() - before)
"""
    assert run_python(code).split() == ["0", "0"]
