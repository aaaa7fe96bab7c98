// A waterfall as rows: one for each thing that took time, with bars where it did. No DOM here.

import type { SegmentKind, WaterfallSegment } from "../waterfall.ts";

export interface WaterfallBar {
  /** Seconds after the arrival. */
  readonly from: number;
  to: number;
  readonly firstStep: number;
  lastStep: number;
  numSteps: number;
  seconds: number;
  tokens: number;
}

export interface WaterfallRow {
  readonly kind: SegmentKind;
  readonly label: string;
  readonly other: string;
  readonly bars: WaterfallBar[];
  seconds: number;
  numSteps: number;
  tokens: number;
}

/** Rows for neighbours at most; the others share one. */
const MAX_NEIGHBOURS = 4;
/** Bars that are nearer to each other than this share of the whole are drawn as one. */
const TOGETHER = 0.004;

/** In order of first appearance. The seconds of all rows add up to the whole. */
export function waterfallRows(segments: readonly WaterfallSegment[]): WaterfallRow[] {
  const total = segments.reduce((sum, s) => sum + s.seconds, 0);
  const named = largestNeighbours(segments);
  const rows = new Map<string, WaterfallRow>();
  let at = 0;
  for (const segment of segments) {
    const unnamed = segment.kind === "neighbour" && !named.has(segment.other);
    const label = unnamed ? "others in the same steps" : rowLabel(segment);
    const key = `${segment.kind} ${label}`;
    let row = rows.get(key);
    if (row === undefined) {
      const other = unnamed || segment.kind === "queue" ? "" : segment.other;
      row = { kind: segment.kind, label, other, bars: [], seconds: 0, numSteps: 0, tokens: 0 };
      rows.set(key, row);
    }
    row.seconds += segment.seconds;
    row.numSteps += segment.numSteps;
    row.tokens += segment.tokens;
    const to = at + segment.seconds;
    const last = row.bars.at(-1);
    const lastStep = segment.firstStep + Math.max(0, segment.numSteps - 1);
    if (last !== undefined && at - last.to <= TOGETHER * total && to - last.from <= 5 * TOGETHER * total) {
      last.to = to;
      last.lastStep = lastStep;
      last.numSteps += segment.numSteps;
      last.seconds += segment.seconds;
      last.tokens += segment.tokens;
    } else {
      const { firstStep, numSteps, seconds, tokens } = segment;
      row.bars.push({ from: at, to, firstStep, lastStep, numSteps, seconds, tokens });
    }
    at = to;
  }
  return [...rows.values()];
}

function rowLabel(segment: WaterfallSegment): string {
  switch (segment.kind) {
    case "queue":
      return `waits ${segment.label}`;
    case "neighbour":
      return `${segment.other} in the same steps`;
    default:
      return segment.label;
  }
}

function largestNeighbours(segments: readonly WaterfallSegment[]): ReadonlySet<string> {
  const seconds = new Map<string, number>();
  for (const s of segments) {
    if (s.kind === "neighbour" && s.other !== "") seconds.set(s.other, (seconds.get(s.other) ?? 0) + s.seconds);
  }
  const order = [...seconds].sort((a, b) => b[1] - a[1]);
  return new Set(order.slice(0, MAX_NEIGHBOURS).map(([name]) => name));
}
