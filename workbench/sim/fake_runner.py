"""A runner with a KV cache but no model. It notices every mistake in a block table.

Each slot of the pretended cache holds the token and position that were written there. The next token is a hash of the
context as read back through the block table, so a wrong table, a missed copy or a stale prefix gives other tokens than
`expected_tokens`, and a slot with the wrong position raises.
"""

import zlib
from collections.abc import Callable, Collection, Sequence

from workbench.core.config import EngineArgs, ModelSpec, PoolShape, SchedulerConfig
from workbench.core.errors import ConfigError, DoesNotFitError, KVCacheTooSmallError, WorkbenchError
from workbench.core.machine import MachineLimits
from workbench.core.memory import DeviceReading, MemoryRow
from workbench.core.scheduler_output import BlockCopy, NewRequest, RunnerOutput, SampledToken, SchedulerOutput
from workbench.core.work import WorkSizes


class _Row:
    __slots__ = ("request", "table")

    def __init__(self, request: NewRequest) -> None:
        self.request = request
        self.table: list[int] = []


class FakeRunner:
    """Runs plans by remembering tokens. Times are zero: give the engine a clock of your own to pretend others.

    fail_steps: steps at which execute raises. fail_requests: requests that fail alone when they would sample.
    memory_limit: bytes beyond which a pool is refused. fail_pools: changing the pool runs out of memory.
    """

    def __init__(
        self,
        config: SchedulerConfig,
        fail_steps: Sequence[int] = (),
        fail_requests: Sequence[str] = (),
        memory_limit: int | None = None,
        fail_pools: bool = False,
    ) -> None:
        self.spec = ModelSpec(
            name="fake",
            architecture="none",
            backend="fake",
            device="cpu",
            dtype="float32",
            vocab_size=config.vocab_size,
            max_model_len=config.max_model_len,
            num_layers=1,
            hidden_size=1,
            num_heads=1,
            num_kv_heads=1,
            head_size=1,
            num_parameters=0,
            weight_bytes=0,
            kv_bytes_per_token=8,
            eos_token_ids=config.eos_token_ids,
        )
        self.closed = False
        self._config = config
        self._fail_steps = frozenset(fail_steps)
        self._fail_requests = frozenset(fail_requests)
        self._memory_limit = memory_limit
        self._fail_pools = fail_pools
        self._slots: list[tuple[int, int] | None] = [None] * config.pool_tokens
        self._rows: dict[str, _Row] = {}

    def execute(self, plan: SchedulerOutput) -> RunnerOutput:
        """Write the plan's tokens through the block tables and sample from what is read back."""
        for name in plan.dropped:
            self._rows.pop(name, None)
        if plan.step in self._fail_steps:
            raise MemoryError(f"step {plan.step} was told to fail")
        size = self._config.block_size
        for copy in plan.copies:
            self._slots[copy.dst * size : (copy.dst + 1) * size] = self._slots[copy.src * size : (copy.src + 1) * size]
        for request in plan.new_requests:
            self._rows[request.request_id] = _Row(request)
        sampled, errors = {}, {}
        for item in plan.scheduled:
            table = self._rows[item.request_id].table
            table[item.block_start :] = item.block_ids or table[item.block_start :]
            for position, token in enumerate(item.token_ids, start=item.num_computed_tokens):
                self._slots[table[position // size] * size + position % size] = (token, position)
        for item in plan.scheduled:
            if item.sample:
                context = self._read(item.request_id, item.num_computed_tokens + len(item.token_ids))
                sampled[item.request_id] = SampledToken(next_token(context, self._config.vocab_size))
                if item.request_id in self._fail_requests:
                    errors[item.request_id] = "told to fail"
        return RunnerOutput(sampled, errors, 0.0, 0.0, 0.0)

    def plan_pool(self, args: EngineArgs, turned: Collection[str]) -> PoolShape:
        """As the real one's, with 8 bytes a token whatever the dtype and half of them for 8-bit numbers."""
        now = self._config.pool
        size = args.block_size if "block_size" in turned else now.block_size
        kind = args.kv_cache_dtype if "kv_cache_dtype" in turned else now.kv_cache_dtype
        per_block = size * (4 if kind in ("fp8", "int8") else 8)
        held = args.kv_cache_memory_bytes or now.num_blocks * now.block_size * 8
        blocks = args.num_gpu_blocks_override or held // per_block
        if blocks < 1:
            instead = {"kv_cache_memory_bytes": per_block}
            raise KVCacheTooSmallError(f"one block needs {per_block} bytes, not {held}", per_block, held, "", instead)
        return PoolShape(blocks, size, kind, per_block)

    def check_room(self, pool: PoolShape) -> None:
        """Refuse what is beyond memory_limit."""
        if self._memory_limit is not None and pool.num_bytes > self._memory_limit:
            fits = self._memory_limit // pool.bytes_per_block * pool.bytes_per_block
            instead = {"kv_cache_memory_bytes": fits} if fits else {}
            raise DoesNotFitError(f"{pool.num_bytes} bytes", pool.num_bytes, self._memory_limit, "", instead)

    def free_bytes(self) -> int:
        """What memory_limit leaves."""
        held = self._config.pool.num_bytes
        return 2**62 if self._memory_limit is None else self._memory_limit - held

    def change_pool(self, pool: PoolShape, copies: Sequence[BlockCopy]) -> None:
        """Move blocks, then forget what lies beyond the new end; another kind of pool begins empty."""
        size = self._config.block_size
        if (pool.block_size, pool.kv_cache_dtype) != (size, self._config.kv_cache_dtype):
            self._slots = []
            self._rows.clear()
        else:
            for copy in copies:
                start, goal = copy.src * size, copy.dst * size
                self._slots[goal : goal + size] = self._slots[start : start + size]
            moved = dict(copies)
            for row in self._rows.values():
                row.table = [moved.get(block, block) for block in row.table]
        if self._fail_pools:
            self._slots += [None] * (self._config.pool_tokens - len(self._slots))
            raise KVCacheTooSmallError("told to fail")
        self._slots = [*self._slots[: pool.num_tokens], *[None] * (pool.num_tokens - len(self._slots))]
        self._config = self._config.with_pool(pool)

    def predict_weight_bytes(self, weight_format: str | None) -> int:
        """See ModelRunner; there are no weights."""
        return self.spec.weight_bytes

    def check_weights(self, weight_format: str | None) -> None:
        """See ModelRunner; there are no weights."""

    def load_weights(self, weight_format: str | None) -> object:
        """See ModelRunner; there are no weights."""
        raise ConfigError("a runner without a model has no weights to quantize")

    def use_weights(self, weights: object) -> None:
        """See ModelRunner; load_weights gives none."""

    def device(self) -> DeviceReading:
        """None."""
        return DeviceReading("no device", "none", problem="a runner without a model has no device")

    def memory(self, reading: DeviceReading | None = None) -> list[MemoryRow]:
        """The pretended pool."""
        return [MemoryRow("KV pool", "kv", self._config.pool.num_bytes or self._config.pool_tokens * 8)]

    def work(self) -> WorkSizes | None:
        """No model computes here."""
        return None

    def measure_limits(self, progress: Callable[[int, int], None] | None = None) -> MachineLimits:
        """Raise ConfigError, as no machine is used."""
        raise ConfigError("this engine has no model, so there is no machine to measure; make one with LLM()")

    def close(self) -> None:
        """Forget everything."""
        self.closed = True
        self._rows.clear()
        self._slots.clear()

    def _read(self, request_id: str, length: int) -> list[int]:
        table, size, context = self._rows[request_id].table, self._config.block_size, []
        for position in range(length):
            slot = self._slots[table[position // size] * size + position % size]
            if slot is None or slot[1] != position:
                raise WorkbenchError(f"{request_id}: position {position} reads {slot} from its block table")
            context.append(slot[0])
        return context


def next_token(context: Sequence[int], vocab_size: int) -> int:
    """The pretended model: a fixed function of the whole context."""
    return zlib.crc32(" ".join(map(str, context)).encode()) % vocab_size


def expected_tokens(prompt: Sequence[int], count: int, vocab_size: int) -> list[int]:
    """The tokens that a request must get, whatever else runs."""
    context = list(prompt)
    for _ in range(count):
        context.append(next_token(context, vocab_size))
    return context[len(prompt) :]
