// Numbers as text, always with their unit. One place, so that a value reads the same in every view.

const NBSP = "\u00a0";
const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });

export function int(value: number): string {
  return Number.isFinite(value) ? whole.format(value) : "–";
}

/** Seconds in the unit that keeps two or three digits: "85 µs", "3.1 ms", "1.24 s", "2 min 5 s". */
export function seconds(value: number): string {
  if (!Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size === 0) return `0${NBSP}ms`;
  if (size < 0.9995e-3) return `${(value * 1e6).toFixed(0)}${NBSP}µs`;
  if (size < 0.00995) return `${(value * 1e3).toFixed(2)}${NBSP}ms`;
  if (size < 0.0995) return `${(value * 1e3).toFixed(1)}${NBSP}ms`;
  if (size < 0.9995) return `${(value * 1e3).toFixed(0)}${NBSP}ms`;
  if (size < 99.5) return `${value.toFixed(2)}${NBSP}s`;
  const minutes = Math.floor(Math.round(size) / 60);
  return `${value < 0 ? "-" : ""}${minutes}${NBSP}min${NBSP}${Math.round(size) % 60}${NBSP}s`;
}

/** Milliseconds with a fixed number of places, for columns that must line up. */
export function millis(value: number): string {
  if (!Number.isFinite(value)) return "–";
  const ms = value * 1e3;
  return `${ms < 10 ? ms.toFixed(2) : ms < 100 ? ms.toFixed(1) : whole.format(ms)}${NBSP}ms`;
}

/** Bytes in B, KiB or MiB, by the rule of workbench/core/units.py: halves are rounded up. */
export function byteSize(bytes: number): string {
  if (!Number.isFinite(bytes)) return "–";
  if (bytes < 0) return `-${byteSize(-bytes)}`;
  const size = Math.floor(bytes + 0.5);
  if (size < 1024) return `${int(size)}${NBSP}B`;
  const [name, unit] = Math.floor((size + 512) / 1024) < 1024 ? ["KiB", 1024] : ["MiB", 2 ** 20];
  const tenths = Math.floor((10 * size + unit / 2) / unit);
  const text = tenths < 1000 ? (tenths / 10).toFixed(1) : int(Math.floor((size + unit / 2) / unit));
  return `${text}${NBSP}${name}`;
}

export function percent(share: number): string {
  if (!Number.isFinite(share)) return "–";
  const value = share * 100;
  return `${value > 0 && value < 10 ? value.toFixed(1) : value.toFixed(0)}${NBSP}%`;
}

/** A probability: two digits, or how small it is. */
export function probability(value: number): string {
  if (!Number.isFinite(value)) return "–";
  return value > 0 && value < 0.005 ? "< 0.01" : value.toFixed(2);
}

export function count(n: number, one: string, many = `${one}s`): string {
  return `${int(n)} ${n === 1 ? one : many}`;
}

/** Parameters of a model: "4.6 M", "1.24 B". */
export function compact(value: number): string {
  if (value >= 1e9) return `${(value / 1e9).toFixed(value < 1e10 ? 2 : 1)}${NBSP}B`;
  if (value >= 1e6) return `${(value / 1e6).toFixed(value < 1e7 ? 1 : 0)}${NBSP}M`;
  if (value >= 1e3) return `${(value / 1e3).toFixed(0)}${NBSP}k`;
  return int(value);
}

export function rate(stepsPerSecond: number | null): string {
  if (stepsPerSecond === null) return "full speed";
  const text = stepsPerSecond < 10 ? stepsPerSecond.toFixed(1) : int(stepsPerSecond);
  return `${text}${NBSP}steps/s`;
}

/** Text of tokens with line breaks and runs of space made visible, cut to a length. */
export function visible(text: string, limit = 400): string {
  const shown = text.replace(/\n/g, "⏎").replace(/\t/g, "⇥");
  return shown.length > limit ? `${shown.slice(0, limit - 1)}…` : shown;
}
