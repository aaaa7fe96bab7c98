// Two runs side by side, as rows that can be drawn. No DOM here.

import type { ComparisonData } from "../protocol.ts";
import { decodeSegment, type WaterfallSegment } from "../waterfall.ts";

export type Measure = "ttft" | "e2e";
export type CompareOrder = "change" | "arrival";

export interface CompareRow {
  readonly id: string;
  /** Seconds in the first run and in the second; null if it had no token. */
  readonly first: number | null;
  readonly second: number | null;
  /** Seconds saved by the second run; below 0: lost. */
  readonly gain: number;
  readonly why: string;
  readonly preemptions: readonly [number, number];
}

/** Less than this share of the slower run is no difference, as in workbench/compare.py. */
const SAME = 0.01;

export function compareRows(data: ComparisonData, measure: Measure, order: CompareOrder): CompareRow[] {
  const rows = data.requests.map(([id, ttftA, ttftB, e2eA, e2eB, why, preemptedA, preemptedB]): CompareRow => {
    const [first, second] = measure === "ttft" ? [ttftA, ttftB] : [e2eA, e2eB];
    const gain = first === null || second === null ? 0 : first - second;
    return { id, first, second, gain, why, preemptions: [preemptedA, preemptedB] };
  });
  if (order === "change") return rows.sort((a, b) => b.gain - a.gain);
  return rows.sort((a, b) => a.id.localeCompare(b.id, "en", { numeric: true }));
}

export function verdict(row: CompareRow): "gained" | "lost" | "same" {
  const slower = Math.max(row.first ?? 0, row.second ?? 0);
  if (Math.abs(row.gain) <= SAME * slower) return "same";
  return row.gain > 0 ? "gained" : "lost";
}

/** The two waterfalls of a request; null if it is not among those whose reason is told. */
export function waterfallsOf(data: ComparisonData, id: string): [WaterfallSegment[], WaterfallSegment[]] | null {
  const found = data.waterfalls[id];
  return found === undefined ? null : [found[0].map(decodeSegment), found[1].map(decodeSegment)];
}
