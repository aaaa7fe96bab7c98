"""`workbench bench`: which measurements there are, and the table at the end."""

import csv
import importlib.metadata
import json
import platform
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from workbench.bench.charts import curve, throughput_latency
from workbench.bench.child import ended_by_signals
from workbench.bench.compare import Comparison, compare
from workbench.bench.curves import pool_rows, running_rows
from workbench.bench.latency_bench import latency_rows
from workbench.bench.limits_bench import limits_rooflines, limits_rows
from workbench.bench.llama_peer import LlamaServer
from workbench.bench.nano_vllm import NanoVLLM
from workbench.bench.peers import Peer, TransformersContinuousBatching, TransformersGenerate, Workbench
from workbench.bench.quant_bench import quant_rows
from workbench.bench.scheduler_bench import scheduler_rows
from workbench.bench.server_peer import Server
from workbench.bench.shapes import BUNDLED, model_folder
from workbench.bench.simulator_bench import simulator_rows
from workbench.bench.startup_bench import startup_rows
from workbench.bench.trace_bench import trace_rows
from workbench.bench.ui import ui_rows
from workbench.bench.vllm_peer import VLLM
from workbench.bench.workloads import Item, workload
from workbench.core.errors import WorkbenchError
from workbench.core.work import work_sizes
from workbench.llm import LLM
from workbench.roofline import seconds_at_the_limit
from workbench.trace.metrics import percentile

MAX_NUM_SEQS = 16
FEW_ROWS, MANY_COLUMNS = 9, 9
WHY = "why"  # a column of sentences, told under the table

Rows = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Options:
    """What the measurements may ask. rounds: alternating ones. nano_vllm: a checkout of it, or None.

    charts: a folder for charts, or None. servers: addresses of peers that are running. soak: seconds that the ui
    measurement keeps a dashboard open under traffic. model: see model_folder. workloads: of throughput and single, in
    place of their own. vllm: the Python of an environment with vLLM; None: ours, if it is there. llama_server: the path
    of llama.cpp's server; None: the one on PATH, if there is one.
    """

    rounds: int = 5
    nano_vllm: str | None = None
    charts: Path | None = None
    servers: tuple[str, ...] = ()
    soak: float = 0.0
    model: str = BUNDLED
    workloads: tuple[str, ...] = ()
    vllm: str | None = None
    llama_server: str | None = None

    def draw(self, name: str, figure: Any) -> None:
        """Write a chart, if any are wanted."""
        if self.charts is not None:
            self.charts.mkdir(parents=True, exist_ok=True)
            figure.write_html(self.charts / f"{name}.html", include_plotlyjs="directory")


def run_bench(
    names: Sequence[str],
    options: Options,
    list_only: bool = False,
    json_path: str | None = None,
    csv_path: str | None = None,
) -> int:
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
    console, figures = Console(width=None if sys.stdout.isatty() else 200), {}
    for name in names or _default_names():
        try:
            rows = MEASUREMENTS[name](options)
        except WorkbenchError as error:
            print(f"workbench bench: {name}: {error}", file=sys.stderr)
            return 1
        figures[name] = rows
        console.print(_table(name, [{k: v for k, v in row.items() if k != WHY} for row in rows]))
        for row in rows:
            if WHY in row:
                console.print(row[WHY], soft_wrap=True)
    if json_path:
        Path(json_path).write_text(json.dumps({"machine": _machine(), "figures": figures}, indent=2), encoding="utf-8")
    if csv_path:
        _write_csv(Path(csv_path), figures)
    return 0


