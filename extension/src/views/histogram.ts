import { count, millis, percent } from "../format.ts";
import { quantile } from "../series.ts";
import type { CardContent } from "../ui/hover_card.ts";

export interface Histogram {
  /** Value at the left edge of the first bin and at the right edge of the last, in seconds. */
  readonly lo: number;
  readonly hi: number;
  readonly scale: Scale;
  readonly bins: readonly number[];
  readonly p50: number;
  readonly p95: number;
  readonly p99: number;
  readonly count: number;
  /** Samples beyond `hi`, counted in the last bin. */
  readonly beyond: number;
}

/** On a logarithmic scale a long tail and the many that were quick can both be seen. */
export type Scale = "linear" | "log";

type Edges = Pick<Histogram, "lo" | "hi" | "scale">;

/** Place of a value from 0 to 1, more than 1 where it is beyond the last bin. */
export function placeOf({ lo, hi, scale }: Edges, value: number): number {
  return scale === "linear" ? value / hi : Math.max(0, Math.log(Math.max(value, lo) / lo) / Math.log(hi / lo));
}

/** The value at a place. */
export function valueAt({ lo, hi, scale }: Edges, place: number): number {
  return scale === "linear" ? hi * place : lo * (hi / lo) ** place;
}

/**
 * Linear bins begin at 0 and end a little past the 99th percentile; what lies beyond is counted in the last bin and
 * said. Logarithmic ones hold everything.
 */
export function histogram(values: readonly number[], numBins: number, scale: Scale = "linear"): Histogram {
  const sorted = Float64Array.from(values).sort() as unknown as readonly number[];
  const p99 = quantile(sorted, 0.99);
  const largest = sorted.at(-1) ?? 0;
  const end = scale === "log" ? largest * 1.0001 : Math.min(largest * 1.0001, Number.isNaN(p99) ? 0 : p99 * 1.25);
  const hi = Math.max(1e-6, end);
  const lo = scale === "linear" ? 0 : Math.min(hi / 2, Math.max(1e-6, (sorted.find((value) => value > 0) ?? 0) * 0.9));
  const edges = { lo, hi, scale };
  const bins = new Array<number>(numBins).fill(0);
  let beyond = 0;
  for (const value of sorted) {
    const bin = Math.floor(placeOf(edges, value) * numBins);
    if (bin >= numBins) beyond += 1;
    bins[Math.max(0, Math.min(numBins - 1, bin))]! += 1;
  }
  return {
    ...edges,
    bins,
    p50: quantile(sorted, 0.5),
    p95: quantile(sorted, 0.95),
    p99,
    count: sorted.length,
    beyond,
  };
}

/** What is known of the bar at a place from 0 to 1; null where there is none. */
export function binCard(
  data: Histogram,
  place: number,
  kind: { readonly name: string; readonly sample: string },
): CardContent | null {
  const bin = Math.floor(place * data.bins.length);
  const found = data.bins[bin];
  if (found === undefined || data.count === 0) return null;
  const edge = (i: number): string => millis(valueAt(data, i / data.bins.length));
  const upTo = data.bins.slice(0, bin + 1).reduce((sum, n) => sum + n, 0);
  const last = bin === data.bins.length - 1 && data.beyond > 0;
  return {
    title: `${kind.name} ${edge(bin)} ${last ? "and more" : `to ${edge(bin + 1)}`}`,
    lines: [
      ["in this bar", `${count(found, kind.sample)}, ${percent(found / data.count)}`],
      [last ? "in all" : `up to ${edge(bin + 1)}`, percent(upTo / data.count)],
    ],
  };
}

/** 1, 2 and 5 times each power of ten between two values. */
export function logTicks(low: number, high: number): number[] {
  const found: number[] = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) {
    for (const digit of [1, 2, 5]) {
      const value = Number(`${digit}e${power}`);
      if (value >= low && value <= high) found.push(value);
    }
  }
  return found;
}
