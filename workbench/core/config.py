"""Settings: what was asked for (EngineArgs), what the model is (ModelSpec), what is in force (SchedulerConfig).

All are frozen. Resolving returns a new object, so that requested and resolved values can be shown side by side.
"""

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

from workbench.core.errors import ConfigError, KVCacheTooSmallError

DTYPES = ("auto", "float32", "bfloat16", "float16")
KERNEL_BACKENDS = ("auto", "numba", "torch", "triton")
QUANTIZATIONS = (None, "int8", "int4", "nf4", "fp8")
SPARSITIES = (None, "2:4", "2:4-dense")
KV_CACHE_DTYPES = ("auto", "fp8", "int8")
DEFAULT_TRACE_STEPS = 100_000
DEFAULT_TRACE_MEMORY_BYTES = 512 * 2**20


@dataclass(frozen=True, slots=True)
class EngineArgs:
    """Settings as asked for, named and meant as in vLLM. None or "auto" leaves the choice to the workbench.

    model: a directory, a hub id, or None for the bundled model. tokenizer: the same, None for the model's own.
    dtype: weights and activations. device: "auto", "cpu", "cuda" or "cuda:1".
    quantization: how the layers' matrices are stored: None (as in the checkpoint), "int8", "int4", "nf4", or "fp8" on
    GPUs that have it. sparsity: "2:4" drops the two smallest of every four weights of these matrices, on GPUs that
    multiply by what is left; "2:4-dense" drops them and stores zeros instead, on any device.
    max_model_len: longest prompt plus output, in tokens. block_size: tokens per KV block.
    gpu_memory_utilization: share of the device's total memory for weights, workspace and KV cache together.
    kv_cache_memory_bytes: size of the KV pool instead. num_gpu_blocks_override: the same, in blocks.
    kv_cache_dtype: "auto" (that of the activations), "fp8" (e4m3) or "int8"; these two with a scale for each token and
    head.
    max_num_seqs: most requests in a batch. max_num_batched_tokens: most tokens in a step (the token budget).
    kernel_backend: "auto" (Triton on a GPU, numba on a CPU), "numba", "torch" or "triton" (on a CPU: its interpreter).
    enforce_eager: no CUDA graphs. seed: for requests without a seed of their own.
    trust_remote_code: allow Python code from the model's directory to run.
    trace_steps, trace_memory_bytes: how many StepRecords are kept, and in how many bytes of memory; whichever is
    reached first.
    """

    model: str | None = None
    tokenizer: str | None = None
    dtype: str = "auto"
    device: str = "auto"
    quantization: str | None = None
    sparsity: str | None = None
    max_model_len: int | None = None
    block_size: int = 16
    gpu_memory_utilization: float = 0.9
    kv_cache_memory_bytes: int | None = None
    num_gpu_blocks_override: int | None = None
    kv_cache_dtype: str = "auto"
    max_num_seqs: int = 64
    max_num_batched_tokens: int | None = None
    enable_prefix_caching: bool = True
    enable_chunked_prefill: bool = True
    scheduling_policy: str = "fcfs"
    kernel_backend: str = "auto"
    enforce_eager: bool = False
    seed: int = 0
    trust_remote_code: bool = False
    trace_steps: int = DEFAULT_TRACE_STEPS
    trace_memory_bytes: int = DEFAULT_TRACE_MEMORY_BYTES

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise ConfigError(f"dtype must be one of {', '.join(DTYPES)}, not {self.dtype!r}")
        if self.kernel_backend not in KERNEL_BACKENDS:
            raise ConfigError(
                f"kernel_backend must be one of {', '.join(KERNEL_BACKENDS)}, not {self.kernel_backend!r}"
            )
        if self.quantization not in QUANTIZATIONS:
            names = ", ".join(str(name) for name in QUANTIZATIONS)
            raise ConfigError(f"quantization must be one of {names}, not {self.quantization!r}")
        if self.sparsity not in SPARSITIES:
            raise ConfigError(f"sparsity must be one of {', '.join(map(str, SPARSITIES))}, not {self.sparsity!r}")
        if self.sparsity is not None and self.quantization is not None:
            raise ConfigError(
                f"sparsity={self.sparsity!r} and quantization={self.quantization!r} cannot be combined; set one of "
                "them to None"
            )
        if self.kv_cache_dtype not in KV_CACHE_DTYPES:
            raise ConfigError(
                f"kv_cache_dtype must be one of {', '.join(KV_CACHE_DTYPES)}, not {self.kv_cache_dtype!r}"
            )
        _whole("block_size", self.block_size, 1)
        _whole("max_num_seqs", self.max_num_seqs, 1)
        _whole("trace_steps", self.trace_steps, 1)
        _whole("trace_memory_bytes", self.trace_memory_bytes, 1)
        _whole("seed", self.seed, None)
        for name in ("max_model_len", "kv_cache_memory_bytes", "num_gpu_blocks_override", "max_num_batched_tokens"):
            if getattr(self, name) is not None:
                _whole(name, getattr(self, name), 1)
        for name in ("enable_prefix_caching", "enable_chunked_prefill", "enforce_eager", "trust_remote_code"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"{name} must be True or False, not {getattr(self, name)!r}")
        share = self.gpu_memory_utilization
        if isinstance(share, bool) or not isinstance(share, (int, float)) or not math.isfinite(share):
            raise ConfigError(f"gpu_memory_utilization must be a number above 0 and at most 1, not {share!r}")
        if not 0.0 < share <= 1.0:
            raise ConfigError(
                f"gpu_memory_utilization is a share of the device's total memory, above 0 and at most 1, not {share}; "
                "to give a size, use kv_cache_memory_bytes"
            )

    @property
    def weight_format(self) -> str | None:
        """How the layers' matrices are to be stored: the quantization or the sparsity, None as in the checkpoint."""
        return self.quantization or self.sparsity

    def with_weight_format(self, weight_format: str | None) -> "EngineArgs":
        """A copy that asks for matrices stored that way."""
        sparse = weight_format in SPARSITIES
        return replace(self, quantization=None if sparse else weight_format, sparsity=weight_format if sparse else None)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "EngineArgs":
        """Make EngineArgs from keyword arguments; a name that does not exist raises with the nearest one."""
        known = [f.name for f in fields(cls)]
        for name in values:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else f"; known ones are {', '.join(known)}"
                raise ConfigError(f"unknown setting {name!r}{hint}")
        return cls(**values)


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What the engine needs to know of a loaded model. Sizes in bytes; max_model_len in tokens.

    kv_bytes_per_token: K and V of one token over all layers. backend: which code runs it ("decoder", "transformers").
    quantization: how the layers' matrices are stored, None for plain numbers of the dtype. sparsity: how they were
    pruned.
    """

    name: str
    architecture: str
    backend: str
    device: str
    dtype: str
    vocab_size: int
    max_model_len: int
    num_layers: int
    hidden_size: int
    num_heads: int
    num_kv_heads: int
    head_size: int
    num_parameters: int
    weight_bytes: int
    kv_bytes_per_token: int
    eos_token_ids: tuple[int, ...]
    quantization: str | None = None
    sparsity: str | None = None


# The settings after whose change all KV is computed again.
RECOMPUTE_SETTINGS = ("block_size", "kv_cache_dtype")
# All that change the KV pool.
POOL_SETTINGS = (
    "gpu_memory_utilization",
    "kv_cache_memory_bytes",
    "num_gpu_blocks_override",
    *RECOMPUTE_SETTINGS,
)


class PoolShape(NamedTuple):
    """The KV pool: blocks, tokens a block, how a number is stored ("float32", "int8", ...), bytes a block.

    A block's bytes are those of all layers, scales included; 0 where no memory stands behind the pool.
    """

    num_blocks: int
    block_size: int
    kv_cache_dtype: str
    bytes_per_block: int

    @property
    def num_tokens(self) -> int:
        """Tokens whose KV it can hold."""
        return self.num_blocks * self.block_size

    @property
    def num_bytes(self) -> int:
        """Bytes of the whole pool."""
        return self.num_blocks * self.bytes_per_block


@dataclass(frozen=True, slots=True)
class SchedulerConfig:
    """The numbers that the scheduler uses, all resolved. num_blocks is the size of the KV pool.

    kv_cache_dtype and kv_bytes_per_block are for the record alone: see PoolShape.
    """

    num_blocks: int
    block_size: int
    max_num_seqs: int
    max_num_batched_tokens: int
    max_model_len: int
    vocab_size: int
    eos_token_ids: tuple[int, ...] = ()
    enable_prefix_caching: bool = True
    enable_chunked_prefill: bool = True
    seed: int = 0
    kv_cache_dtype: str = "auto"
    kv_bytes_per_block: int = 0

    def __post_init__(self) -> None:
        if self.num_blocks < 1:
            raise KVCacheTooSmallError(
                f"the KV pool has {self.num_blocks} blocks and needs at least 1; raise num_gpu_blocks_override, "
                "kv_cache_memory_bytes or gpu_memory_utilization"
            )
        for name in ("block_size", "max_num_seqs", "max_num_batched_tokens", "max_model_len", "vocab_size"):
            _whole(name, getattr(self, name), 1)
        if not self.enable_chunked_prefill and self.max_num_batched_tokens < self.max_model_len:
            raise ConfigError(
                f"without chunked prefill a prompt must fit in one step: max_num_batched_tokens="
                f"{self.max_num_batched_tokens} is below max_model_len={self.max_model_len}; raise the one, lower the "
                "other, or set enable_chunked_prefill=True"
            )

    @property
    def pool_tokens(self) -> int:
        """Tokens whose KV the whole pool can hold."""
        return self.num_blocks * self.block_size

    @property
    def pool(self) -> PoolShape:
        """The pool's shape."""
        return PoolShape(self.num_blocks, self.block_size, self.kv_cache_dtype, self.kv_bytes_per_block)

    def with_changes(self, **changes: Any) -> "SchedulerConfig":
        """A checked copy with some numbers replaced."""
        return replace(self, **changes)

    def with_pool(self, pool: PoolShape) -> "SchedulerConfig":
        """A checked copy with another pool."""
        return replace(
            self,
            num_blocks=pool.num_blocks,
            block_size=pool.block_size,
            kv_cache_dtype=pool.kv_cache_dtype,
            kv_bytes_per_block=pool.bytes_per_block,
        )


