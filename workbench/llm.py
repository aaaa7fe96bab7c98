"""LLM: a model, its engine and its thread, with vLLM's names."""

import asyncio
import dataclasses
import sys
import time
import weakref
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from workbench.assembly import make_engine, small_copy
from workbench.core.config import (
    DEFAULT_TRACE_MEMORY_BYTES,
    DEFAULT_TRACE_STEPS,
    EngineArgs,
    ModelSpec,
)
from workbench.core.errors import ConfigError, InvalidRequestError, ResultTimeoutError, WrongKernelError
from workbench.core.policy import Policy
from workbench.core.records import SettingChange, Snapshot, StepRecord
from workbench.core.sampling_params import SamplingParams
from workbench.core.settings import Settings, resolved_settings
from workbench.core.work import batch_of
from workbench.engine.breakpoints import Breakpoint, make_breakpoint
from workbench.engine.change import Change
from workbench.engine.client import EngineClient, Prompt
from workbench.engine.engine_loop import LoopStatus
from workbench.engine.handle import RequestHandle
from workbench.engine.hooks import Hooks
from workbench.engine.interfaces import Tokenizer
from workbench.engine.outputs import RequestOutput, StreamOutput
from workbench.engine.request_stream import RequestStream
from workbench.kernel_check import KernelCheck
from workbench.kernel_table import Kernels
from workbench.ledger import Ledger
from workbench.quality.lockstep import check_vocabulary
from workbench.roofline import Roofline, make_roofline
from workbench.steps import Steps
from workbench.trace import Trace
from workbench.trace.why import Why
from workbench.waste import Waste, waste_of
from workbench.weights import Weights
from workbench.why_not import WhyNot

if TYPE_CHECKING:
    import torch

    from workbench.quality.report import Quality
    from workbench.runtime.model_runner import TorchModelRunner
    from workbench.widgets.engine_widget import EngineWidget

Message = Mapping[str, str]
# Computes one operation of the model; see LLM.set_kernel.
Kernel = Callable[..., "torch.Tensor"]

POLL_SECONDS = 0.005


