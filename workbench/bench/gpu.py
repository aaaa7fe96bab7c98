"""`workbench bench gpu`: kernels and whole steps on a GPU, each beside the limit that the same machine was measured at.

Weights are random, made on the device, in the shapes of Qwen3-0.6B and Llama-3-8B. Nothing is downloaded. A part that
fails becomes a row that says so, and the others go on. tiny=True runs the same code on sizes that Triton's interpreter
can manage, to see that it runs; its figures mean nothing.
"""

import argparse
import csv
import importlib.metadata
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import transformers
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from workbench.bench.compare import compare
from workbench.bench.peers import TransformersContinuousBatching, Workbench
from workbench.bench.workloads import mixed
from workbench.core.config import EngineArgs, ModelSpec, resolve_scheduler_config
from workbench.core.errors import ConfigError
from workbench.core.sampling_params import SamplingParams
from workbench.core.scheduler_output import NewRequest, ScheduledRequest, SchedulerOutput
from workbench.llm import LLM
from workbench.runtime.loader import LoadedModel
from workbench.runtime.memory import pool_shape
from workbench.runtime.model_runner import TorchModelRunner
from workbench.runtime.models.decoder import Decoder
from workbench.runtime.models.decoder_config import decoder_config
from workbench_kernels.dispatch import KernelSet, select_kernels
from workbench_kernels.metadata import make_metadata
from workbench_kernels.quant_matmul.packing import quantize

BLOCK = 16


class Row(NamedTuple):
    """One figure. limit: what the machine could do, in the same unit, or None; share: how much of that was reached."""

    part: str
    what: str
    measured: float | None
    unit: str
    limit: float | None = None
    share: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How large everything is."""

    copy_bytes: int
    matmul: int
    batch: int
    context: int
    decode_context: int
    decode_batches: tuple[int, ...]
    prefill: int
    models: dict[str, Any]
    requests: tuple[int, ...]
    lengths: tuple[int, int]
    rounds: int


def full_sizes() -> Sizes:
    """What the project's targets speak of."""
    small = transformers.Qwen3Config(
        hidden_size=1024, intermediate_size=3072, num_hidden_layers=28, num_attention_heads=16, num_key_value_heads=8,
        head_dim=128, vocab_size=151_936, max_position_embeddings=40_960, tie_word_embeddings=True,
    )  # fmt: skip
    large = transformers.LlamaConfig(
        hidden_size=4096, intermediate_size=14_336, num_hidden_layers=32, num_attention_heads=32,
        num_key_value_heads=8, vocab_size=128_256, max_position_embeddings=16_384,
    )  # fmt: skip
    models = {"0.6B": small, "8B": large}
    return Sizes(2**30, 8192, 64, 8192, 512, (1, 64), 8192, models, (16, 64), (16, 256), 15)


def tiny_sizes() -> Sizes:
    """What an interpreter can do in seconds."""
    shape = {
        "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2,
        "num_key_value_heads": 1, "vocab_size": 64, "max_position_embeddings": 64,
    }  # fmt: skip
    models = {
        "0.6B": transformers.Qwen3Config(**shape, head_dim=16, tie_word_embeddings=True),
        "8B": transformers.LlamaConfig(**shape),
    }
    return Sizes(2**20, 64, 2, 17, 5, (2,), 9, models, (2,), (2, 3), 1)


