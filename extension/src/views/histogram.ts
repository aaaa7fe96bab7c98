import { count, millis, percent } from "../format.ts";
import { quantile } from "../series.ts";
import type { CardContent } from "../ui/hover_card.ts";

export interface Histogram {
  /** Value at the left edge of the first bin and at the right edge of the last, in seconds. */
  readonly lo: number;
  readonly hi: number;
  readonly bins: readonly number[];
  readonly p50: number;
  readonly p95: number;
  readonly p99: number;
  readonly count: number;
  /** Samples beyond `hi`, counted in the last bin. */
  readonly beyond: number;
}

/** Bins from 0 to a little past the 99th percentile; what lies beyond is counted in the last bin and said. */
export function histogram(values: readonly number[], numBins: number): Histogram {
  const sorted = Float64Array.from(values).sort() as unknown as readonly number[];
  const p99 = quantile(sorted, 0.99);
  const largest = sorted.at(-1) ?? 0;
  const hi = Math.max(1e-6, Math.min(largest * 1.0001, Number.isNaN(p99) ? 0 : p99 * 1.25));
  const bins = new Array<number>(numBins).fill(0);
  let beyond = 0;
  for (const value of sorted) {
    const bin = Math.floor((value / hi) * numBins);
    if (bin >= numBins) beyond += 1;
    bins[Math.max(0, Math.min(numBins - 1, bin))]! += 1;
  }
  return {
    lo: 0,
    hi,
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
  const edge = (i: number): string => millis((data.hi * i) / data.bins.length);
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