class LLM:
    """A language model that runs in this process, with an engine you can look into.

    LLM() loads the bundled model; LLM("directory or hub id") any Hugging Face decoder. The other arguments are named
    and meant as in vLLM; EngineArgs documents each. kernels: your own, by operation; see `set_kernel`. The engine runs
    on a thread of its own and idles when there is nothing to do. It ends with `shutdown()`, at the end of a `with`
    block, or when nothing refers to the LLM any more.

    Raises ConfigError for settings, ModelLoadError (or UnsafeModelError) for models.
    """

    def __init__(
        self,
        model: str | None = None,
        *,
        tokenizer: str | None = None,
        dtype: str = "auto",
        device: str = "auto",
        quantization: str | None = None,
        sparsity: str | None = None,
        max_model_len: int | None = None,
        block_size: int = 16,
        gpu_memory_utilization: float = 0.9,
        kv_cache_memory_bytes: int | None = None,
        num_gpu_blocks_override: int | None = None,
        kv_cache_dtype: str = "auto",
        max_num_seqs: int = 64,
        max_num_batched_tokens: int | None = None,
        enable_prefix_caching: bool = True,
        enable_chunked_prefill: bool = True,
        scheduling_policy: str = "fcfs",
        kernel_backend: str = "auto",
        enforce_eager: bool = False,
        seed: int = 0,
        trust_remote_code: bool = False,
        trace_steps: int = DEFAULT_TRACE_STEPS,
        trace_memory_bytes: int = DEFAULT_TRACE_MEMORY_BYTES,
        kernels: Mapping[str, Kernel] | None = None,
        **unknown: Any,
    ) -> None:
        from workbench.widgets.lab_pages import announce

        args = EngineArgs.from_dict(
            {
                "model": None if model is None else str(model),
                "tokenizer": None if tokenizer is None else str(tokenizer),
                "dtype": dtype,
                "device": device,
                "quantization": quantization,
                "sparsity": sparsity,
                "max_model_len": max_model_len,
                "block_size": block_size,
                "gpu_memory_utilization": gpu_memory_utilization,
                "kv_cache_memory_bytes": kv_cache_memory_bytes,
                "num_gpu_blocks_override": num_gpu_blocks_override,
                "kv_cache_dtype": kv_cache_dtype,
                "max_num_seqs": max_num_seqs,
                "max_num_batched_tokens": max_num_batched_tokens,
                "enable_prefix_caching": enable_prefix_caching,
                "enable_chunked_prefill": enable_chunked_prefill,
                "scheduling_policy": scheduling_policy,
                "kernel_backend": kernel_backend,
                "enforce_eager": enforce_eager,
                "seed": seed,
                "trust_remote_code": trust_remote_code,
                "trace_steps": trace_steps,
                "trace_memory_bytes": trace_memory_bytes,
                **unknown,
            }
        )
        self._client = make_engine(args)
        self._loop = self._client.loop
        self._runner = cast("TorchModelRunner", self._loop.core.runner)
        self.engine_id: str = self.trace.info["engine_id"]
        # The thread knows the loop but not this object, so the last reference to it going away ends the engine.
        self._finalizer = weakref.finalize(self, self._loop.shutdown)
        try:
            for op, function in (kernels or {}).items():
                self.set_kernel(op, function)
        except BaseException:
            self.shutdown()
            raise
        announce(self._client)

    # Making text

    def generate(
        self,
        prompts: Prompt | Sequence[Prompt],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
        *,
        priority: int | Sequence[int] = 0,
        use_tqdm: bool = True,
    ) -> list[RequestOutput]:
        """Complete one prompt or many and wait for all of them; answers come in the order of the prompts.

        A prompt is a string, a list of token ids, {"prompt": text} or {"prompt_token_ids": ids}. sampling_params and
        priority are one for all or one each. If any prompt is refused, none is submitted. Interrupting the cell
        cancels the requests of this call. A progress bar appears after a second.
        """
        items = _as_prompts(prompts)
        params = _one_each("sampling_params", sampling_params, len(items), SamplingParams)
        priorities = _one_each("priority", priority, len(items), int)
        handles = [self._handle(stream) for stream in self._client.submit(items, params, priorities)]
        try:
            return self._collect(handles, use_tqdm)
        except BaseException:  # KeyboardInterrupt above all
            for handle in handles:
                self._cancel_unfinished(handle)
            raise

    def chat(
        self,
        messages: Sequence[Message] | Sequence[Sequence[Message]],
        sampling_params: SamplingParams | Sequence[SamplingParams] | None = None,
        *,
        use_tqdm: bool = True,
    ) -> list[RequestOutput]:
        """Complete one conversation or many, each a list of {"role", "content"}, through the model's chat template."""
        if not messages:
            raise InvalidRequestError("messages is empty; give at least one {'role': ..., 'content': ...}")
        conversations = [messages] if isinstance(messages[0], Mapping) else messages
        tokenizer = self._client.need_tokenizer()
        prompts = [{"prompt_token_ids": tokenizer.apply_chat_template(c)} for c in conversations]
        return self.generate(prompts, sampling_params, use_tqdm=use_tqdm)

    def submit(
        self, prompt: Prompt, sampling_params: SamplingParams | None = None, *, priority: int = 0
    ) -> RequestHandle:
        """Queue one request and return at once: a handle to iterate over, wait for or cancel."""
        streams = self._client.submit([prompt], [sampling_params or SamplingParams()], [priority])
        return self._handle(streams[0])

    def stream(
        self, prompt: Prompt, sampling_params: SamplingParams | None = None, *, priority: int = 0
    ) -> Iterator[StreamOutput]:
        """Yield a completion's pieces as they come; leaving the loop early cancels the request."""
        handle = self.submit(prompt, sampling_params, priority=priority)
        try:
            yield from handle
        finally:
            self._cancel_unfinished(handle)

    async def astream(
        self, prompt: Prompt, sampling_params: SamplingParams | None = None, *, priority: int = 0
    ) -> AsyncIterator[StreamOutput]:
        """As `stream`, for `async for`; the event loop goes on meanwhile."""
        handle = await asyncio.to_thread(self.submit, prompt, sampling_params, priority=priority)
        try:
            async for piece in handle:
                yield piece
        finally:
            self._cancel_unfinished(handle)

    # Control

    def pause(self) -> None:
        """Stop before the next step. The kernel stays free; requests may still be submitted and cancelled."""
        self._loop.pause()

    def resume(self) -> None:
        """Go on after a pause."""
        self._loop.resume()

    def step(self, n: int = 1) -> Steps:
        """Pause and do n steps (fewer if the work runs out); returns the list of their records."""
        return Steps(self._loop.step(n).result())

    def wait_until_paused(self, timeout: float | None = None) -> LoopStatus:
        """Wait in this cell until the engine pauses, at a breakpoint say, or has nothing to do; returns its status.

        Raises ResultTimeoutError after `timeout` seconds.
        """
        end = None if timeout is None else time.monotonic() + timeout
        while (status := self._loop.call(self._loop.status)).state == "running":
            if end is not None and time.monotonic() > end:
                raise ResultTimeoutError(f"the engine was still running after {timeout} s, at step {status.step}")
            time.sleep(POLL_SECONDS)
        return status

    def set_speed(self, steps_per_second: float | None) -> None:
        """Slow motion: at most so many steps a second; None for full speed."""
        self._loop.set_speed(steps_per_second)

    def configure(self, *, dry_run: bool = False, **changes: Any) -> Change:
        """Turn knobs on the running engine and see what came of it; in force from the next step on.

        max_num_seqs, max_num_batched_tokens, enable_prefix_caching, scheduling_policy: what the scheduler goes by.
        gpu_memory_utilization, kv_cache_memory_bytes or num_gpu_blocks_override: the KV pool grows or shrinks. It
        loses cached blocks first, then those of requests that the policy picks to be preempted; none is lost.
        block_size, kv_cache_dtype: the pool is drained and made anew. Running requests are preempted, computed again
        and go on; the new pool gets the old one's bytes unless a size is given as well.

        quantization: the weights are read again and stored another way while the engine goes on, then take over
        between two steps; None is the checkpoint's own precision, bit for bit. Running requests are preempted and
        computed again with the new weights. sparsity does the same: "2:4" on GPUs that multiply packed 2:4 matrices
        (elsewhere it is refused, with the prediction), "2:4-dense" anywhere, to measure the quality of pruned weights.

        All changes are made or none. Raises ConfigError: DoesNotFitError where a live request or the memory does not
        allow it, KVCacheTooSmallError where not one block is left. dry_run=True only predicts, as `predict` does.
        """
        if dry_run:
            return self.predict(**changes)
        return self._client.configure(changes)

    def predict(self, **changes: Any) -> Change:
        """What `configure` would do, without doing it. What would not fit is told in the answer's `refused`."""
        return self._loop.call(lambda: self._loop.core.predict(changes))

    def why_not(self, **changes: Any) -> WhyNot:
        """Why a change would not fit: the arithmetic, and the nearest settings that would. Nothing is changed."""
        reading = self._runner.device()
        used, total = reading.used_bytes, reading.total_bytes
        return WhyNot(self.predict(**changes), None if used is None or total is None else total - used)

    def set_policy(self, policy: str | Policy) -> None:
        """Hot-swap the scheduling policy: "fcfs", "priority", "sjf", "fair", or an object of your own Policy class.

        Raises PolicyError, with the previous policy still in force, if it makes no order of the requests there are. A
        policy that fails later is taken off in favour of the one before it, and the record says so.
        """
        self._loop.configure({"scheduling_policy": policy})

    def set_kernel(self, op: str, function: Kernel | None, *, check: bool = True) -> KernelCheck | None:
        """Compute with your own kernel from the next step on; None goes back to the engine's.

        op: "paged_attention", the one that can be given. function(q, k, v, kv_cache, meta, scale, sliding_window,
        soft_cap) returns a tensor like q; `workbench_kernels.paged_attention.reference` says what it has to compute. It
        runs on the engine's thread. First `check_kernel` tries it: where it is wrong, it is refused with a
        WrongKernelError that says where, and the kernel before it stays. Returns that check; check=False takes the
        kernel as it is.

        Running requests are preempted and computed again with it, and cached blocks are forgotten, so no KV comes from
        two kernels. A kernel that raises, or returns anything else than a tensor like q, ends the requests of that
        step with a KernelFailedError's message; the engine goes on. Raises ConfigError for another op.
        """
        from workbench.runtime.given_kernels import check_given, kernel_name  # loads torch

        check_given(op, print if function is None else function)
        given, name, report = {}, "the engine's own", None
        if function is not None:
            given, name = {op: function}, kernel_name(function)
            if not check:
                self._loop.call(self._runner.attention_use)  # raises where none can be given
            elif not (report := self.check_kernel(op, function, timed=False)).ok:
                raise WrongKernelError(f"{report.summary} Nothing was changed.", report)
        told = SettingChange("kernel", f"{op}: {name}")
        self._loop.call(lambda: self._loop.core.recompute_with(lambda: self._runner.use_kernels(given), told))
        return report

    def check_kernel(self, op: str, function: Kernel, *, timed: bool = True) -> KernelCheck:
        """Try a kernel against the reference on odd batches of this model's sizes; time it beside the engine's own.

        Changes nothing; runs in this thread while the engine goes on. Raises ConfigError for an op that none can be
        given for.
        """
        from tqdm.auto import tqdm

        from workbench.runtime.given_kernels import check_given, kernel_name  # loads torch
        from workbench_kernels.check import check_attention, time_attention

        check_given(op, function)
        use, name = self._loop.call(self._runner.attention_use), kernel_name(function)
        bar = partial(tqdm, desc=f"Checking {name}", unit="case", delay=1.0, leave=False)
        results = check_attention(function, use, bar)
        timing = None
        if timed and not any(result.problem for result in results):
            own, query_tile = self._runner.own_attention()
            engines = f"the engine's own ({self._runner.own_backend(op)})"
            timing = time_attention({name: function, engines: own}, use, {engines: query_tile})
        return KernelCheck(name, results, timing)

    def set_priority(self, request: str | RequestHandle, priority: int) -> bool:
        """Change a live request's priority (lower runs first under the priority policy); False if it is not alive."""
        name = request if isinstance(request, str) else request.request_id
        return self._loop.call(lambda: self._loop.core.set_priority(name, priority))

    def move_to_front(self, request: str | RequestHandle) -> bool:
        """Treat a waiting request as the first to have arrived; False if it does not wait."""
        name = request if isinstance(request, str) else request.request_id
        return self._loop.call(lambda: self._loop.core.move_to_front(name))

    def break_on(
        self,
        event: str | None = None,
        *,
        request: str | RequestHandle | None = None,
        free_blocks_under: int | None = None,
        step_longer_than: float | None = None,
        when: Callable[[StepRecord], object] | None = None,
    ) -> Breakpoint:
        """Pause the engine after the first step in which something happens.

        event: "preemption", "allocation_failure", "eviction", "admission", "first_token" or "finish", of one request
        if named; or free_blocks_under=n, step_longer_than=seconds, when=predicate(record). `llm.status().stopped_by`
        tells what happened; `clear_breakpoints()` takes them off.
        """
        name = request.request_id if isinstance(request, RequestHandle) else request
        point = make_breakpoint(
            event,
            request=name,
            free_blocks_under=free_blocks_under,
            step_longer_than=step_longer_than,
            when=when,
        )
        self._loop.add_breakpoint(point)
        return point

    def clear_breakpoints(self, point: Breakpoint | None = None) -> None:
        """Take off one breakpoint, or all of them."""
        self._loop.remove_breakpoints(point)

    @property
    def breakpoints(self) -> tuple[Breakpoint, ...]:
        """The breakpoints that are set."""
        return self._loop.breakpoints

    def reset_prefix_cache(self) -> None:
        """Forget all cached prefixes; requests in flight keep their blocks."""
        self._loop.call(self._loop.core.scheduler.kv.pool.reset_cache)

    def shutdown(self) -> None:
        """End the engine and give back its memory. Whoever still waits for a result gets EngineClosedError."""
        self._finalizer()

    def __enter__(self) -> "LLM":
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()

    # Looking in

    @property
    def trace(self) -> Trace:
        """Every step so far, within trace_steps and trace_memory_bytes; `trace.at(step)` is the state after a step."""
        return self._loop.core.trace

    def why(self, request: str | RequestHandle | RequestOutput) -> Why:
        """Why a request took as long as it did, in plain English: `llm.why("r3")`, or a handle or an output."""
        return self.trace.why(request if isinstance(request, str) else request.request_id)

    @property
    def hooks(self) -> Hooks:
        """`hooks.on_step(fn)` calls fn(record) after each step, on the engine's thread."""
        return self._loop.core.hooks

    @property
    def model(self) -> ModelSpec:
        """The loaded model's sizes."""
        return self._loop.core.runner.spec

    @property
    def args(self) -> EngineArgs:
        """The settings as last asked for."""
        return self._loop.core.args

    @property
    def settings(self) -> Settings:
        """What was asked for and what is in force."""
        scheduler = self._loop.core.scheduler
        return resolved_settings(self.args, self.model, scheduler.config, scheduler.policy.name, self._runner.notes)

    @property
    def kernels(self) -> Kernels:
        """Which implementation runs for each operation, and why."""
        return Kernels(self._loop.call(lambda: self._runner.kernel_choices))

    def roofline(self, step: int | None = None) -> Roofline:
        """How close a step came to the machine's limits: bytes, operations and time by part, as a table and a figure.

        step: a recorded one; None for the last that computed anything. Bytes and operations follow from its record. Its
        forward's parts are timed between two steps, on a batch of the same shape with the weights and kernels in force
        now. The machine's copy bandwidth and matmul peak are measured at the first call, which takes a second or two.
        """
        record = self._last_computing() if step is None else self.trace.record(step)
        batch = batch_of(record)
        if not batch:
            raise InvalidRequestError(f"step {record.step} computed no tokens; name another one")
        if self._client.limits is None:
            self._client.limits = self._runner.measure_limits()
        seconds = self._loop.call(lambda: self._runner.time_parts(batch))
        return make_roofline(record, self.model, self.weights(), seconds, self._client.limits)

    def _last_computing(self) -> StepRecord:
        for record in reversed(self.trace.records()):
            if record.num_scheduled_tokens:
                return record
        raise InvalidRequestError("no step has computed anything yet; generate something first")

    def status(self) -> LoopStatus:
        """What the engine is doing at this moment."""
        return self._loop.status()

    def snapshot(self) -> Snapshot:
        """The scheduler's own state between two steps: queues, block tables, reference counts."""
        return self._loop.call(self._loop.core.scheduler.snapshot)

    def memory(self) -> Ledger:
        """Who holds the bytes: rows that add up to the process, on a GPU to all that is used of it.

        On a GPU it is held against NVML (the extra `gpu`), which also tells of other processes, power and clocks.
        """
        reading = self._runner.device()
        return Ledger(self._loop.call(lambda: self._loop.core.memory(reading)), reading)

    def waste(self) -> Waste:
        """KV memory held beside KV memory that stored a token, over the steps in the trace, and what allocation in one
        piece would have held for the same requests: for max_model_len tokens, or for the next power of two."""
        return waste_of(self.trace)

    def logits(self, token_ids: Sequence[int], first: int = 0) -> "torch.Tensor":
        """The model's logits [tokens - first, vocab] in float32 of one sequence of token ids, from `first` on.

        Computed between two steps, in memory of its own: requests in flight and cached prefixes are left alone, and
        nothing of it is in the trace.
        """
        tokens = list(token_ids)
        self._loop.core.scheduler.check_prompt(tokens[:-1] or tokens)
        if not 0 <= first < len(tokens):
            raise InvalidRequestError(f"first={first} is not one of the {len(tokens)} tokens")
        return self._loop.call(lambda: self._runner.logits(tokens, first))

    def quality(
        self,
        against: "LLM | None" = None,
        *,
        text: str | None = None,
        prompts: Sequence[str | Sequence[int]] | None = None,
        n_ctx: int | None = None,
        max_chunks: int | None = None,
        greedy_tokens: int = 64,
        use_tqdm: bool = True,
    ) -> "Quality":
        """How much the answers differ from those of `against`, by default the same model in full precision.

        Perplexity, KL divergence and equal top tokens over `text` (default: the bundled held-out stories), cut into
        chunks of n_ctx tokens (512, or the model's context) of which the second half counts; or over `prompts` of your
        own, whole. Figures are named and defined as llama.cpp's `llama-perplexity --kl-divergence` has them. Besides,
        where the answer first leaves the base's greedy continuation of greedy_tokens tokens (0: leave that out).

        Requests in flight go on. Without `against`, the full-precision model is loaded beside this one for as long as
        it takes, if this one is not it.
        """
        from workbench.quality.measure import measure  # loads torch

        options: dict[str, Any] = {
            "text": text,
            "prompts": prompts,
            "n_ctx": n_ctx,
            "max_chunks": max_chunks,
            "greedy_tokens": greedy_tokens,
            "use_tqdm": use_tqdm,
        }
        if against is not None:
            return measure(self, against, **options)
        if not self._changes_answers():
            return measure(self, self, notes=("it is the full-precision model, measured against itself",), **options)
        if self.model.quantization is not None and self.args.quantization is None:
            raise ConfigError(
                f"the checkpoint is quantized itself ({self.model.quantization}), so its folder holds no full "
                "precision to compare with; give that model's engine as against="
            )
        full = small_copy(self.args, 1, min(self.model.max_model_len, 64 + greedy_tokens))
        with LLM(**dataclasses.asdict(full)) as base:
            return measure(self, base, **options)

    def _changes_answers(self) -> bool:
        return (self.model.quantization or self.model.sparsity) is not None or self.args.kv_cache_dtype != "auto"

    def weights(self) -> Weights:
        """How every weight matrix is stored, in how many bytes."""
        return Weights(self._loop.call(self._runner.weights))

    @property
    def client(self) -> EngineClient:
        """What puts requests into the engine, for code that works with several engines."""
        return self._client

    def get_tokenizer(self) -> Tokenizer | None:
        """The tokenizer, or None if the model has none."""
        return self._client.tokenizer

    def dashboard(self, height: int = 0, *, embed_trace: bool = False) -> "EngineWidget":
        """All views of this engine, linked, as one widget. height in pixels, 0 for its own.

        A saved notebook keeps a picture and its numbers as of the last cell that ran. embed_trace=True keeps a page
        that replays the whole trace instead, for HTML exports: some 100 kB, and more for a long trace.
        """
        return self.view("dashboard", height, embed_trace=embed_trace)

    def view(self, name: str, height: int = 0, *, embed_trace: bool = False) -> "EngineWidget":
        """One view: "blocks", "timeline", "requests", "memory", "latency", "kernels", "playground", "controls",
        "knobs", "traffic" or "what_if".

        height and embed_trace as for `dashboard`.
        """
        from workbench.widgets.engine_widget import EngineWidget  # ipywidgets is only needed where there is a page

        return EngineWidget(self._client, name, height, embed_trace=embed_trace)

    def playground(self, *, compare_with: "LLM | None" = None, height: int = 0) -> "EngineWidget":
        """The playground: prompts, and their tokens as they come, from this engine or from two of them side by side.

        Side by side, both answer the same prompts greedily, and the place where they part is marked. The other engine
        is a copy of this model, in full precision or in another format, made for as long as it takes; or compare_with,
        which you keep alive. Raises ConfigError where that is no other LLM or has another vocabulary, EngineClosedError
        where it was shut down.
        """
        if compare_with is not None:
            if not isinstance(compare_with, LLM):
                raise ConfigError(f"compare_with takes another LLM, not {type(compare_with).__name__}")
            check_vocabulary(self._client, compare_with.client)
            self._client.offer(compare_with.client)
        return self.view("playground", height)

    def __repr__(self) -> str:
        spec, status, config = self.model, self._loop.status(), self._loop.core.scheduler.config
        return (
            f"LLM({spec.name}, {spec.num_parameters / 1e6:.1f}M parameters, {spec.dtype} on {spec.device}, "
            f"{config.num_blocks} KV blocks of {config.block_size} tokens, {status.state}, "
            f"{status.num_running} running, {status.num_waiting} waiting)"
        )

    def _handle(self, stream: RequestStream) -> RequestHandle:
        return RequestHandle(stream, self._client.cancel, self._paused_notice, self)

    def _collect(self, handles: list[RequestHandle], use_tqdm: bool) -> list[RequestOutput]:
        if not use_tqdm:
            return [handle.result() for handle in handles]
        from tqdm.auto import tqdm  # chooses its notebook form by what is running it

        with tqdm(total=len(handles), desc="Generating", unit="request", delay=1.0, file=sys.stderr) as bar:
            outputs = []
            for handle in handles:
                outputs.append(handle.result())
                bar.update(1)
        return outputs

    def _cancel_unfinished(self, handle: RequestHandle) -> None:
        if not handle.done() and self._loop.status().state != "closed":
            handle.cancel()

    def _paused_notice(self) -> str | None:
        status = self._loop.status()
        if status.state != "paused":
            return None
        why = "" if status.stopped_by is None else f" ({status.stopped_by})"
        return (
            f"The engine is paused after step {status.step}{why}: {status.num_running} running, {status.num_waiting} "
            "waiting. Press resume or step in a view, or call llm.resume()."
        )


def _as_prompts(prompts: Any) -> list[Prompt]:
    """One prompt or many. A list of ints is one prompt, as in vLLM."""
    if isinstance(prompts, (str, Mapping)):
        return [prompts]
    if not isinstance(prompts, Sequence):
        raise InvalidRequestError(f"prompts must be a string, a list or a mapping, not {type(prompts).__name__}")
    if prompts and all(isinstance(item, int) and not isinstance(item, bool) for item in prompts):
        return [prompts]
    return list(prompts)


def _one_each(name: str, value: Any, count: int, kind: type) -> list[Any]:
    if value is None:
        return [kind()] * count
    if isinstance(value, kind):
        return [value] * count
    if not isinstance(value, Sequence) or any(not isinstance(item, kind) for item in value):
        raise ConfigError(f"{name} must be one {kind.__name__} or a list of them, not {value!r}")
    if len(value) != count:
        raise ConfigError(f"{name} has {len(value)} entries for {count} prompts; give one, or one for each prompt")
    return list(value)
