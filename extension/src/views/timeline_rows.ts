// The upper part of the timeline: one row a request.

import { int } from "../format.ts";
import type { TraceStore } from "../store.ts";
import type { RequestInfo, Segment } from "../trace_types.ts";
import { hatch } from "../ui/patterns.ts";
import { css, inkOn, mix, rgb, type Theme } from "../ui/theme.ts";
import type { TimelineAxis } from "./timeline_axis.ts";

const TALLEST = 22;
const SHORTEST = 11;

export interface RowLayout {
  readonly requests: readonly RequestInfo[];
  readonly top: number;
  readonly height: number;
  readonly rowHeight: number;
  /** Requests in view that there is no room for, above and below. */
  readonly above: number;
  readonly below: number;
}

/** Share of the rows that a long queue may take from the requests that compute something in view. */
const QUEUE_SHARE = 0.25;

/**
 * Requests alive somewhere in view, in order of arrival. If there are more than fit, those that only wait come after
 * the others, so that a long queue does not push out what runs; `scroll` moves up from there, in rows.
 */
export function layoutRows(
  store: TraceStore,
  axis: TimelineAxis,
  top: number,
  height: number,
  scroll: number,
): RowLayout {
  const alive: RequestInfo[] = [];
  for (const request of store.requests.values()) if (overlaps(request, axis)) alive.push(request);
  const rowHeight = Math.max(SHORTEST, Math.min(TALLEST, Math.floor(height / Math.max(1, alive.length))));
  const room = Math.max(1, Math.floor(height / rowHeight));
  if (alive.length <= room) return { requests: alive, top, height, rowHeight, above: 0, below: 0 };
  const active = alive.filter((request) => computes(request, axis));
  const queued = alive.filter((request) => !computes(request, axis));
  const ordered = [...active, ...queued];
  const forQueue = Math.min(queued.length, Math.floor(room * QUEUE_SHARE));
  const usual = Math.max(0, active.length + forQueue - room);
  const start = Math.max(0, Math.min(ordered.length - room, usual - Math.round(scroll)));
  return {
    requests: ordered.slice(start, start + room),
    top,
    height,
    rowHeight,
    above: start,
    below: ordered.length - start - room,
  };
}

function computes(request: RequestInfo, axis: TimelineAxis): boolean {
  return request.segments.some(
    (s) => s.action !== "wait" && axis.segmentStart(s) < axis.hi && axis.segmentEnd(s) > axis.lo,
  );
}

function overlaps(request: RequestInfo, axis: TimelineAxis): boolean {
  const first = request.segments[0];
  const last = request.segments.at(-1);
  if (first === undefined || last === undefined) return false;
  return axis.segmentStart(first) < axis.hi && axis.segmentEnd(last) > axis.lo;
}

export interface RowStyle {
  readonly context: CanvasRenderingContext2D;
  readonly theme: Theme;
  readonly scale: number;
  readonly lit: string | null;
  readonly selected: string | null;
}

export function drawRows(rows: RowLayout, axis: TimelineAxis, style: RowStyle): void {
  const { context, theme } = style;
  rows.requests.forEach((request, i) => {
    const y = rows.top + i * rows.rowHeight;
    const faded = style.lit !== null && style.lit !== request.id;
    context.globalAlpha = faded ? 0.45 : 1;
    if (style.selected === request.id) {
      context.fillStyle = css(rgb(theme.fg), 0.07);
      context.fillRect(0, y, axis.right, rows.rowHeight);
    }
    drawLabel(request, y, rows.rowHeight, axis, style);
    context.save();
    context.beginPath();
    context.rect(axis.left, y, axis.right - axis.left, rows.rowHeight);
    context.clip();
    drawRow(request, y, rows.rowHeight, axis, style);
    context.restore();
  });
  context.globalAlpha = 1;
  context.fillStyle = theme.fg3;
  context.font = `10px ${theme.font}`;
  context.textBaseline = "middle";
  context.textAlign = "right";
  if (rows.above > 0) context.fillText(`▴ ${int(rows.above)} more`, axis.left - 8, 9);
  if (rows.below > 0) context.fillText(`▾ ${int(rows.below)} more`, axis.left - 8, rows.top + rows.height + 6);
}

function drawLabel(request: RequestInfo, y: number, height: number, axis: TimelineAxis, style: RowStyle): void {
  const { context, theme } = style;
  const middle = y + height / 2;
  context.fillStyle = theme.request(request.colour);
  const side = Math.min(8, height - 2);
  context.fillRect(8, middle - side / 2, 3, side);
  if (height < 10) return;
  context.font = `500 ${Math.min(11, height - 1)}px ${theme.font}`;
  context.textBaseline = "middle";
  context.textAlign = "left";
  context.fillStyle = request.ending === null ? theme.fg : theme.fg2;
  context.fillText(request.id, 16, middle + 0.5, axis.left - 22);
  const idWidth = context.measureText(request.id).width;
  const room = Math.floor(axis.left - 16 - idWidth - 14);
  if (room < 30) return;
  context.font = `${Math.min(11, height - 1)}px ${theme.font}`;
  context.fillStyle = theme.fg3;
  context.fillText(cut(context, request.label, room), 16 + idWidth + 7, middle + 0.5);
}

const cuts = new Map<string, string>();

/** As much of a text as fits. Remembered, because measuring text is slow and labels are the same in every frame. */
function cut(context: CanvasRenderingContext2D, text: string, room: number): string {
  const key = `${context.font} ${room} ${text}`;
  let fitting = cuts.get(key);
  if (fitting === undefined) {
    if (cuts.size > 2_000) cuts.clear();
    fitting = measureCut(context, text, room);
    cuts.set(key, fitting);
  }
  return fitting;
}

