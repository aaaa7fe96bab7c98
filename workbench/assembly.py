"""Puts model, runner, scheduler and thread together into one engine that takes prompts."""

import uuid
from dataclasses import replace

from workbench.core.config import EngineArgs, resolve_scheduler_config
from workbench.core.policy import make_policy
from workbench.core.settings import resolved_settings
from workbench.embedded import starters
from workbench.engine.client import EngineClient
from workbench.engine.engine_core import EngineCore
from workbench.engine.engine_loop import EngineLoop
from workbench.engine.info import engine_info


def make_engine(args: EngineArgs) -> EngineClient:
    """Load a model and start its engine's thread. Whoever asked for it ends it with `client.loop.shutdown()`.

    Raises ConfigError for settings, ModelLoadError (or UnsafeModelError) for models, with nothing kept.
    """
    # torch is imported here, when a model is wanted, so that `import workbench` stays cheap.
    from workbench.runtime.loader import load_model
    from workbench.runtime.memory import plan_pool
    from workbench.runtime.model_runner import TorchModelRunner

    policy = make_policy(args.scheduling_policy)
    loaded = load_model(args)
    config = resolve_scheduler_config(args, loaded.spec, plan_pool(args, loaded.spec))
    runner = TorchModelRunner(
        loaded,
        config,
        args.kernel_backend,
        args.enforce_eager,
        reload=lambda method: load_model(args.with_weight_format(method)),
    )
    settings = resolved_settings(args, loaded.spec, config, policy.name, loaded.notes)
    core = EngineCore(
        runner,
        config,
        policy,
        args.trace_steps,
        args=args,
        info=engine_info(uuid.uuid4().hex[:12], loaded.spec, config, settings, starters()),
        token_text=None if loaded.tokenizer is None else loaded.tokenizer.token_text,
        trace_memory_bytes=args.trace_memory_bytes,
    )
    return EngineClient(EngineLoop(core), loaded.tokenizer)


def small_copy(args: EngineArgs, num_seqs: int, num_tokens: int, quantization: str | None = None) -> EngineArgs:
    """Settings for a second engine with the same model and plain KV, to compare with: full precision by default.

    Its KV pool has room for num_seqs sequences of num_tokens tokens, and not more.
    """
    return replace(
        args,
        quantization=quantization,
        sparsity=None,
        kv_cache_dtype="auto",
        scheduling_policy="fcfs",
        max_num_seqs=num_seqs,
        max_num_batched_tokens=None,
        gpu_memory_utilization=1.0,
        kv_cache_memory_bytes=None,
        num_gpu_blocks_override=num_seqs * -(-num_tokens // args.block_size),
    )
