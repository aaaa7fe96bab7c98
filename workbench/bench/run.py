"""`workbench bench`: which measurements there are, and the table at the end."""

import importlib.metadata
import json
import platform
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from workbench.bench.compare import Comparison, compare
from workbench.bench.latency_bench import latency_rows
from workbench.bench.nano_vllm import NanoVLLM
from workbench.bench.peers import TransformersContinuousBatching, TransformersGenerate, Workbench
from workbench.bench.quant_bench import quant_rows
from workbench.bench.scheduler_bench import scheduler_rows
from workbench.bench.simulator_bench import simulator_rows
from workbench.bench.trace_bench import trace_rows
from workbench.bench.workloads import workload
from workbench.core.errors import WorkbenchError
from workbench.embedded import model_path
from workbench.llm import LLM

MAX_NUM_SEQS = 16
FEW_ROWS, MANY_COLUMNS = 2, 8

Rows = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Options:
    """What the measurements may ask. rounds: alternating ones. nano_vllm: a checkout of it, or None."""

    rounds: int = 5
    nano_vllm: str | None = None


def run_bench(names: Sequence[str], options: Options, list_only: bool = False, json_path: str | None = None) -> int:
    """Run the named measurements (all if none is named), print them, maybe write them; returns the exit status."""
    if list_only:
        for name, measure in MEASUREMENTS.items():
            print(f"{name:12} {(measure.__doc__ or '').splitlines()[0]}")
        return 0
    unknown = [name for name in names if name not in MEASUREMENTS]
    if unknown or options.rounds < 1:
        known = ", ".join(MEASUREMENTS)
        print(f"workbench bench: no measurement {unknown}; there are {known}; rounds at least 1", file=sys.stderr)
        return 2
    console, figures = Console(), {}
    for name in names or _default_names():
        try:
            rows = MEASUREMENTS[name](options)
        except WorkbenchError as error:
            print(f"workbench bench: {name}: {error}", file=sys.stderr)
            return 1
        figures[name] = rows
        console.print(_table(name, rows))
    if json_path:
        Path(json_path).write_text(json.dumps({"machine": _machine(), "figures": figures}, indent=2), encoding="utf-8")
    return 0


def throughput(options: Options) -> Rows:
    """16 requests at once (S16, W2) against transformers' continuous batching, same weights, float32."""
    with LLM(max_num_seqs=MAX_NUM_SEQS) as llm:
        theirs = TransformersContinuousBatching(str(model_path()), MAX_NUM_SEQS)
        try:
            ours = Workbench(llm)
            return [
                _row(compare("throughput", name, workload(name, llm.model.vocab_size), ours, theirs, options.rounds))
                for name in ("S16", "W2")
            ]
        finally:
            theirs.close()


def single(options: Options) -> Rows:
    """One request (S1) against transformers' generate, same weights, float32."""
    with LLM() as llm:
        theirs = TransformersGenerate(str(model_path()))
        items = workload("S1", llm.model.vocab_size)
        return [_row(compare("single stream", "S1", items, Workbench(llm), theirs, options.rounds))]


def watching(options: Options) -> Rows:
    """16 requests with a dashboard's stream open against the same without; the browser's own work is not in it."""
    with LLM(max_num_seqs=MAX_NUM_SEQS) as llm:
        items = workload("W2", llm.model.vocab_size)
        return [_row(compare("watching", "W2", items, Workbench(llm, watched=True), Workbench(llm), options.rounds))]


def scheduler(options: Options) -> Rows:
    """CPU microseconds of a step that decodes 1 to 1,024 requests, records kept, no model; nano-vllm's beside it."""
    return scheduler_rows(options.rounds, None if options.nano_vllm is None else NanoVLLM(options.nano_vllm))


def simulator(options: Options) -> Rows:
    """How long the simulator takes for a million scheduled tokens, metrics included."""
    return simulator_rows(options.rounds)


def trace(options: Options) -> Rows:
    """A trace of 100,000 steps: CPU milliseconds to open any of them, memory and its bound, saving, loading."""
    return trace_rows()


def latency(options: Options) -> Rows:
    """The time to first token in the trace against the one that the client measures."""
    return latency_rows(options.rounds)


def quant(options: Options) -> Rows:
    """Decode in int8, int4 and NF4 against full precision, at batch 1 and 16, 135M parameters."""
    return quant_rows(options.rounds)


def gpu(_: Options) -> Rows:
    """Kernels, steps and workloads on a GPU beside its measured limits; left out by default where there is none."""
    # Imported here: with it come torch and transformers, which the other measurements may not want.
    from workbench.bench.gpu import gpu_rows

    return [{name: _short(value) for name, value in row._asdict().items()} for row in gpu_rows()]


def _short(value: Any) -> Any:
    return "" if value is None else round(value, 3) if isinstance(value, float) else value


def _default_names() -> list[str]:
    import torch

    return [name for name in MEASUREMENTS if name != "gpu" or torch.cuda.is_available()]


MEASUREMENTS: dict[str, Callable[[Options], Rows]] = {
    "throughput": throughput,
    "single": single,
    "watching": watching,
    "scheduler": scheduler,
    "simulator": simulator,
    "trace": trace,
    "latency": latency,
    "quant": quant,
    "gpu": gpu,
}


def _row(result: Comparison) -> dict[str, Any]:
    return {
        "workload": result.workload,
        "ours": result.ours,
        "tokens/s": round(statistics.median(result.our_speeds)),
        "compared with": result.theirs,
        "its tokens/s": round(statistics.median(result.their_speeds)),
        "ratio": round(result.ratio, 3),
        "lowest": round(min(result.ratios), 3),
        "highest": round(max(result.ratios), 3),
    }


def _table(name: str, rows: Rows) -> Table:
    table = Table(title=f"{name}: {(MEASUREMENTS[name].__doc__ or '').splitlines()[0]}", title_justify="left")
    if len(rows) <= FEW_ROWS and len(rows[0]) > MANY_COLUMNS:  # on its side, or no column could be read
        first, *others = rows[0]
        for heading in (first, *(str(row[first]) for row in rows)):
            table.add_column(heading, justify="left" if heading == first else "right")
        for column in others:
            table.add_row(column, *(_cell(row[column]) for row in rows))
        return table
    for column in rows[0]:
        table.add_column(column, justify="left" if isinstance(rows[0][column], str) else "right")
    for row in rows:
        table.add_row(*map(_cell, row.values()))
    return table


def _cell(value: Any) -> str:
    return f"{value:,}" if isinstance(value, (int, float)) else str(value)


def _machine() -> dict[str, str]:
    import torch
    import transformers

    return {
        "processor": platform.processor() or platform.machine(),
        "threads": str(torch.get_num_threads()),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "workbench": importlib.metadata.version("inference-workbench"),
    }