class _Bench:
    def __init__(self, device: torch.device, sizes: Sizes) -> None:
        self.device = device
        self.sizes = sizes
        self.dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
        self.kernels = select_kernels(device, self.dtype, 128, backend="triton")
        self.bandwidth = 0.0  # bytes a second, read and written
        self.peak = 0.0  # floating-point operations a second

    def seconds(self, function: Callable[[], object]) -> float:
        """Median time of one call on the device, after three that do not count."""
        times = []
        for count in range(self.sizes.rounds + 3):
            if self.device.type == "cuda":
                begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
                begin.record()
                function()
                end.record()
                end.synchronize()
                elapsed = begin.elapsed_time(end) / 1000
            else:
                started = time.perf_counter()
                function()
                elapsed = time.perf_counter() - started
            if count >= 3 or self.device.type == "cpu":
                times.append(elapsed)
            if self.device.type == "cpu":
                break
        return statistics.median(times)

    def machine(self) -> Iterator[Row]:
        source = torch.ones(self.sizes.copy_bytes, dtype=torch.uint8, device=self.device)
        target = torch.empty_like(source)
        self.bandwidth = 2 * source.nbytes / self.seconds(lambda: target.copy_(source))
        yield Row("machine", "copy", self.bandwidth / 1e9, "GB/s", note="read and written bytes")
        n = self.sizes.matmul
        a, b = (torch.randn(n, n, device=self.device).to(self.dtype) for _ in range(2))
        self.peak = 2 * n**3 / self.seconds(lambda: a @ b)
        yield Row("machine", f"matmul {n}x{n}x{n}", self.peak / 1e12, "TFLOP/s")

    def checks(self) -> Iterator[Row]:
        """Each kernel against torch's own operations on this device, on more than toy sizes."""
        torch_set = select_kernels(self.device, self.dtype, 128, backend="torch")
        rows, width = (300, 4096) if self.device.type == "cuda" else (3, 64)
        x = torch.randn(rows, width, device=self.device).to(self.dtype)
        gain = torch.rand(width, device=self.device)
        pairs = {
            "rms_norm": lambda kernels: kernels.rms_norm(x, gain, 1e-6),
            "add_rms_norm": lambda kernels: kernels.add_rms_norm(x, x.clone(), gain, 1e-6),
            "silu_and_mul": lambda kernels: kernels.silu_and_mul(x),
            "gelu_tanh_and_mul": lambda kernels: kernels.gelu_tanh_and_mul(x),
            "paged_attention": self._attention_step(),
        }
        for name, run in pairs.items():
            ours, theirs = run(self.kernels).float(), run(torch_set).float()
            error = ((ours - theirs).abs().max() / theirs.abs().max()).item()
            note = "agrees" if error < (2e-2 if self.dtype is torch.bfloat16 else 1e-5) else "DIFFERS"
            yield Row("checks", name, error, "of the largest value", note=note)
        count, vocab = (8, 50_000) if self.device.type == "cuda" else (2, 100)
        logits = torch.randn(count, vocab, device=self.device) * 3
        settings = (
            [0.05 + i / 9 for i in range(count)], [1.0] * count, ([0, 50] * 4)[:count],
            ([0.9, 1.0, 0.5, 0.95] * 2)[:count], [0.0] * count,
        )  # fmt: skip
        same = sum(
            a == b for a, b in zip(self.kernels.draw(logits, *settings), torch_set.draw(logits, *settings), strict=True)
        )
        yield Row("checks", "draw", same / count, "of the tokens", note="agrees" if same == count else "DIFFERS")

    def _attention_step(self) -> Callable[[KernelSet], torch.Tensor]:
        """A step of decode tokens and chunks over a shuffled pool."""
        new, context = ([1, 1, 70, 5], [300, 17, 200, 5]) if self.device.type == "cuda" else ([1, 5], [20, 9])
        blocks = [-(-length // BLOCK) for length in context]
        tables = np.zeros((len(new), max(blocks)), np.int32)
        order, taken = np.random.default_rng(0).permutation(sum(blocks)), 0
        for row, count in enumerate(blocks):
            tables[row, :count] = order[taken : taken + count]
            taken += count
        starts = np.concatenate(([0], np.cumsum(new)))
        meta = make_metadata(
            starts, np.array(context), np.arange(len(new)), tables, BLOCK, self.device, self.kernels.query_tile
        )
        cache = torch.randn(2, sum(blocks), BLOCK, 2, 128, device=self.device).to(self.dtype)
        q = torch.randn(int(starts[-1]), 8, 128, device=self.device).to(self.dtype)
        k, v = cache.flatten(1, 2)[:, meta.device.slot_mapping]
        return lambda kernels: kernels.paged_attention(q, k, v, cache, meta, 128**-0.5)

    def attention(self) -> Iterator[Row]:
        sizes = self.sizes
        for name, config in sizes.models.items():
            heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
            size = config.head_dim or config.hidden_size // heads
            blocks = -(-sizes.context // BLOCK)
            tables = np.random.default_rng(0).permutation(sizes.batch * blocks).astype(np.int32)
            contexts = np.full(sizes.batch, sizes.context)
            meta = make_metadata(
                np.arange(sizes.batch + 1), contexts, np.arange(sizes.batch), tables.reshape(sizes.batch, blocks),
                BLOCK, self.device, self.kernels.query_tile,
            )  # fmt: skip
            cache = torch.zeros(2, sizes.batch * blocks, BLOCK, kv_heads, size, dtype=self.dtype, device=self.device)
            cache.normal_()
            q = torch.randn(sizes.batch, heads, size, device=self.device).to(self.dtype)
            elapsed = self.seconds(partial(self.kernels.paged_attention, q, q, q, cache, meta, size**-0.5))
            read = sizes.batch * sizes.context * kv_heads * size * 2 * cache.element_size()
            yield self._bandwidth(
                "decode attention", f"{name}, batch {sizes.batch}, context {sizes.context}", read, elapsed
            )

    def quantized(self) -> Iterator[Row]:
        config = self.sizes.models["8B"]
        shape = (config.intermediate_size, config.hidden_size)
        weight = torch.randn(shape, device=self.device).to(self.dtype)
        group = 16 if self.device.type == "cpu" else None
        for rows in (1, 16):
            x = torch.randn(rows, shape[1], device=self.device).to(self.dtype)
            elapsed = self.seconds(partial(torch.nn.functional.linear, x, weight))
            yield self._bandwidth("matmul", f"{self.dtype} {shape[0]}x{shape[1]}, {rows} rows", weight.nbytes, elapsed)
            for format in ("int8", "int4", "fp8"):
                packed = quantize(weight, format, 32 if format == "int4" and group else None)
                elapsed = self.seconds(partial(self.kernels.quant_matmul, x, packed))
                yield self._bandwidth(
                    "matmul", f"{format} {shape[0]}x{shape[1]}, {rows} rows", packed.num_bytes, elapsed
                )

    def _bandwidth(self, part: str, what: str, num_bytes: int, elapsed: float) -> Row:
        reached = num_bytes / elapsed
        return Row(
            part, what, reached / 1e9, "GB/s", self.bandwidth / 1e9, reached / self.bandwidth, f"{elapsed * 1e6:.1f} µs"
        )

    def steps(self) -> Iterator[Row]:
        for name, config in self.sizes.models.items():
            loaded = random_model(name, config, self.dtype, self.device)
            yield from self._decode_steps(name, loaded)
            yield from self._prefill(name, loaded)
            del loaded
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    def _runner(self, loaded: LoadedModel, requests: int, context: int, eager: bool) -> TorchModelRunner:
        blocks = requests * (-(-context // BLOCK) + 1)
        args = EngineArgs(
            block_size=BLOCK, max_num_seqs=max(requests, 1), max_num_batched_tokens=max(self.sizes.prefill, 512)
        )
        pool = pool_shape(loaded.spec, blocks, BLOCK)
        return TorchModelRunner(loaded, resolve_scheduler_config(args, loaded.spec, pool), "triton", eager)

    def _decode_steps(self, name: str, loaded: LoadedModel) -> Iterator[Row]:
        sizes, spec = self.sizes, loaded.spec
        for batch in sizes.decode_batches:
            embedding = 0 if sizes.models[name].tie_word_embeddings else spec.vocab_size * spec.hidden_size
            read = spec.weight_bytes - embedding * self.dtype.itemsize
            read += batch * sizes.decode_context * spec.kv_bytes_per_token
            # Without a GPU nothing is recorded, and both would be the same.
            for eager in (False, True) if self.device.type == "cuda" else (True,):
                runner = self._runner(loaded, batch, sizes.decode_context + 1, eager)
                try:
                    yield from self._decode_rows(name, runner, batch, read, eager)
                finally:
                    runner.close()

    def _decode_rows(self, name: str, runner: TorchModelRunner, batch: int, read: int, eager: bool) -> Iterator[Row]:
        context = self.sizes.decode_context
        first, again = decode_plans(batch, context)
        runner.execute(first)
        outputs, times = [], []
        for _ in range(self.sizes.rounds + 2):
            began = time.perf_counter()
            outputs.append(runner.execute(again))
            times.append(time.perf_counter() - began)
        elapsed, limit = statistics.median(times[2:] or times), read / self.bandwidth
        parts = [
            statistics.median(getattr(output, f"{part}_seconds") for output in outputs) * 1e3
            for part in ("prepare", "forward", "sample")
        ]
        how = "eager" if eager else "CUDA graph"
        yield Row(
            "decode step", f"{name}, batch {batch}, context {context}, {how}", elapsed * 1e3, "ms", limit * 1e3,
            limit / elapsed, "prepare {:.3f}, launch {:.3f}, wait and sample {:.3f} ms".format(*parts),
        )  # fmt: skip
        if eager:
            yield from self._timeline(name, runner, batch, again)

    def _timeline(self, name: str, runner: TorchModelRunner, batch: int, plan: SchedulerOutput) -> Iterator[Row]:
        """Where a step's time goes, kernel by kernel."""
        cuda = self.device.type == "cuda"
        activity = torch.profiler.ProfilerActivity.CUDA if cuda else torch.profiler.ProfilerActivity.CPU
        with torch.profiler.profile(activities=[activity]) as profile:
            runner.execute(plan)
        field = "self_device_time_total" if cuda else "self_cpu_time_total"
        found = sorted(((getattr(e, field), e.key) for e in profile.key_averages()), reverse=True)
        total = sum(microseconds for microseconds, _ in found) or 1.0
        for microseconds, key in found[:10]:
            share = microseconds / total
            yield Row("timeline", f"{name}, batch {batch}: {key[:60]}", microseconds / 1e3, "ms", share=share)

    def _prefill(self, name: str, loaded: LoadedModel) -> Iterator[Row]:
        count, spec, config = self.sizes.prefill, loaded.spec, self.sizes.models[name]
        runner = self._runner(loaded, 1, count, eager=True)
        try:
            prompt = tuple(3 + i % (spec.vocab_size - 3) for i in range(count))
            blocks = tuple(range(-(-count // BLOCK)))
            new = NewRequest("r", prompt, (), SamplingParams(temperature=0.0, max_tokens=2), 0)
            again = _plan([ScheduledRequest("r", prompt, 0, 0, (), True)])
            runner.execute(_plan([ScheduledRequest("r", prompt, 0, 0, blocks, True)], [new]))
            times = []
            for _ in range(max(self.sizes.rounds // 3, 1)):
                began = time.perf_counter()
                runner.execute(again)
                times.append(time.perf_counter() - began)
        finally:
            runner.close()
        elapsed = statistics.median(times)
        tables = config.vocab_size * config.hidden_size * (1 if config.tie_word_embeddings else 2)
        matrices = 2 * (spec.num_parameters - tables) * count
        attention = 2 * count**2 * spec.num_heads * spec.head_size * spec.num_layers  # half of it is masked
        reached = (matrices + attention) / elapsed
        yield Row(
            "prefill", f"{name}, {count} tokens", reached / 1e12, "TFLOP/s", self.peak / 1e12, reached / self.peak,
            f"{elapsed * 1e3:.1f} ms, {count / elapsed:,.0f} tokens/s",
        )  # fmt: skip

    def workloads(self) -> Iterator[Row]:
        """W2 and W3 against transformers' continuous batching, same weights and precision, in alternation."""
        config = self.sizes.models["0.6B"]
        torch.manual_seed(0)
        with tempfile.TemporaryDirectory() as folder:
            model = transformers.AutoModelForCausalLM.from_config(config, dtype=self.dtype)
            model.save_pretrained(folder)
            del model
            precision = str(self.dtype).removeprefix("torch.")
            settings: dict[str, Any] = {"kernel_backend": "triton", "device": self.device.type, "dtype": precision}
            with LLM(
                folder, max_num_seqs=16, kv_cache_memory_bytes=2**33 if self.sizes.rounds > 1 else None, **settings
            ) as llm:
                theirs = TransformersContinuousBatching(folder, 16, self.dtype, self.device.type)
                try:
                    for count in self.sizes.requests:
                        items = mixed(count, *self.sizes.lengths, config.vocab_size)
                        rounds = 2 if self.sizes.rounds > 1 else 1
                        found = compare("workload", f"{count} requests", items, Workbench(llm), theirs, rounds)
                        ours, others = (statistics.median(x) for x in (found.our_speeds, found.their_speeds))
                        yield Row(
                            "workload", f"0.6B, {count} requests, at most 16 running", ours, "tokens/s",
                            note=f"{found.ratio:.2f} times {theirs.name} ({others:,.0f} tokens/s)",
                        )  # fmt: skip
                finally:
                    theirs.close()

    def parts(self) -> dict[str, Callable[[], Iterator[Row]]]:
        return {
            "machine": self.machine,
            "checks": self.checks,
            "decode attention": self.attention,
            "matmul": self.quantized,
            "steps": self.steps,
            "workloads": self.workloads,
        }


def decode_plans(batch: int, context: int) -> tuple[SchedulerOutput, SchedulerOutput]:
    """A step in which `batch` requests compute one token after `context` others, and the same step again."""
    blocks = -(-(context + 1) // BLOCK)
    prompt = (3,) * (context + 1)
    params = SamplingParams(temperature=0.0, max_tokens=2)
    new = [NewRequest(str(i), prompt, (), params, 0) for i in range(batch)]
    own = [tuple(range(i * blocks, (i + 1) * blocks)) for i in range(batch)]
    first = [ScheduledRequest(str(i), (3,), context, 0, own[i], True) for i in range(batch)]
    again = [ScheduledRequest(str(i), (3,), context, blocks, (), True) for i in range(batch)]
    return _plan(first, new), _plan(again)


def _plan(scheduled: list[ScheduledRequest], new: list[NewRequest] | None = None) -> SchedulerOutput:
    return SchedulerOutput(0, (), tuple(scheduled), tuple(new or ()), (), (), sum(len(s.token_ids) for s in scheduled))


def random_model(name: str, config: Any, dtype: torch.dtype, device: torch.device) -> LoadedModel:
    """The lean decoder with random weights of a config's shape, made on the device."""
    lean = decoder_config(config)
    torch.manual_seed(0)

    def get(_: str, shape: tuple[int, ...]) -> torch.Tensor:
        if len(shape) == 1:
            return torch.ones(shape, dtype=dtype, device=device)
        return torch.empty(shape, dtype=dtype, device=device).normal_(std=0.02)

    model = Decoder(lean, get, lambda _: False, config.max_position_embeddings, device)
    spec = ModelSpec(
        name=name,
        architecture=type(config).__name__,
        backend="decoder",
        device=str(device),
        dtype=str(dtype).removeprefix("torch."),
        vocab_size=config.vocab_size,
        max_model_len=config.max_position_embeddings,
        num_layers=lean.num_layers,
        hidden_size=lean.hidden_size,
        num_heads=lean.num_heads,
        num_kv_heads=lean.num_kv_heads,
        head_size=lean.head_size,
        num_parameters=model.num_parameters,
        weight_bytes=sum(tensor.nbytes for tensor in model.tensors()),
        kv_bytes_per_token=2 * lean.num_layers * lean.num_kv_heads * lean.head_size * dtype.itemsize,
        eos_token_ids=(),
    )
    return LoadedModel(model, spec, None, dtype, ())


def gpu_rows(tiny: bool = False) -> list[Row]:
    """All figures. Raises ConfigError where there is no GPU, unless tiny."""
    if not tiny and not torch.cuda.is_available():
        raise ConfigError("this measurement needs a CUDA device, and torch sees none here")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    bench = _Bench(device, tiny_sizes() if tiny else full_sizes())
    rows: list[Row] = []
    for name, part in tqdm(bench.parts().items(), desc="GPU", unit="part", delay=1.0, leave=False):
        try:
            with torch.no_grad():  # inference mode would break transformers' continuous batching
                for row in part():
                    rows.append(row)  # noqa: PERF402  what was measured before a failure stays
        except Exception as error:  # the other parts still have something to say
            rows.append(Row(name, "failed", None, "", note=f"{type(error).__name__}: {error}"[:500]))
    return rows


def versions() -> dict[str, str]:
    """What the figures were taken with."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    names = ("torch", "triton", "transformers", "inference-workbench")
    return {"device": device, **{name: importlib.metadata.version(name) for name in names}}


def main(argv: list[str] | None = None) -> int:
    """Measure, print, write; the exit status is 1 if a part failed or a check did not agree."""
    parser = argparse.ArgumentParser(prog="python -m workbench.bench.gpu", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--json", metavar="FILE", type=Path)
    parser.add_argument("--csv", metavar="FILE", type=Path)
    parser.add_argument("--tiny", action="store_true", help="toy sizes, without a GPU too: does it run?")
    options = parser.parse_args(argv)
    rows = gpu_rows(options.tiny)
    table = Table(title=", ".join(f"{name} {value}" for name, value in versions().items()), title_justify="left")
    for column in Row._fields:
        table.add_column(column)
    for row in rows:
        table.add_row(*("" if x is None else f"{x:,.3f}" if isinstance(x, float) else str(x) for x in row))
    Console().print(table)
    if options.json:
        figures = {"versions": versions(), "rows": [row._asdict() for row in rows]}
        options.json.write_text(json.dumps(figures, indent=2), encoding="utf-8")
    if options.csv:
        with options.csv.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(Row._fields)
            writer.writerows(rows)
    return int(any(row.measured is None or row.note == "DIFFERS" for row in rows))


if __name__ == "__main__":
    raise SystemExit(main())
