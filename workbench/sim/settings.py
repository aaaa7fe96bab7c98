"""The scheduler settings of a recorded run, and others in their place."""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from workbench.core.config import EngineArgs, SchedulerConfig
from workbench.core.errors import ConfigError
from workbench.core.records import Snapshot, StepRecord
from workbench.sim.workload import Workload

# vLLM's name -> SchedulerConfig's.
SETTINGS = {
    "max_num_seqs": "max_num_seqs",
    "max_num_batched_tokens": "max_num_batched_tokens",
    "max_model_len": "max_model_len",
    "block_size": "block_size",
    "num_gpu_blocks_override": "num_blocks",
    "enable_prefix_caching": "enable_prefix_caching",
    "enable_chunked_prefill": "enable_chunked_prefill",
}


def recorded_config(
    info: Mapping[str, Any], base: Snapshot, records: Sequence[StepRecord], step: int
) -> SchedulerConfig:
    """The settings in force at records[step] (0 or -1). info: the trace's; what it lacks is taken from the records."""
    in_force = {name: resolved for name, (_, resolved) in info.get("settings", {}).items()}
    arrivals = [arrival for record in records for arrival in record.arrivals]
    caching = in_force.get("enable_prefix_caching", "True")
    if step == -1:
        for record in records:
            caching = next((c.value for c in record.changes if c.name == "enable_prefix_caching"), caching)
    longest = max((len(a.prompt_token_ids) + a.max_tokens for a in arrivals), default=1)
    largest = max((token for a in arrivals for token in a.prompt_token_ids), default=0)
    pool = base.pool if step == 0 else records[step].pool
    return SchedulerConfig(
        num_blocks=pool.num_blocks,
        block_size=pool.block_size,
        kv_cache_dtype=pool.kv_cache_dtype,
        kv_bytes_per_block=pool.bytes_per_block,
        max_num_seqs=records[step].max_num_seqs,
        max_num_batched_tokens=records[step].token_budget,
        max_model_len=int(info.get("max_model_len", longest)),
        vocab_size=int(info.get("vocab_size", largest + 1)),
        enable_prefix_caching=caching == "True",
        enable_chunked_prefill=in_force.get("enable_chunked_prefill", "True") == "True",
    )


def stated_config(workload: Workload, settings: Mapping[str, Any]) -> SchedulerConfig:
    """The settings of a workload that no recorded run gives any: vLLM's defaults, but for what has none."""
    missing = [name for name in ("num_gpu_blocks_override", "max_model_len") if name not in settings]
    if missing:
        raise ConfigError(
            f"a workload alone does not say {' and '.join(missing)}: give them, or like=llm.trace for an engine's"
        )
    defaults = EngineArgs()
    config = SchedulerConfig(
        num_blocks=settings["num_gpu_blocks_override"],
        block_size=defaults.block_size,
        max_num_seqs=defaults.max_num_seqs,
        max_num_batched_tokens=max(512, settings["max_model_len"]),
        max_model_len=settings["max_model_len"],
        vocab_size=1 + max((token for r in workload for token in r.prompt_token_ids), default=0),
    )
    return changed_config(config, settings)


def changed_config(config: SchedulerConfig, settings: Mapping[str, Any]) -> SchedulerConfig:
    """The same with some settings replaced, by vLLM's names. Unknown names and wrong kinds raise ConfigError."""
    changes = {}
    for name, value in settings.items():
        if name not in SETTINGS:
            near = difflib.get_close_matches(name, [*SETTINGS, "scheduling_policy"], n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known ones are {', '.join(SETTINGS)}, scheduling_policy"
            raise ConfigError(f"unknown setting {name!r}; {hint}")
        kind = bool if name.startswith("enable_") else int
        if type(value) is not kind:
            what = "True or False" if kind is bool else "a whole number"
            raise ConfigError(f"{name} must be {what}, not {value!r}")
        changes[SETTINGS[name]] = value
    if "block_size" in changes:
        changes["kv_bytes_per_block"] = config.kv_bytes_per_block // config.block_size * changes["block_size"]
    return config.with_changes(**changes)
