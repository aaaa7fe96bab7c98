// The roofline (Williams, Waterman and Patterson, 2009), small: rings for what each part could reach, a dot for what the
// recorded forward did reach.

import type { MachineLimits } from "../protocol.ts";
import { percent } from "../format.ts";
import type { CardContent } from "../ui/hover_card.ts";
import type { Surface } from "../ui/surface.ts";
import type { Theme } from "../ui/theme.ts";
import type { Part } from "./kernel_rows.ts";

const LEFT = 48;
const RIGHT = 12;
const TOP = 22;
const BOTTOM = 30;
/** A point this near to the pointer is told of, in px. */
const NEAR = 18;
/** Parts of one intensity lie on each other: the first ring is the widest. */
const RINGS = [8, 5.5, 3];
const DOT = 5.5;

export function partColour(theme: Theme, name: Part["name"]): string {
  switch (name) {
    case "layer matrices":
      return theme.request(0);
    case "output head":
      return theme.request(2);
    case "attention":
      return theme.request(1);
    case "forward":
      return theme.phases.forward;
  }
}

/** A ring or the dot, in CSS pixels and in the chart's own units. */
export interface RoofPoint {
  readonly x: number;
  readonly y: number;
  readonly name: Part["name"];
  /** Operations for each byte read. */
  readonly intensity: number;
  /** What it could do at most, and what the forward did; operations a second. */
  readonly limit: number;
  readonly done: number | null;
}

/** What is known of the point nearest to a place; null where none is near. */
export function pointCard(points: readonly RoofPoint[], x: number, y: number, theme: Theme): CardContent | null {
  const away = (p: RoofPoint): number => Math.hypot(p.x - x, p.y - y);
  const nearest = points.reduce<RoofPoint | null>(
    (best, p) => (best === null || away(p) < away(best) ? p : best),
    null,
  );
  if (nearest === null || away(nearest) > NEAR) return null;
  const speed = (flops: number): string => `${Number((flops / 1e9).toPrecision(3)).toLocaleString("en-US")} GFLOP/s`;
  const { name, intensity, limit, done } = nearest;
  return {
    title: done === null ? `${name}: the most it could do` : `${name}: what it did`,
    colour: partColour(theme, name),
    lines: [
      ["for each byte read", `${Number(intensity.toPrecision(3))} FLOP`],
      ["limit", speed(limit)],
      ...(done === null ? [] : ([["reached", `${speed(done)}, ${percent(done / limit)}`]] as const)),
    ],
  };
}

/** The points that were drawn. */
export function drawRoofline(
  surface: Surface,
  parts: readonly Part[],
  forward: number,
  limits: MachineLimits,
  theme: Theme,
): RoofPoint[] {
  const c = surface.begin();
  const { width, height } = surface;
  const ridge = limits.matmul_peak / limits.copy_bandwidth;
  const roof = (intensity: number): number => Math.min(limits.matmul_peak, intensity * limits.copy_bandwidth);
  const known = parts.filter((part) => part.bytes > 0 && part.flops > 0);
  const intensities = known.map((part) => part.flops / part.bytes);
  const whole = known.find((part) => part.name === "forward");
  const done = whole === undefined || forward <= 0 ? null : whole.flops / forward;
  const [x0, x1] = [Math.min(0.2, ...intensities) / 2, Math.max(6 * ridge, ...intensities) * 1.6];
  const y1 = Math.max(limits.matmul_peak, done ?? 0) * 2;
  const y0 = Math.min(roof(x0), done ?? Number.POSITIVE_INFINITY) / 1.5;
  const x = (v: number): number => LEFT + ((width - LEFT - RIGHT) * Math.log(v / x0)) / Math.log(x1 / x0);
  const y = (v: number): number => height - BOTTOM - ((height - TOP - BOTTOM) * Math.log(v / y0)) / Math.log(y1 / y0);

  c.font = `10px ${theme.font}`;
  c.lineWidth = 1;
  c.textBaseline = "middle";
  c.textAlign = "right";
  for (const power of powers(y0, y1)) {
    grid(c, theme, LEFT, y(power), width - RIGHT, y(power));
    c.fillText(short(power / 1e9), LEFT - 6, y(power));
  }
  c.textAlign = "center";
  for (const power of powers(x0, x1)) {
    grid(c, theme, x(power), TOP, x(power), height - BOTTOM);
    c.fillText(short(power), x(power), height - BOTTOM + 9);
  }
  c.textAlign = "right";
  c.fillText("FLOP for each byte read", width - RIGHT, height - 6);
  c.textAlign = "left";
  c.fillText("GFLOP/s", 2, 7);

  c.strokeStyle = theme.fg2;
  c.lineWidth = 2;
  c.beginPath();
  c.moveTo(x(x0), y(roof(x0)));
  c.lineTo(x(ridge), y(limits.matmul_peak));
  c.lineTo(x(x1), y(limits.matmul_peak));
  c.stroke();

  const points: RoofPoint[] = [];
  known.forEach((part, i) => {
    const intensity = intensities[i]!;
    const limit = roof(intensity);
    const whole = part.name === "forward";
    if (whole && done === null) return;
    const point = { x: x(intensity), y: y(whole ? done! : limit), name: part.name, intensity, limit };
    points.push({ ...point, done: whole ? done : null });
    c.strokeStyle = c.fillStyle = partColour(theme, part.name);
    c.beginPath();
    c.arc(point.x, point.y, whole ? DOT : RINGS[i]!, 0, 2 * Math.PI);
    if (whole) c.fill();
    else c.stroke();
  });
  drawNames(c, points, ridge, theme, width);
  return points;
}

/** Rings are named above the line, beside it where it climbs, and the dot below it, where nothing stands in the way. */
function drawNames(
  c: CanvasRenderingContext2D,
  points: readonly RoofPoint[],
  ridge: number,
  theme: Theme,
  width: number,
): void {
  c.fillStyle = theme.fg2;
  const taken: [number, number, number][] = [];
  for (const { x, y, name, intensity, done } of points.toReversed()) {
    const size = c.measureText(name).width;
    const beside = done === null && intensity < ridge;
    const left = Math.max(LEFT, Math.min(width - RIGHT - size, beside ? x - size - 12 : x - size / 2));
    const middle = beside ? y : done === null ? y - 15 : y + 14;
    if (middle < 6 || taken.some(([l, r, at]) => Math.abs(at - middle) < 11 && l < left + size + 4 && left < r + 4)) {
      continue;
    }
    taken.push([left, left + size, middle]);
    c.textAlign = "left";
    c.fillText(name, left, middle);
  }
}

function grid(c: CanvasRenderingContext2D, theme: Theme, ax: number, ay: number, bx: number, by: number): void {
  c.strokeStyle = theme.line;
  c.fillStyle = theme.fg3;
  c.beginPath();
  c.moveTo(ax, ay);
  c.lineTo(bx, by);
  c.stroke();
}

/** The powers of ten between two numbers. */
function powers(low: number, high: number): number[] {
  const found: number[] = [];
  for (let e = Math.ceil(Math.log10(low)); e <= Math.floor(Math.log10(high)); e++) found.push(10 ** e);
  return found;
}

function short(value: number): string {
  return value >= 1000 ? value.toLocaleString("en-US") : String(Number(value.toPrecision(1)));
}
