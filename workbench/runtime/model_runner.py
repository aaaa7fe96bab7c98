"""Runs plans: keeps the KV pool and the rows, makes a step's inputs, calls the model, samples."""

import statistics
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

from workbench.core.config import SPARSITIES, EngineArgs, ModelSpec, PoolShape, SchedulerConfig
from workbench.core.errors import ConfigError, DoesNotFitError, EngineClosedError, KVCacheTooSmallError
from workbench.core.machine import MachineLimits
from workbench.core.memory import DeviceReading, MemoryRow
from workbench.core.scheduler_output import BlockCopy, RunnerOutput, SchedulerOutput
from workbench.core.weights import WeightRow
from workbench.core.work import WorkSizes, work_sizes
from workbench.runtime.decode_graphs import Capture, DecodeBuffers, DecodeGraphs, bucket_sizes, cuda_capture
from workbench.runtime.device_meter import DeviceMeter
from workbench.runtime.given_kernels import GivenKernels, with_given
from workbench.runtime.input_batch import InputBatch
from workbench.runtime.kv_store import QUANTIZED, KVStore
from workbench.runtime.ledger import Held, ledger
from workbench.runtime.loader import LoadedModel
from workbench.runtime.machine import measure_limits
from workbench.runtime.memory import check_room, free_bytes, plan_pool, pool_shape
from workbench.runtime.models.base import Model
from workbench.runtime.quantization import check_quantization, predicted_bytes
from workbench.runtime.sampler import sample
from workbench.runtime.sparsity import forecast
from workbench.runtime.step_profile import PartTimer
from workbench.runtime.threads import on_device, step_threads, torch_threads
from workbench_kernels.check import AttentionUse
from workbench_kernels.dispatch import BackendUnavailable, Choice, KernelSet, select_kernels
from workbench_kernels.metadata import make_metadata

SCORING_BLOCK = 16  # tokens a KV block where logits are computed outside of the pool


# Loads the same checkpoint once more, its matrices stored in another way.
Reload = Callable[[str | None], LoadedModel]


