// What the form of knobs asks for, and a Change as a table. Nothing here knows the page.

import { int, byteSize } from "../format.ts";
import type { Change, Knobs, KnobValue, PoolFigures } from "../protocol.ts";

/** What EngineArgs takes (workbench/core/config.py). */
export const KV_CACHE_DTYPES = ["auto", "fp8", "int8"] as const;
export const QUANTIZATIONS = [null, "int8", "int4", "nf4", "fp8"] as const;
export const SPARSITIES = [null, "2:4", "2:4-dense"] as const;
export const BLOCK_SIZES = [4, 8, 16, 32, 64, 128] as const;

/** Settings whose value was asked for by a name that stands for another ("auto"): compared with what was asked. */
export const BY_NAME: readonly string[] = ["kv_cache_dtype", "quantization", "sparsity"];
const MEBIBYTE = 2 ** 20;
export const SLIDER_MAX = 100;

/** Those of the draft that would change something. */
export function changesOf(draft: Record<string, KnobValue>, knobs: Knobs): Record<string, KnobValue> {
  const sized = knobs["kv_cache_memory_bytes"]?.[0] !== null || knobs["num_gpu_blocks_override"]?.[0] !== null;
  const changes: Record<string, KnobValue> = {};
  for (const [name, value] of Object.entries(draft)) {
    const knob = knobs[name];
    if (knob === undefined) continue;
    // A share gives way to a size, so asking for the same share again takes the size away.
    const same = knob[BY_NAME.includes(name) ? 0 : 1] === value && !(name === "gpu_memory_utilization" && sized);
    if (!same) changes[name] = value;
  }
  return changes;
}

/** A slider from 1/16 of `middle` to 16 times as much, each step the same factor. */
export function scaledAt(position: number, middle: number): number {
  return middle * 2 ** ((position / SLIDER_MAX - 0.5) * 8);
}

export function positionOfScaled(value: number, middle: number): number {
  if (!(value > 0) || !(middle > 0)) return 0;
  return Math.max(0, Math.min(SLIDER_MAX, Math.round((Math.log2(value / middle) / 8 + 0.5) * SLIDER_MAX)));
}

/** Bytes as MiB for a field, to a hundredth. */
export function mebibytesField(bytes: number): string {
  return String(Math.round((bytes / MEBIBYTE) * 100) / 100);
}

/** Bytes of a field in MiB; null where it is not a size. */
export function bytesOfField(text: string): number | null {
  const value = Number(text);
  return text.trim() === "" || !Number.isFinite(value) || value <= 0 ? null : Math.round(value * MEBIBYTE);
}

export interface ChangeRow {
  readonly label: string;
  readonly now: string;
  readonly predicted: string;
  /** Null until it was measured. */
  readonly measured: string | null;
  readonly differs: boolean;
}

const FIGURES: readonly (readonly [label: string, show: (figures: PoolFigures) => string])[] = [
  ["Weights", (f) => byteSize(f.weight_bytes)],
  ["KV pool", (f) => byteSize(f.kv_cache_bytes)],
  ["Blocks", (f) => `${int(f.num_blocks)} of ${int(f.block_size)} tokens`],
  ["A number takes", (f) => f.kv_cache_dtype],
  ["Tokens that fit", (f) => int(f.num_tokens)],
  ["Full-length requests at once", (f) => f.max_concurrency.toFixed(1)],
  ["Requests preempted, computed again", (f) => int(f.num_preempted)],
  ["Cached blocks forgotten", (f) => int(f.num_evicted)],
];

const LIMITS = [
  "max_num_seqs",
  "max_num_batched_tokens",
  "enable_prefix_caching",
  "scheduling_policy",
  "quantization",
  "sparsity",
];

/** A Change in rows. before, after: the settings in force when it was asked for, and now. */
export function changeRows(change: Change, before: Knobs, after: Knobs): ChangeRow[] {
  const { measured } = change;
  const rows = FIGURES.map(([label, show]) => {
    const [now, predicted] = [show(change.before), show(change.predicted)];
    return {
      label,
      now,
      predicted,
      measured: measured === null ? null : show(measured),
      differs: now !== predicted || (measured !== null && show(measured) !== predicted),
    };
  });
  for (const name of LIMITS) {
    const predicted = change.resolved[name];
    if (predicted === undefined) continue;
    const now = pythonText(before[name]?.[1] ?? null);
    rows.push({
      label: name,
      now,
      predicted,
      measured: measured === null ? null : pythonText(after[name]?.[1] ?? null),
      differs: now !== predicted,
    });
  }
  return rows;
}

const MOST_NAMES = 8;

/** Who gives way; empty where nobody does. */
export function preemptedText({ preempted, measured }: Change): string {
  if (preempted.length === 0) return "";
  const more = preempted.length > MOST_NAMES ? ` and ${preempted.length - MOST_NAMES} more` : "";
  const names = preempted.slice(0, MOST_NAMES).join(", ") + more;
  return measured === null
    ? `${names} would be preempted.`
    : `${names} ${preempted.length > 1 ? "were" : "was"} preempted.`;
}

/** Settings as they stand in a call of `configure`, sizes with their MiB beside them. */
export function settingsText(settings: Record<string, KnobValue>): string {
  return Object.entries(settings)
    .map(([name, value]) => {
      if (name === "kv_cache_memory_bytes") return `${name}=${String(value)} (${byteSize(Number(value))})`;
      return `${name}=${typeof value === "string" ? `'${value}'` : pythonText(value)}`;
    })
    .join(", ");
}

/** A value as Python prints it, which is how a Change tells what was asked for. */
function pythonText(value: KnobValue): string {
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  return String(value);
}
