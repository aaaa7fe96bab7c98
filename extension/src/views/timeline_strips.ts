// The lower part of the timeline: what each step did, as charts over the same axis.

import { int, percent, seconds } from "../format.ts";
import type { PoolShape, Reason } from "../generated.ts";
import type { TraceStore } from "../store.ts";
import type { RequestInfo, Step } from "../trace_types.ts";
import { css, rgb, type Theme } from "../ui/theme.ts";
import type { BarRaster } from "./bar_raster.ts";
import type { TimelineAxis } from "./timeline_axis.ts";

export interface StripStyle {
  readonly context: CanvasRenderingContext2D;
  readonly bars: BarRaster;
  readonly theme: Theme;
  readonly axis: TimelineAxis;
  readonly store: TraceStore;
  readonly selected: RequestInfo | null;
}

interface Band {
  readonly colour: string;
  value(step: Step): number;
}

export interface Strip {
  readonly id: "batch" | "kv" | "queue" | "times";
  readonly title: string;
  /** The strip's number at the cursor. */
  readout(step: Step | null, store: TraceStore): string;
  /** What its colours mean, as far as the legend above does not say it. */
  keys(step: Step | null, theme: Theme): readonly (readonly [colour: string, text: string])[];
  drawBars(style: StripStyle, top: number, height: number): void;
  /** What is drawn over the bars. */
  drawLines?(style: StripStyle, top: number, height: number): void;
}

const REASON_ORDER: readonly Reason[] = [
  "no_blocks",
  "token_budget",
  "no_chunking",
  "max_num_seqs",
  "policy",
  "after_preemption",
  "sibling",
  "behind",
  "paused",
  "reconfigured",
];
const PHASES = ["schedule", "prepare", "forward", "sample", "update"] as const;

export const STRIPS: readonly Strip[] = [
  {
    id: "batch",
    title: "Batch",
    readout: (step) =>
      step === null ? "" : `${int(step.record.num_scheduled_tokens)} / ${int(step.record.token_budget)} tok`,
    keys: () => [["", "√ of tokens"]],
    drawBars: drawBatch,
    drawLines: drawBudget,
  },
  {
    id: "kv",
    title: "KV cache",
    readout: (step) => (step === null ? "" : `${percent(step.numUsed / step.record.pool.num_blocks)} used`),
    keys: (_, theme) => [
      [theme.used, "used"],
      [theme.cached, "cached"],
    ],
    drawBars: drawKv,
  },
  {
    id: "queue",
    title: "Queue",
    readout: (step) => (step === null ? "" : `${int(step.numWaiting)} waiting`),
    keys: () => [["", "by reason"]],
    drawBars: drawQueue,
  },
  {
    id: "times",
    title: "Step time",
    readout: (step) => (step === null ? "" : seconds(step.end - step.record.time)),
    keys: (step, theme) =>
      step === null
        ? []
        : [...PHASES]
            .sort((a, b) => step.record.times[b] - step.record.times[a])
            .slice(0, 2)
            .map((phase) => [theme.phases[phase], phase] as const),
    drawBars: drawTimes,
  },
];

export const STRIP_GAP = 9;
/** A strip's title, figure and colours, and its title and figure alone. */
const STRIP_HEIGHT = 42;
const STRIP_LEAST = 30;

/** The strips that a height has room for, the first ones first, and the distance from one to the next. */
export function stripLayout(room: number): { strips: readonly Strip[]; pitch: number } {
  const number = Math.max(0, Math.min(STRIPS.length, Math.floor(room / (STRIP_LEAST + STRIP_GAP))));
  const pitch = number === 0 ? 0 : Math.min(STRIP_HEIGHT + STRIP_GAP, Math.floor(room / number));
  return { strips: STRIPS.slice(0, number), pitch };
}

/** Tokens on a square-root scale: a decode is one token and a prefill hundreds, and both must be seen. */
function batchScale({ store, axis }: StripStyle, top: number, height: number): (tokens: number) => number {
  const [first, last] = axis.visible(store);
  let largest = 1;
  for (let i = first; i <= last; i++) {
    const { record } = store.steps[i]!;
    largest = Math.max(largest, record.token_budget, record.num_scheduled_tokens);
  }
  return (tokens) => top + height * (1 - Math.sqrt(tokens / largest));
}

function drawBatch(style: StripStyle, top: number, height: number): void {
  const { bars, theme, selected } = style;
  const y = batchScale(style, top, height);
  const share = (step: Step): number =>
    selected === null ? 0 : (step.record.decisions.find((d) => d.request_id === selected.id)?.num_tokens ?? 0);
  columns(style, (x, width, step) => {
    const { prefillTokens, decodeTokens } = step;
    bars.bar(theme.decode, x, y(decodeTokens), width, top + height);
    bars.bar(theme.prefill, x, y(decodeTokens + prefillTokens), width, y(decodeTokens));
    const own = share(step);
    if (selected !== null && own > 0) bars.bar(theme.request(selected.colour), x, y(own), width, top + height);
  });
}

/** The budget may be changed while the engine runs: its line follows. */
function drawBudget(style: StripStyle, top: number, height: number): void {
  const { context, theme } = style;
  const y = batchScale(style, top, height);
  context.strokeStyle = theme.danger;
  context.lineWidth = 1;
  context.setLineDash([4, 3]);
  context.beginPath();
  let before = Number.NaN;
  columns(style, (x, width, step) => {
    const at = Math.round(y(step.record.token_budget)) + 0.5;
    if (at !== before) context.moveTo(x, at);
    context.lineTo(x + width, at);
    before = at;
  });
  context.stroke();
  context.setLineDash([]);
}

