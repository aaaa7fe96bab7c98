// The roofline (Williams, Waterman and Patterson, 2009), small: rings for what each part could reach, a dot for what the
// recorded forward did reach.

import type { MachineLimits } from "../protocol.ts";
import type { Surface } from "../ui/surface.ts";
import type { Theme } from "../ui/theme.ts";
import type { Part } from "./kernel_rows.ts";

const LEFT = 48;
const RIGHT = 12;
const TOP = 14;
const BOTTOM = 30;
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

export function drawRoofline(
  surface: Surface,
  parts: readonly Part[],
  forward: number,
  limits: MachineLimits,
  theme: Theme,
): void {
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

  c.font = theme.font;
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

  known.forEach((part, i) => {
    const at = x(intensities[i]!);
    c.strokeStyle = c.fillStyle = partColour(theme, part.name);
    if (part.name !== "forward") {
      c.beginPath();
      c.arc(at, y(roof(intensities[i]!)), RINGS[i]!, 0, 2 * Math.PI);
      c.stroke();
    } else if (done !== null) {
      c.beginPath();
      c.arc(at, y(done), DOT, 0, 2 * Math.PI);
      c.fill();
    }
  });
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