def _write_csv(path: Path, figures: dict[str, Rows]) -> None:
    """One line a figure; the first ones are the machine."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("measurement", "row", "figure", "value"))
        writer.writerows(("machine", 0, name, value) for name, value in _machine().items())
        for name, rows in figures.items():
            for index, row in enumerate(rows):
                writer.writerows((name, index, figure, value) for figure, value in row.items())


def throughput(options: Options) -> Rows:
    """16 at once (S16, W2) against transformers' continuous batching, vLLM, llama.cpp's server, on the same weights."""
    with model_folder(options.model) as folder, LLM(folder, max_num_seqs=MAX_NUM_SEQS) as llm:
        theirs = TransformersContinuousBatching(folder, MAX_NUM_SEQS, _dtype_of(llm), llm.model.device)
        return _against("throughput", llm, theirs, folder, options, options.workloads or ("S16", "W2"), MAX_NUM_SEQS)


def single(options: Options) -> Rows:
    """One request (S1, W1) against transformers' generate, vLLM, llama.cpp's server, on the same weights."""
    with model_folder(options.model) as folder, LLM(folder) as llm:
        theirs = TransformersGenerate(folder, _dtype_of(llm), llm.model.device)
        several = [name for name in options.workloads if len(workload(name, llm.model.vocab_size)) > 1]
        if several:
            left_out = f"single leaves out {', '.join(several)}: several requests, so throughput measures them"
            print(left_out, file=sys.stderr)
        names = [name for name in options.workloads if name not in several] or ("S1", "W1")
        return _against("single stream", llm, theirs, folder, options, names, 1)


def _dtype_of(llm: LLM) -> Any:
    import torch

    return getattr(torch, llm.model.dtype)


def _against(
    what: str, llm: LLM, theirs: Peer, folder: str, options: Options, names: Sequence[str], max_num_seqs: int
) -> Rows:
    """Ours against theirs and every other peer that there is, in turn; what was started here ends here."""
    ours, vocab = Workbench(llm), llm.model.vocab_size
    workloads = {name: workload(name, vocab) for name in names}
    context = max(len(item.prompt_token_ids) + item.num_tokens for items in workloads.values() for item in items)
    with ExitStack() as stack:
        stack.callback(theirs.close)
        peers = [theirs, *_others(stack, options, folder, llm.model.dtype, max_num_seqs, context)]
        rows = []
        for peer, (name, items) in product(peers, workloads.items()):
            found = compare(what, name, items, ours, peer, options.rounds)
            rows.append(_row(found) | _of_the_limit(found, llm, ours, items))
            spread = f"{min(found.ratios):.2f} to {max(found.ratios):.2f}"
            print(f"{name}: {found.ratio:.2f} times {peer.name} ({spread})", file=sys.stderr)  # should the rest fail
        return rows


def _of_the_limit(found: Comparison, llm: LLM, ours: Workbench, items: Sequence[Item]) -> dict[str, Any]:
    """What the machine's limits would allow in the same steps, and how much of that was reached. More than 100%: the
    weights came from a cache and not from memory."""
    limits = llm.roofline().limits
    sizes = work_sizes(llm.model, llm.weights())
    most = sum(item.num_tokens for item in items) / seconds_at_the_limit(ours.records, sizes, limits)
    return {
        "tokens/s at the limit": round(most),
        "reached": f"{statistics.median(found.our_speeds) / most:.0%}",
        "it reached": f"{statistics.median(found.their_speeds) / most:.0%}",
        "copy GB/s": round(limits.copy_bandwidth / 1e9, 1),
        "matmul GFLOP/s": round(limits.matmul_peak / 1e9),
    }


def _others(stack: ExitStack, options: Options, folder: str, dtype: str, max_num_seqs: int, context: int) -> list[Peer]:
    import torch

    threads = torch.get_num_threads()
    vllm = options.vllm or (sys.executable if find_spec("vllm") else None)
    llama_server = options.llama_server or shutil.which("llama-server")
    peers: list[Peer] = [Server(url) for url in options.servers]
    stack.enter_context(ended_by_signals())
    if vllm is None:
        print("vLLM was not run: --vllm PYTHON names the interpreter of an environment where it is installed")
    else:
        peers.append(VLLM(vllm, folder, dtype, max_num_seqs, threads))
        stack.callback(peers[-1].close)
    if llama_server is None:
        print("llama.cpp was not run: --llama-server PATH names its server")
    else:
        peers.append(LlamaServer(llama_server, folder, dtype, max_num_seqs, context, threads))
        stack.callback(peers[-1].close)
    return peers


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
    """Decode in int8, int4 and NF4 against float32 and bfloat16, at batch 1 and 16, 135M parameters; what bounds it."""
    return quant_rows(options.rounds)


def limits(options: Options) -> Rows:
    """Prefill and decode steps beside the machine's measured copy bandwidth and matmul peak, by part."""
    found = limits_rooflines()
    for what, roofline in found:
        options.draw(f"roofline {what}", roofline.figure())
    return limits_rows(found)


