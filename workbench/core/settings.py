"""The settings of an engine as a table: what was asked for beside what is in force."""

import html
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any, NamedTuple

from workbench.core.config import EngineArgs, ModelSpec, SchedulerConfig


class Setting(NamedTuple):
    """requested: as last asked for (None or "auto": left to the workbench). resolved: what is in force."""

    requested: Any
    resolved: Any


class Settings(Mapping[str, Setting]):
    """Name -> Setting, printed as a table. notes: what was decided on the reader's behalf, and why."""

    def __init__(self, rows: dict[str, Setting], notes: Sequence[str] = ()) -> None:
        self._rows = rows
        self.notes = tuple(notes)

    def __getitem__(self, name: str) -> Setting:
        return self._rows[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        width = max(map(len, self._rows))
        lines = [f"{'setting':{width}}  requested → in force"]
        lines += [f"{name:{width}}  {row.requested} → {row.resolved}" for name, row in self._rows.items()]
        return "\n".join([*lines, *self.notes])

    def _repr_html_(self) -> str:
        cells = "".join(
            f"<tr><td>{name}</td><td>{html.escape(str(row.requested))}</td>"
            f"<td>{html.escape(str(row.resolved))}</td></tr>"
            for name, row in self._rows.items()
        )
        notes = "".join(f"<p>{html.escape(note)}</p>" for note in self.notes)
        return f"<table><tr><th>setting</th><th>requested</th><th>in force</th></tr>{cells}</table>{notes}"


def resolved_settings(
    args: EngineArgs, spec: ModelSpec, config: SchedulerConfig, policy: str, notes: Sequence[str] = ()
) -> Settings:
    """Put the request and its resolution side by side."""
    in_force: dict[str, Any] = {
        "model": spec.name,
        "tokenizer": args.tokenizer or spec.name,
        "dtype": spec.dtype,
        "device": spec.device,
        "quantization": spec.quantization,
        "sparsity": spec.sparsity,
        "max_model_len": spec.max_model_len,
        "block_size": config.block_size,
        "kv_cache_memory_bytes": config.pool.num_bytes,
        "num_gpu_blocks_override": config.num_blocks,
        "kv_cache_dtype": config.kv_cache_dtype,
        "max_num_seqs": config.max_num_seqs,
        "max_num_batched_tokens": config.max_num_batched_tokens,
        "enable_prefix_caching": config.enable_prefix_caching,
        "enable_chunked_prefill": config.enable_chunked_prefill,
        "scheduling_policy": policy,
    }
    requested = {field.name: getattr(args, field.name) for field in fields(args)}
    return Settings({name: Setting(value, in_force.get(name, value)) for name, value in requested.items()}, notes)
