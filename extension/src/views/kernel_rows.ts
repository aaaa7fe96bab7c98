// What a step had to read and compute, and how near it came to the machine's limits; as llm.roofline() counts it.

import type { StepRecord } from "../generated.ts";
import type { MachineLimits, WorkSizes } from "../protocol.ts";

export interface Part {
  readonly name: "layer matrices" | "output head" | "attention" | "forward";
  readonly bytes: number;
  readonly flops: number;
  /** The least seconds that reading and computing could take; null until the machine was measured. */
  readonly limit: number | null;
  readonly bound: "memory" | "arithmetic" | null;
}

export interface Batch {
  readonly tokens: number;
  readonly requests: number;
}

export function batchOf(record: StepRecord): Batch {
  const computing = record.decisions.filter((d) => d.num_tokens > 0);
  return { tokens: computing.reduce((sum, d) => sum + d.num_tokens, 0), requests: computing.length };
}

/** The parts, and the whole forward at the end; none for a step in which nobody computed. */
export function kernelParts(record: StepRecord, sizes: WorkSizes, limits: MachineLimits | null): Part[] {
  let tokens = 0;
  let contexts = 0;
  let pairs = 0;
  for (const { num_tokens: fresh, num_computed: before } of record.decisions) {
    if (fresh === 0) continue;
    tokens += fresh;
    contexts += before + fresh;
    pairs += fresh * before + (fresh * (fresh + 1)) / 2;
  }
  if (tokens === 0) return [];
  const { pool } = record;
  const work: [Part["name"], number, number][] = [
    ["layer matrices", sizes.matrix_bytes, 2 * tokens * sizes.matrix_numbers],
    ["output head", sizes.head_bytes, 2 * record.sampled.length * sizes.head_numbers],
    ["attention", (contexts * pool.bytes_per_block) / pool.block_size, pairs * sizes.pair_flops],
  ];
  const sum = (column: 1 | 2): number => work.reduce((total, row) => total + row[column], 0);
  work.push(["forward", sum(1), sum(2)]);
  return work.map(([name, bytes, flops]) => ({ name, bytes, flops, ...limitOf(bytes, flops, limits) }));
}

function limitOf(bytes: number, flops: number, limits: MachineLimits | null): Pick<Part, "limit" | "bound"> {
  if (limits === null) return { limit: null, bound: null };
  const reading = bytes / limits.copy_bandwidth;
  const computing = flops / limits.matmul_peak;
  return { limit: Math.max(reading, computing), bound: reading >= computing ? "memory" : "arithmetic" };
}
