"""Turning knobs between two steps: check everything, then change everything, or nothing."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from workbench.core.config import POOL_SETTINGS, EngineArgs, SchedulerConfig
from workbench.core.errors import ConfigError
from workbench.core.policy import Policy, make_policy

WEIGHTS = ("quantization", "sparsity")
LIMITS = ("max_num_seqs", "max_num_batched_tokens", "enable_prefix_caching")
LIVE_SETTINGS = (*LIMITS, "scheduling_policy", *POOL_SETTINGS, *WEIGHTS)
SIZES = ("gpu_memory_utilization", "kv_cache_memory_bytes", "num_gpu_blocks_override")


@dataclass(frozen=True, slots=True)
class Turn:
    """Checked changes. args: the settings asked for from now on. policy: None where it stays."""

    args: EngineArgs
    limits: Mapping[str, Any]
    policy: Policy | None
    pool: Mapping[str, Any]


def check_knobs(changes: Mapping[str, Any], args: EngineArgs, config: SchedulerConfig) -> Turn:
    """Sort and check what was given. Raises ConfigError or PolicyError.

    A size given now takes the place of one given earlier in another unit.
    """
    unknown = sorted(set(changes) - set(LIVE_SETTINGS))
    if unknown:
        raise ConfigError(f"{unknown} cannot be changed on a running engine; {', '.join(LIVE_SETTINGS)} can")
    sizes = [name for name in SIZES if name in changes]
    if len(sizes) > 1:
        raise ConfigError(f"{' and '.join(sizes)} both give the size of the KV pool; give one of them")
    limits = {name: changes[name] for name in LIMITS if name in changes}
    config.with_changes(**limits)  # raises where it makes no sense
    policy = make_policy(changes["scheduling_policy"]) if "scheduling_policy" in changes else None
    pool = {name: changes[name] for name in POOL_SETTINGS if name in changes}
    asked = {**({"kv_cache_memory_bytes": None, "num_gpu_blocks_override": None} if sizes else {}), **limits, **pool}
    asked |= {name: changes[name] for name in WEIGHTS if name in changes}
    if policy is not None:
        asked["scheduling_policy"] = policy.name
    return Turn(replace(args, **asked), limits, policy, pool)
