// The memory ledger: rows that add up to the total, with the KV cache split as it is at the time cursor.

import type { MemoryKind, MemoryRow } from "../protocol.ts";
import type { TraceStore } from "../store.ts";
import type { Cursor } from "../trace_types.ts";

export interface Ledger {
  readonly rows: readonly MemoryRow[];
  readonly total: number;
}

/** The sampler's rows are as old as the last frame; the split of the KV cache follows the blocks instead. */
export function ledger(store: TraceStore, cursor: Cursor): Ledger {
  const state = store.stateAt(cursor);
  const perBlock = state?.pool.bytes_per_block ?? 0;
  const split: Partial<Record<MemoryKind, number>> =
    state === null || perBlock === 0
      ? {}
      : {
          kv_used: state.numUsed * perBlock,
          kv_cached: state.numCachedFree * perBlock,
          kv_free: (state.free.size - state.numCachedFree) * perBlock,
        };
  const rows = (store.status?.memory ?? []).map((row) => ({ ...row, bytes: split[row.kind] ?? row.bytes }));
  return { rows, total: rows.reduce((sum, row) => sum + row.bytes, 0) };
}