function measureCut(context: CanvasRenderingContext2D, text: string, room: number): string {
  if (context.measureText(text).width <= room) return text;
  let length = Math.min(text.length, Math.ceil(room / 4));
  while (length > 0 && context.measureText(`${text.slice(0, length)}…`).width > room) length -= 1;
  return length === 0 ? "" : `${text.slice(0, length)}…`;
}

function drawRow(request: RequestInfo, y: number, height: number, axis: TimelineAxis, style: RowStyle): void {
  const pad = height >= 14 ? 2 : 1;
  const top = y + pad;
  const inner = height - 2 * pad;
  for (const segment of request.segments) {
    const from = axis.segmentStart(segment);
    const to = axis.segmentEnd(segment);
    if (to < axis.lo || from > axis.hi) continue;
    drawSegment(request, segment, axis.x(from), axis.x(to), top, inner, style);
  }
  drawTokenTicks(request, top, inner, axis, style);
  for (const segment of request.segments) {
    if (segment.action !== "preempt") continue;
    const x = axis.x((axis.segmentStart(segment) + axis.segmentEnd(segment)) / 2);
    if (x > axis.left - 8 && x < axis.right + 8) drawCross(x, y + height / 2, Math.min(4.5, inner / 2.4), style);
  }
  if (request.ending !== null) drawEnding(request, top, inner, axis, style);
}

function drawSegment(
  request: RequestInfo,
  segment: Segment,
  x0: number,
  x1: number,
  top: number,
  height: number,
  style: RowStyle,
): void {
  const { context, theme, scale } = style;
  const left = Math.max(-8, x0);
  const width = Math.max(1, x1 - left);
  const colour = theme.request(request.colour);
  switch (segment.action) {
    case "wait": {
      const tint = theme.reason(segment.reason);
      context.fillStyle = css(rgb(tint), theme.dark ? 0.12 : 0.1);
      context.fillRect(left, top, width, height);
      context.fillStyle = hatch(context, css(rgb(tint), 0.75), 5, 1, scale);
      context.fillRect(left, top, width, height);
      break;
    }
    case "prefill":
      context.fillStyle = css(mix(rgb(colour), rgb(theme.panel), 0.42));
      context.fillRect(left, top, width, height);
      context.fillStyle = hatch(context, colour, 3, 1, scale);
      context.fillRect(left, top, width, height);
      context.strokeStyle = colour;
      context.lineWidth = 1;
      if (width > 4) context.strokeRect(left + 0.5, top + 0.5, width - 1, height - 1);
      break;
    case "decode":
      context.fillStyle = colour;
      context.fillRect(left, top, width, height);
      break;
    case "preempt":
      context.fillStyle = css(rgb(theme.danger), 0.25);
      context.fillRect(left, top, width, height);
  }
}

/** One mark a sampled token, once there is room to tell them apart; the token's place in the output in close view. */
function drawTokenTicks(request: RequestInfo, top: number, height: number, axis: TimelineAxis, style: RowStyle): void {
  if (axis.unit !== "step" || axis.scale < 7 || height < 6) return;
  const { context, theme } = style;
  const ink = inkOn(rgb(theme.request(request.colour)));
  context.fillStyle = css(rgb(theme.panel), 0.55);
  for (const segment of request.segments) {
    if (segment.action !== "decode" || segment.to + 1 < axis.lo || segment.from > axis.hi) continue;
    const from = Math.max(segment.from + 1, Math.floor(axis.lo));
    const to = Math.min(segment.to, Math.ceil(axis.hi));
    for (let step = from; step <= to; step++) context.fillRect(axis.x(step) - 0.5, top, 1, height);
  }
  if (axis.scale < 26 || height < 10) return;
  context.fillStyle = ink;
  context.font = `10px ${theme.font}`;
  context.textAlign = "center";
  context.textBaseline = "middle";
  for (let i = request.tokens.length - 1; i >= 0; i--) {
    const { step } = request.tokens[i]!;
    if (step < axis.lo - 1) break;
    if (step <= axis.hi && i > 0) context.fillText(String(i + 1), axis.x(step + 0.5), top + height / 2 + 0.5);
  }
}

function drawCross(x: number, y: number, radius: number, style: RowStyle): void {
  const { context, theme } = style;
  context.lineCap = "round";
  for (const [colour, width] of [
    [theme.panel, 4.5],
    [theme.danger, 2],
  ] as const) {
    context.strokeStyle = colour;
    context.lineWidth = width;
    context.beginPath();
    context.moveTo(x - radius, y - radius);
    context.lineTo(x + radius, y + radius);
    context.moveTo(x + radius, y - radius);
    context.lineTo(x - radius, y + radius);
    context.stroke();
  }
  context.lineCap = "butt";
}

/** A round end for a request that ended by itself, an open one for one that was cancelled or failed. */
function drawEnding(request: RequestInfo, top: number, height: number, axis: TimelineAxis, style: RowStyle): void {
  const { context, theme } = style;
  const ending = request.ending!;
  const x = axis.x(axis.unit === "step" ? ending.step + 1 : ending.time);
  if (x < axis.left - 6 || x > axis.right + 6) return;
  const radius = Math.max(2, Math.min(4, height / 2 - 1));
  const good = ending.reason === "stop" || ending.reason === "length";
  context.beginPath();
  context.arc(x + radius + 1, top + height / 2, radius, 0, 2 * Math.PI);
  context.lineWidth = 1.5;
  context.strokeStyle = ending.reason === "error" ? theme.danger : theme.request(request.colour);
  context.fillStyle = context.strokeStyle;
  if (good) context.fill();
  else context.stroke();
}