class TorchModelRunner:
    """A loaded model with a KV pool of config.num_blocks blocks. One thread at a time may call it.

    kernel_backend, enforce_eager: see EngineArgs. capture: records decode steps; None stands for CUDA graphs on a GPU
    whose attention is Triton's, and for running every step as it comes anywhere else.

    Raises KVCacheTooSmallError where the pool does not fit in memory, ConfigError where the kernels asked for cannot
    run.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        config: SchedulerConfig,
        kernel_backend: str = "auto",
        enforce_eager: bool = False,
        capture: Capture | None = None,
        reload: Reload | None = None,
    ) -> None:
        self.notes = loaded.notes
        self._reload = reload
        self._spec = loaded.spec
        self._eos_token_ids = config.eos_token_ids
        device, dtype = torch.device(loaded.spec.device), loaded.dtype
        self._device, self._dtype = device, dtype
        self._model = loaded.model
        self._weight_rows = tuple(loaded.model.weights())
        self._meter = DeviceMeter(device)
        self._kernel_backend = kernel_backend
        self._kv = KVStore(loaded.spec, config.pool, device, dtype)
        self._threads = torch.get_num_threads() if device.type == "cpu" else 1
        self._pool = ThreadPoolExecutor(self._threads - 1, "workbench-kernels") if self._threads > 1 else None
        self._given: GivenKernels = {}
        self._own_kernels = self._kernels = self._select_kernels(self._kv.pool.kv_cache_dtype)
        self._batch = self._empty_batch(config.max_num_seqs, config.block_size)
        self._closed = False
        self._max_num_seqs = config.max_num_seqs
        self._capture, self._eager = capture, enforce_eager
        self._compile_kernels()
        self._graph_bytes = (0, 0)
        self._graphs = self._record()

    @property
    def spec(self) -> ModelSpec:
        """What it runs."""
        return self._spec

    @property
    def kernel_choices(self) -> tuple[Choice, ...]:
        """Which implementation runs each operation, and why."""
        return self._kernels.choices

    def plan_pool(self, args: EngineArgs, turned: Collection[str]) -> PoolShape:
        """The pool that args ask for, now that this one is there; see memory.plan_pool. Changes nothing."""
        if self._given:
            self._refuse_quantized(args.kv_cache_dtype)
        return plan_pool(args, self._spec, self._kv.pool, turned)

    def check_room(self, pool: PoolShape) -> None:
        """Raise DoesNotFitError where the device has no memory for such a pool. Changes nothing."""
        check_room(self._device, self._kv.pool, pool)

    def free_bytes(self) -> int:
        """Memory of the device that can still be allocated."""
        return free_bytes(self._device)

    def change_pool(self, pool: PoolShape, copies: Sequence[BlockCopy]) -> None:
        """Copy blocks, then grow or shrink. A pool of another block size or dtype begins empty, without any rows.

        Raises KVCacheTooSmallError where memory runs out; the old pool is then in place, empty if it was of another
        kind than the one that was asked for.
        """
        self._graphs = None
        try:
            self._change_store(pool, copies)
        finally:
            self._graphs = self._record()

    def _change_store(self, pool: PoolShape, copies: Sequence[BlockCopy]) -> None:
        before = self._kv.pool
        if (pool.block_size, pool.kv_cache_dtype) == (before.block_size, before.kv_cache_dtype):
            with torch.inference_mode():
                self._kv.copy(copies)
                self._batch.move_blocks(dict(copies), pool.num_blocks)
                self._kv.resize(pool)
            return
        self._kv.layers.clear()
        try:
            self._kv = KVStore(self._spec, pool, self._device, self._dtype)
        except KVCacheTooSmallError:
            self._kv = KVStore(self._spec, before, self._device, self._dtype)
            raise
        finally:
            self._own_kernels = self._select_kernels(self._kv.pool.kv_cache_dtype)
            self._kernels = with_given(self._own_kernels, self._given)
            self._batch = self._empty_batch(self._batch.num_rows, self._kv.pool.block_size)
        self._compile_kernels()

    def use_kernels(self, given: GivenKernels) -> None:
        """Compute with the caller's kernels from now on, and with the engine's own for the rest. Forgets all rows.

        The KV that was written before stays, and should not be used.
        """
        self._graphs = None
        self._given = dict(given)
        self._kernels = with_given(self._own_kernels, self._given)
        self._batch = self._empty_batch(self._batch.num_rows, self._kv.pool.block_size)
        self._graphs = self._record()

    def attention_use(self) -> AttentionUse:
        """How the model calls paged attention, found by one token through it. Raises ConfigError where the cache is of
        numbers that only our own kernels read."""
        self._refuse_quantized(self._kv.pool.kv_cache_dtype)
        spec, calls = self._spec, set()

        def listen(*arguments: Any) -> torch.Tensor:
            calls.add((*arguments[6:8], 0, 0.0)[:2])  # models without a window or a cap leave them out
            return self._own_kernels.paged_attention(*arguments)

        self._warm_up(self._model, replace(self._own_kernels, paged_attention=listen), self._scoring_store(1))
        return AttentionUse(
            spec.num_heads // spec.num_kv_heads,
            spec.head_size,
            self._kv.pool.block_size,
            self._dtype,
            str(self._device),
            tuple(sorted(calls)),
        )

    def own_attention(self) -> tuple[Callable[..., torch.Tensor], int]:
        """The engine's own paged attention for any thread, and the query_tile of its metadata."""
        kernels = select_kernels(self._device, self._dtype, self._spec.head_size, backend=self._kernel_backend)
        return kernels.paged_attention, kernels.query_tile

    def own_backend(self, op: str) -> str:
        """What runs that operation where no kernel is given."""
        return next(choice.backend for choice in self._own_kernels.choices if choice.op == op)

    def _refuse_quantized(self, kv_cache_dtype: str) -> None:
        if kv_cache_dtype in QUANTIZED:
            raise ConfigError(
                f"a kernel of yours reads K and V as the model has them ({self._spec.dtype}), not kv_cache_dtype="
                f"{kv_cache_dtype!r}; configure(kv_cache_dtype='auto') before giving one, or take it off first with "
                "set_kernel('paged_attention', None)"
            )

    def _empty_batch(self, num_rows: int, block_size: int) -> InputBatch:
        spec = self._spec
        return InputBatch(
            num_rows, spec.max_model_len, block_size, spec.vocab_size, self._device, self._kernels.query_tile
        )

    def _select_kernels(self, kv_cache_dtype: str, alone: bool = False) -> KernelSet:
        """Kernels for a pool of that kind; alone: in the caller's thread only."""
        quantized = QUANTIZED.get(kv_cache_dtype)
        try:
            return select_kernels(
                self._device,
                self._dtype,
                self._spec.head_size,
                None if alone else self._pool,
                1 if alone else self._threads,
                self._kernel_backend,
                quantized,
            )
        except BackendUnavailable as error:
            raise ConfigError(f"kernel_backend={self._kernel_backend!r} cannot run here: {error}") from error

    def _compile_kernels(self) -> None:
        # The first prompt should not have to wait for compilers, for no way to draw either. Nobody owns block 0 yet.
        # Not the caller's kernels: what they raise belongs to a request.
        kernels, device = self._own_kernels, self._device

        def draw() -> None:
            logits = torch.zeros(2, self._spec.vocab_size, device=device)
            counts = np.zeros(self._spec.vocab_size, np.int32)
            kernels.apply_penalties(logits[0], counts, counts > 0, 1.1, 0.1, 0.1)
            kernels.draw(logits, [0.5, 0.5], [1.0, 1.0], [0, 2], [1.0, 0.9], [0.0, 0.0])

        parts = [partial(self._warm_up, self._model, kernels, self._kv), draw]
        with torch.inference_mode(), torch_threads(1), on_device(device):
            for part in tqdm(parts, desc="Compiling kernels", unit="part", delay=1.0, leave=False):
                part()

    def _record(self) -> DecodeGraphs | None:
        """Decode steps over the pool as it is now: graphs hold its addresses."""
        self._graph_bytes = (0, 0)
        if self._eager:
            return None
        device, capture = self._device, self._capture
        if capture is None and device.type == "cuda":
            capture = cuda_capture(device)
        # transformers' own modules may wait for the device, and torch's attention goes by lengths known to the host.
        if capture is None or self._spec.backend != "decoder" or not self._kernels.query_tile:
            return None
        # nf4's table of values is brought to the device at each use, and torch's 2:4 product plans anew at each use,
        # neither of which a recording can repeat.
        if any(row.stored_as == "nf4" or row.stored_as.startswith("2:4") for row in self._weight_rows):
            return None
        batch, kv, kernels, model = self._batch, self._kv.layers, self._kernels, self._model
        buffers = DecodeBuffers(
            self._max_num_seqs, batch.max_blocks, batch.block_size, device, self._kernels.query_tile
        )
        before = _torch_bytes(device)
        with torch.inference_mode(), on_device(device):
            graphs = DecodeGraphs(
                lambda tokens, meta: model.forward(tokens, meta, kv, kernels, None),
                buffers,
                bucket_sizes(self._max_num_seqs),
                capture,
            )
        taken, used = (now - then for now, then in zip(_torch_bytes(device), before, strict=True))
        self._graph_bytes = (taken, max(0, taken - used))
        return graphs

    def _fits_a_graph(self, plan: SchedulerOutput) -> bool:
        return (
            self._graphs is not None
            and len(plan.scheduled) <= self._graphs.largest
            and all(scheduled.sample and len(scheduled.token_ids) == 1 for scheduled in plan.scheduled)
        )

    def execute(self, plan: SchedulerOutput) -> RunnerOutput:
        """Run a plan. A request whose logits are not finite is reported in errors, the others are sampled.

        On a GPU forward_seconds is the time to launch the work; waiting for it counts as sampling.
        """
        if self._closed:
            raise EngineClosedError("this model runner was closed; make a new LLM")
        began = time.perf_counter()
        threads = step_threads(self._spec, sum(len(s.token_ids) for s in plan.scheduled), self._threads)
        with torch.inference_mode(), torch_threads(threads), on_device(torch.device(self._spec.device)):
            self._batch.update(plan)
            if not plan.scheduled:
                return RunnerOutput({}, {}, time.perf_counter() - began, 0.0, 0.0)
            self._kv.copy(plan.copies)
            if self._graphs is not None and self._fits_a_graph(plan):
                rows = self._batch.fill(plan, self._graphs.buffers)
                prepared = time.perf_counter()
                logits = self._graphs.run(len(rows))
            else:
                inputs = self._batch.inputs(plan)
                rows = inputs.rows
                prepared = time.perf_counter()
                logits = self._model.forward(
                    inputs.token_ids, inputs.meta, self._kv.layers, self._kernels, inputs.sample_rows
                )
            forwarded = time.perf_counter()
            sampled, errors = sample(logits, rows, self._eos_token_ids, self._kernels) if rows else ({}, {})
        done = time.perf_counter()
        return RunnerOutput(sampled, errors, prepared - began, forwarded - prepared, done - forwarded)

    def logits(self, token_ids: Sequence[int], first: int = 0) -> torch.Tensor:
        """Logits [tokens - first, vocab] in float32 of one sequence from its token `first` on.

        Computed as a step computes them, in KV memory of its own, so no request and no cached block is touched.
        """
        if self._closed:
            raise EngineClosedError("this model runner was closed; make a new LLM")
        count, device = len(token_ids), torch.device(self._spec.device)
        blocks = -(-count // SCORING_BLOCK)
        threads = step_threads(self._spec, count, self._threads)
        with torch.inference_mode(), torch_threads(threads), on_device(torch.device(self._spec.device)):
            kv = self._scoring_store(blocks)
            table = np.arange(blocks, dtype=np.int32)[None]
            meta = make_metadata(
                np.array([0, count]),
                np.array([count]),
                np.zeros(1, np.int64),
                table,
                SCORING_BLOCK,
                device,
                self._kernels.query_tile,
            )
            tokens = torch.tensor(token_ids, dtype=torch.int64, device=device)
            rows = torch.arange(first, count, device=device)
            return self._model.forward(tokens, meta, kv.layers, self._kernels, rows)

    def time_parts(self, requests: Sequence[tuple[int, int]], rounds: int = 5) -> dict[str, float]:
        """Seconds of a forward by part (see step_profile), the median of some rounds.

        requests: (new tokens, context with them). In KV memory of its own, filled with zeros: the time depends on the
        shapes and not on the values.
        """
        counts, contexts = (np.array(column, np.int64) for column in zip(*requests, strict=True))
        blocks = -(-contexts // SCORING_BLOCK)
        ends = np.concatenate(([0], np.cumsum(counts)))
        table = np.zeros((len(requests), int(blocks.max())), np.int32)
        for row, (first, count) in enumerate(zip(np.cumsum(blocks) - blocks, blocks, strict=True)):
            table[row, :count] = np.arange(first, first + count)
        device, timer = self._device, PartTimer(self._device, self._spec.vocab_size)
        threads = step_threads(self._spec, int(counts.sum()), self._threads)
        with torch.inference_mode(), torch_threads(threads), on_device(device):
            kv, kernels = self._scoring_store(int(blocks.sum())), timer.kernels(self._kernels)
            meta = make_metadata(
                ends, contexts, np.arange(len(requests)), table, SCORING_BLOCK, device, self._kernels.query_tile
            )
            tokens = torch.zeros(int(counts.sum()), dtype=torch.int64, device=device)
            rows = torch.as_tensor(ends[1:] - 1, device=device)
            found = [
                timer.whole(lambda: self._model.forward(tokens, meta, kv.layers, kernels, rows))
                for _ in range(rounds + 1)
            ][1:]
        return {part: statistics.median(each[part] for each in found) for part in found[0]}

    def work(self) -> WorkSizes:
        """The model's sizes as its weights are stored now; any thread may ask."""
        return work_sizes(self._spec, self.weights())

    def measure_limits(self, progress: Callable[[int, int], None] | None = None) -> MachineLimits:
        """What the machine can do in this model's dtype; any thread may call it."""
        return measure_limits(self._device, self._dtype, progress=progress)

    def _scoring_store(self, num_blocks: int) -> KVStore:
        pool = pool_shape(self._spec, num_blocks, SCORING_BLOCK, self._kv.pool.kv_cache_dtype)
        return KVStore(self._spec, pool, self._device, self._dtype)

    def predict_weight_bytes(self, weight_format: str | None) -> int:
        """Bytes that the weights would take, from the shapes."""
        return predicted_bytes(self._weight_rows, weight_format, self._dtype)

    def check_weights(self, weight_format: str | None) -> None:
        """Raise DoesNotFitError where the weights cannot be stored that way here, or not beside those in force."""
        try:
            check_quantization(weight_format, self._device, self._dtype)
        except ConfigError as error:
            if weight_format not in SPARSITIES:
                raise DoesNotFitError(str(error), instead={"quantization": "int8"}) from error
            told = f"{error}; {forecast(self._weight_rows, self._dtype)}"
            raise DoesNotFitError(told, instead={"sparsity": None, "quantization": "int8"}) from error
        need, free = self.predict_weight_bytes(weight_format), free_bytes(self._device)
        if need > free:
            raise DoesNotFitError(
                f"weights in {weight_format or self._spec.dtype} need {need:,} bytes beside the old ones until they "
                f"are in force, and {self._device} has {free:,} free",
                need,
                free,
                f"free {need - free:,} bytes more: make the KV pool smaller first, or make a new LLM with this "
                "quantization after shutdown()",
            )

    def load_weights(self, weight_format: str | None) -> LoadedModel:
        """Read the checkpoint again and store it that way. Nothing changes yet, and steps may go on meanwhile.

        Raises DoesNotFitError as check_weights does, or where memory runs out all the same; ConfigError or
        ModelLoadError as loading does.
        """
        if self._reload is None:
            raise ConfigError("this engine was made from a loaded model and cannot read its checkpoint again")
        self.check_weights(weight_format)
        try:
            loaded = self._reload(weight_format)
            # Steps go on meanwhile, and the pool may change its kind: kernels of its own, in this thread.
            kv = self._scoring_store(1)
            self._warm_up(loaded.model, self._select_kernels(kv.pool.kv_cache_dtype, alone=True), kv)
        except (MemoryError, RuntimeError) as error:  # torch raises RuntimeError where a CPU allocation fails
            need, free = self.predict_weight_bytes(weight_format), free_bytes(self._device)
            raise DoesNotFitError(
                f"weights in {weight_format or self._spec.dtype} need {need:,} bytes beside the old ones, and "
                f"{self._device} has {free:,} free; loading them failed: {error}",
                need,
                free,
                "make the KV pool smaller first, or make a new LLM with this quantization after shutdown()",
            ) from error
        return loaded

    def use_weights(self, weights: object) -> None:
        """Compute with these from now on; the others are freed."""
        if not isinstance(weights, LoadedModel):
            raise ConfigError("use_weights takes what load_weights gave")
        self._graphs = None
        self._model, self._spec, self.notes = weights.model, weights.spec, weights.notes
        self._weight_rows = tuple(weights.model.weights())
        self._graphs = self._record()

    def _warm_up(self, model: Model, kernels: KernelSet, kv: KVStore) -> None:
        # One request of one token, and two, as the layouts of their rows are two types to a compiler; all in block 0.
        table, size = np.zeros((1, 1), np.int32), kv.pool.block_size
        for count in (1, 2):
            ones, zeros = np.ones(count, np.int64), np.zeros(count, np.int64)
            with torch.inference_mode():
                meta = make_metadata(np.arange(count + 1), ones, zeros, table, size, self._device, kernels.query_tile)
                tokens = torch.zeros(count, dtype=torch.int64, device=self._device)
                model.forward(tokens, meta, kv.layers, kernels, None)

    def weights(self) -> list[WeightRow]:
        """How each matrix is stored."""
        return [] if self._closed else list(self._weight_rows)

    def device(self) -> DeviceReading:
        """What the device says of itself. Takes milliseconds; any thread may ask, and the engine's should not."""
        return self._meter.read()

    def memory(self, reading: DeviceReading | None = None) -> list[MemoryRow]:
        """The bytes that this process (on a GPU: the device) holds, by purpose; the rows add up to all of them.

        reading: what the device said of itself, for the memory of others.
        """
        weights = dict[str, int]()
        for row in self.weights():
            weights[row.stored_as] = weights.get(row.stored_as, 0) + row.bytes
        scales = 0 if self._closed else self._kv.scale_bytes
        kv = 0 if self._closed else self._kv.num_bytes - scales
        return ledger(Held(weights, kv, scales, *self._graph_bytes), self._device, reading)

    def close(self) -> None:
        """Free the weights, the KV pool and the threads. May be called twice."""
        if self._closed:
            return
        self._closed = True
        if self._pool is not None:
            self._pool.shutdown()
        del self._model, self._kv, self._batch, self._kernels, self._own_kernels, self._given, self._graphs
        self._graph_bytes = (0, 0)
        self._meter.close()
        self._pool = None


def _torch_bytes(device: torch.device) -> tuple[int, int]:
    """What torch's allocator holds of a GPU, and what of that is in use."""
    if device.type != "cuda":
        return 0, 0
    return torch.cuda.memory_reserved(device), torch.cuda.memory_allocated(device)
