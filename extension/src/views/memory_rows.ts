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
  const memory = store.status?.memory ?? [];
  const state = store.stateAt(cursor);
  const pool = state?.pool;
  let split: Partial<Record<MemoryKind, number>> = {};
  if (state !== null && pool !== undefined && pool.bytes_per_block > 0) {
    const newest = store.stateAt("live")?.pool ?? pool;
    const scales = memory.find((row) => row.kind === "kv_scales")?.bytes ?? 0;
    // A scale takes as much in every 8-bit type, so the pool of now tells those of another time.
    const scalesPerToken = scales / (newest.num_blocks * newest.block_size);
    const scalesPerBlock = ["int8", "fp8"].includes(pool.kv_cache_dtype) ? scalesPerToken * pool.block_size : 0;
    const perBlock = pool.bytes_per_block - scalesPerBlock;
    split = {
      kv_used: state.numUsed * perBlock,
      kv_cached: state.numCachedFree * perBlock,
      kv_free: (state.free.size - state.numCachedFree) * perBlock,
      kv_scales: pool.num_blocks * scalesPerBlock,
    };
  }
  const rows = memory
    .map((row) => ({ ...row, bytes: split[row.kind] ?? row.bytes }))
    .filter((row) => row.kind !== "kv_scales" || row.bytes > 0);
  return { rows, total: rows.reduce((sum, row) => sum + row.bytes, 0) };
}