def resolve_scheduler_config(args: EngineArgs, spec: ModelSpec, pool: PoolShape) -> SchedulerConfig:
    """Fill in what args leaves open.

    max_num_batched_tokens defaults to 512 on a CPU and 8192 on a GPU, and to at least max_model_len when chunked
    prefill is off, as a prompt then has to fit in one step.
    """
    budget = args.max_num_batched_tokens
    if budget is None:
        budget = 512 if spec.device == "cpu" else 8192
        if not args.enable_chunked_prefill:
            budget = max(budget, spec.max_model_len)
    return SchedulerConfig(
        num_blocks=pool.num_blocks,
        block_size=pool.block_size,
        kv_cache_dtype=pool.kv_cache_dtype,
        kv_bytes_per_block=pool.bytes_per_block,
        max_num_seqs=args.max_num_seqs,
        max_num_batched_tokens=budget,
        max_model_len=spec.max_model_len,
        vocab_size=spec.vocab_size,
        eos_token_ids=spec.eos_token_ids,
        enable_prefix_caching=args.enable_prefix_caching,
        enable_chunked_prefill=args.enable_chunked_prefill,
        seed=args.seed,
    )


def _whole(name: str, value: Any, low: int | None) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigError(f"{name} must be a whole number, not {value!r}")
    if low is not None and value < low:
        raise ConfigError(f"{name} must be at least {low}, not {value}")