/** What blocks of pools of different shape are compared by: bytes, or tokens where no memory stands behind them. */
function blockSize(pool: PoolShape): number {
  return pool.bytes_per_block > 0 ? pool.bytes_per_block : pool.block_size;
}

function drawKv(style: StripStyle, top: number, height: number): void {
  const { theme, store, axis } = style;
  const [first, last] = axis.visible(store);
  let largest = 1;
  for (let i = first; i <= last; i++) {
    const { pool } = store.steps[i]!.record;
    largest = Math.max(largest, pool.num_blocks * blockSize(pool));
  }
  const sized = (blocks: (s: Step) => number) => (s: Step) => blocks(s) * blockSize(s.record.pool);
  stack(style, top, height, largest, [
    { colour: theme.used, value: sized((s) => s.numUsed) },
    { colour: theme.cached, value: sized((s) => s.numCachedFree) },
    { colour: theme.free, value: sized((s) => s.record.pool.num_blocks - s.numUsed - s.numCachedFree) },
  ]);
}

function drawQueue(style: StripStyle, top: number, height: number): void {
  const { theme, store, axis } = style;
  const [first, last] = axis.visible(store);
  let largest = 4;
  for (let i = first; i <= last; i++) largest = Math.max(largest, store.steps[i]!.numWaiting);
  stack(
    style,
    top,
    height,
    largest,
    REASON_ORDER.map((reason) => ({ colour: theme.reason(reason), value: (s: Step) => s.waits.get(reason) ?? 0 })),
  );
}

function drawTimes(style: StripStyle, top: number, height: number): void {
  const { theme, store, axis } = style;
  const [first, last] = axis.visible(store);
  const sample: number[] = [];
  const stride = Math.max(1, Math.floor((last - first + 1) / 500));
  for (let i = first; i <= last; i += stride) sample.push(store.steps[i]!.end - store.steps[i]!.record.time);
  sample.sort((a, b) => a - b);
  // One slow step must not flatten all others: the scale ends at the 98th percentile and taller bars are cut.
  const largest = Math.max(1e-6, (sample[Math.floor(sample.length * 0.98)] ?? 0) * 1.15);
  stack(
    style,
    top,
    height,
    largest,
    PHASES.map((phase) => ({ colour: theme.phases[phase], value: (s: Step) => s.record.times[phase] })),
  );
}

function stack(style: StripStyle, top: number, height: number, largest: number, bands: readonly Band[]): void {
  const bottom = top + height;
  columns(style, (x, width, step) => {
    let y = bottom;
    for (const band of bands) {
      const value = band.value(step);
      if (value <= 0) continue;
      const next = Math.max(top, y - (height * value) / largest);
      style.bars.bar(band.colour, x, next, width, y);
      y = next;
    }
  });
}

/** Call `draw` for each step in view; where several share a pixel, for the largest batch among them. */
function columns(style: StripStyle, draw: (x: number, width: number, step: Step) => void): void {
  const { axis, store } = style;
  const [first, last] = axis.visible(store);
  const stride = Math.max(1, Math.ceil((last - first + 1) / Math.max(1, axis.right - axis.left)));
  // Buckets begin at multiples of the stride, so that bars keep their shape while the view scrolls.
  for (let i = first - (first % stride); i <= last; i += stride) {
    let step = store.steps[i]!;
    const end = store.steps[Math.min(last, i + stride - 1)]!;
    const x0 = Math.max(axis.left, axis.x(axis.stepStart(step)));
    for (let j = i + 1; j < i + stride && j <= last; j++) {
      const other = store.steps[j]!;
      if (other.record.num_scheduled_tokens > step.record.num_scheduled_tokens) step = other;
    }
    const x1 = Math.min(axis.right, axis.x(axis.stepEnd(end)));
    const gap = axis.unit === "step" && axis.scale >= 5 ? 1 : 0;
    if (x1 > x0) draw(x0, Math.max(0.75, x1 - x0 - gap), step);
  }
}

export function drawStripFrame(style: StripStyle, strip: Strip, step: Step | null, top: number, height: number): void {
  const { context, theme, axis, store } = style;
  context.fillStyle = css(rgb(theme.fg), theme.dark ? 0.035 : 0.03);
  context.fillRect(axis.left, top, axis.right - axis.left, height);
  context.textAlign = "left";
  context.textBaseline = "alphabetic";
  context.font = `500 11px ${theme.font}`;
  context.fillStyle = theme.fg2;
  context.fillText(strip.title, 8, top + 13);
  context.fillStyle = theme.fg;
  context.font = `12px ${theme.font}`;
  context.fillText(strip.readout(step, store), 8, top + 27, axis.left - 14);
  if (height < STRIP_HEIGHT) return;
  context.font = `10px ${theme.font}`;
  let x = 8;
  for (const [colour, text] of strip.keys(step, theme)) {
    if (x + 10 + context.measureText(text).width > axis.left - 4) break;
    if (colour !== "") {
      context.fillStyle = colour;
      context.fillRect(x, top + 33, 7, 7);
      x += 10;
    }
    context.fillStyle = theme.fg3;
    context.fillText(text, x, top + 40);
    x += context.measureText(text).width + 8;
  }
}