def running(options: Options) -> Rows:
    """Tokens/s, TTFT, ITL and E2E with percentiles at 1 to 256 running requests."""
    rows = running_rows(options.rounds)
    options.draw("throughput and latency", throughput_latency(rows))
    return rows


def context(options: Options) -> Rows:
    """A decode step of 4 requests at contexts of 128 to 16,384 tokens, bundled model's shape."""
    # Imported here: with it come torch and transformers, which the other measurements may not want.
    from workbench.bench.context_bench import context_rows

    rows = context_rows(options.rounds)
    options.draw("context", curve(rows, "context", "ms per step"))
    return rows


def pool(options: Options) -> Rows:
    """A scheduler's step with 16 requests in pools of a thousand to a million blocks; CPU time, no model."""
    rows = pool_rows(options.rounds)
    options.draw("pool", curve(rows, "blocks", "µs per step"))
    return rows


def startup(options: Options) -> Rows:
    """Seconds from `import workbench` to the first token, in fresh processes."""
    return startup_rows(options.rounds)


def ui(options: Options) -> Rows:
    """The dashboard in a headless browser: frames, event to pixel, cost to the engine; --soak SECONDS for memory."""
    return ui_rows(options.rounds, options.soak)


def gpu(_: Options) -> Rows:
    """Kernels, steps and workloads on a GPU beside its measured limits; left out by default where there is none."""
    # Imported here for the same reason.
    from workbench.bench.gpu import gpu_rows

    return [{name: _short(value) for name, value in row._asdict().items()} for row in gpu_rows()]


def _short(value: Any) -> Any:
    return "" if value is None else round(value, 3) if isinstance(value, float) else value


def _default_names() -> list[str]:
    import torch

    # A browser is asked for by name.
    return [name for name in MEASUREMENTS if name != "ui" and (name != "gpu" or torch.cuda.is_available())]


MEASUREMENTS: dict[str, Callable[[Options], Rows]] = {
    "throughput": throughput,
    "single": single,
    "watching": watching,
    "limits": limits,
    "running": running,
    "context": context,
    "pool": pool,
    "startup": startup,
    "scheduler": scheduler,
    "simulator": simulator,
    "trace": trace,
    "latency": latency,
    "quant": quant,
    "ui": ui,
    "gpu": gpu,
}


def _row(result: Comparison) -> dict[str, Any]:
    row: dict[str, Any] = {
        "workload": result.workload,
        "ours": result.ours,
        "compared with": result.theirs,
        "tokens/s": round(statistics.median(result.our_speeds)),
        "its tokens/s": round(statistics.median(result.their_speeds)),
        "ratio": round(result.ratio, 3),
        "lowest": round(min(result.ratios), 3),
        "highest": round(max(result.ratios), 3),
    }
    for q in (50, 95):
        row[f"TTFT p{q} ms"] = round(percentile(result.our_first, q) * 1e3, 2)
        row[f"its TTFT p{q} ms"] = round(percentile(result.their_first, q) * 1e3, 2)
    row["mean TTFT, ours / its"] = round(statistics.median(result.first_ratios), 3)
    return row


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
        table.add_column(column, overflow="fold", justify="left" if isinstance(rows[0][column], str) else "right")
    for row in rows:
        table.add_row(*map(_cell, row.values()))
    return table


def _cell(value: Any) -> str:
    return f"{value:,}" if isinstance(value, (int, float)) else str(value)


def _machine() -> dict[str, str]:
    import torch
    import transformers

    return {
        "processor": _processor(),
        "threads": str(torch.get_num_threads()),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "numba": importlib.metadata.version("numba"),
        "workbench": importlib.metadata.version("inference-workbench"),
        "commit": _commit(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
    }


def _processor() -> str:
    """The processor's own name, where Linux tells it."""
    try:
        about = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        about = ""
    names = [line.partition(":")[2].strip() for line in about.splitlines() if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _commit() -> str:
    """The commit of the checkout that this runs from; empty where it is none."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
