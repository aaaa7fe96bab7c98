/** Latency samples in step order, so that "up to step k" is a prefix. Keeps the newest ones. */
export class Series {
  private steps: number[] = [];
  private values: number[] = [];
  private readonly capacity: number;

  constructor(capacity = 50_000) {
    this.capacity = capacity;
  }

  push(step: number, seconds: number): void {
    this.steps.push(step);
    this.values.push(seconds);
    if (this.steps.length > this.capacity * 1.25) {
      const drop = this.steps.length - this.capacity;
      this.steps.splice(0, drop);
      this.values.splice(0, drop);
    }
  }

  clear(): void {
    this.steps = [];
    this.values = [];
  }

  /** Values up to and including a step (all of them if it is null), in step order. */
  upTo(step: number | null): readonly number[] {
    if (step === null) return this.values;
    let low = 0;
    let high = this.steps.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.steps[middle]! <= step) low = middle + 1;
      else high = middle;
    }
    return this.values.slice(0, low);
  }
}

/** The q-th quantile (0 to 1) of sorted samples, between neighbours by straight line as in Python; NaN for none. */
export function quantile(sorted: readonly number[], q: number): number {
  if (sorted.length === 0) return Number.NaN;
  const place = (sorted.length - 1) * q;
  const low = Math.floor(place);
  const high = Math.min(low + 1, sorted.length - 1);
  return sorted[low]! + (sorted[high]! - sorted[low]!) * (place - low);
}
