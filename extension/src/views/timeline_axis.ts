// The part of the run that the timeline shows, and where a step lies in it.

import type { TraceStore } from "../store.ts";
import type { Segment, Step } from "../trace_types.ts";

export type AxisUnit = "step" | "time";

/** Steps that a live view shows until the reader zooms. */
const DEFAULT_SPAN: Record<AxisUnit, number> = { step: 240, time: 2 };
/** While a run is shorter than the span it is shown this large at most, so that the first steps fill the view. */
const SHORT_RUN: Record<AxisUnit, number> = { step: 48, time: 0.3 };
const SMALLEST_SPAN: Record<AxisUnit, number> = { step: 8, time: 0.01 };

export class TimelineAxis {
  unit: AxisUnit = "step";
  lo = 0;
  hi = DEFAULT_SPAN.step;
  /** Keeps the newest step in view until the reader pans away from it. */
  follow = true;
  left = 0;
  right = 1;
  private wanted = DEFAULT_SPAN.step;

  setUnit(unit: AxisUnit, store: TraceStore): void {
    if (unit === this.unit) return;
    this.unit = unit;
    this.follow = true;
    this.wanted = DEFAULT_SPAN[unit];
    this.track(store);
  }

  get span(): number {
    return this.hi - this.lo;
  }

  /** Width of one unit in pixels. */
  get scale(): number {
    return (this.right - this.left) / this.span;
  }

  x(value: number): number {
    return this.left + (value - this.lo) * this.scale;
  }

  value(x: number): number {
    return this.lo + (x - this.left) / this.scale;
  }

  stepStart(step: Step): number {
    return this.unit === "step" ? step.record.step : step.record.time;
  }

  stepEnd(step: Step): number {
    return this.unit === "step" ? step.record.step + 1 : step.end;
  }

  segmentStart(segment: Segment): number {
    return this.unit === "step" ? segment.from : segment.timeFrom;
  }

  segmentEnd(segment: Segment): number {
    return this.unit === "step" ? segment.to + 1 : segment.timeTo;
  }

  /** First and last value that the trace has. */
  extent(store: TraceStore): [number, number] {
    const first = store.steps[0];
    const last = store.steps.at(-1);
    if (first === undefined || last === undefined) return [0, DEFAULT_SPAN[this.unit]];
    return [this.stepStart(first), this.stepEnd(last)];
  }

  /** Put the newest step at the right edge; a run that is still short is shown whole. */
  track(store: TraceStore): void {
    if (!this.follow) return;
    const [first, last] = this.extent(store);
    const span = Math.min(this.wanted, Math.max(SHORT_RUN[this.unit], last - first));
    this.lo = Math.max(first, last - span);
    this.hi = this.lo + span;
  }

  /** Bring a value into view if it is not, without changing the zoom. */
  reveal(value: number): void {
    const margin = this.span * 0.08;
    if (value >= this.lo && value <= this.hi) return;
    const span = this.span;
    this.follow = false;
    this.lo = value < this.lo ? value - margin : value + margin - span;
    this.hi = this.lo + span;
  }

  pan(byPixels: number, store: TraceStore): void {
    const by = byPixels / this.scale;
    this.lo += by;
    this.hi += by;
    this.clamp(store);
  }

  zoom(factor: number, atX: number, store: TraceStore): void {
    const [first, last] = this.extent(store);
    const largest = Math.max(DEFAULT_SPAN[this.unit], (last - first) * 1.02);
    const span = Math.max(SMALLEST_SPAN[this.unit], Math.min(largest, this.span * factor));
    // While following, the newest step stays where it is: the right edge is the fixed point.
    const at = this.follow ? Math.min(this.hi, last) : this.value(atX);
    const share = this.follow ? 1 : (at - this.lo) / this.span;
    this.wanted = span;
    this.lo = at - share * span;
    this.hi = this.lo + span;
    if (this.follow) this.track(store);
    else this.clamp(store);
  }

  fit(store: TraceStore): void {
    const [first, last] = this.extent(store);
    this.wanted = Math.max(SMALLEST_SPAN[this.unit], last - first);
    this.follow = true;
    this.track(store);
  }

  /** Indices of the first and last step in view; last < first if there is none. */
  visible(store: TraceStore): [number, number] {
    const { steps } = store;
    const search = (value: number): number => {
      let low = 0;
      let high = steps.length;
      while (low < high) {
        const middle = (low + high) >> 1;
        if (this.stepEnd(steps[middle]!) <= value) low = middle + 1;
        else high = middle;
      }
      return low;
    };
    return [search(this.lo), Math.min(steps.length - 1, search(this.hi))];
  }

  /** Index of the step under an x position; -1 if there is none. */
  indexAt(x: number, store: TraceStore): number {
    const { steps } = store;
    const value = this.value(x);
    const [first, last] = this.visible(store);
    if (last < first) return -1;
    for (let i = first; i <= last; i++) if (this.stepEnd(steps[i]!) > value) return value >= this.lo ? i : -1;
    return -1;
  }

  private clamp(store: TraceStore): void {
    const [first, last] = this.extent(store);
    const span = this.span;
    const end = Math.max(last, first + span);
    this.lo = Math.max(first, Math.min(end - span, this.lo));
    this.hi = this.lo + span;
    this.follow = this.hi >= last - span * 0.005;
  }
}

/** Round places for about `wanted` ticks between two values. */
export function ticks(lo: number, hi: number, wanted: number, whole: boolean): number[] {
  const rough = (hi - lo) / Math.max(1, wanted);
  const power = 10 ** Math.floor(Math.log10(rough));
  let step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough) ?? power * 10;
  if (whole) step = Math.max(1, Math.round(step));
  const found: number[] = [];
  for (let i = Math.ceil(lo / step); i * step <= hi; i++) found.push(i * step);
  return found;
}
