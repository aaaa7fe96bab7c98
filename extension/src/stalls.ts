// Finds the steps in which requests that run were kept from their next token.

import type { Step } from "./trace_types.ts";

const WINDOW = 32;
const SLOW_FACTOR = 3;

/** Looks at steps in their order. A stall: somebody who runs got nothing, or the step took 3 times the usual. */
export class StallFinder {
  private recent: number[] = [];

  look({ record, end, waits }: Step): boolean {
    if (record.num_scheduled_tokens === 0) return false;
    let waiting = 0;
    let passedOver = 0;
    for (const d of record.decisions) if (d.action === "wait" && d.reason !== "paused") passedOver += 1;
    for (const [reason, count] of waits) if (reason !== "paused") waiting += count;
    const seconds = end - record.time;
    const median = [...this.recent].sort((a, b) => a - b)[this.recent.length >> 1];
    const slow = this.recent.length === WINDOW && median !== undefined && seconds > SLOW_FACTOR * median;
    this.recent.push(seconds);
    if (this.recent.length > WINDOW) this.recent.shift();
    return slow || passedOver > waiting;
  }
}
