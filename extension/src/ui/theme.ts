// Colours for canvases: the fixed palettes, and the surface colours as the style sheet resolves them.

import type { Reason } from "../generated.ts";
import { paletteOf } from "./palettes.ts";

export type Rgb = readonly [number, number, number];

const REASONS_DARK: Record<Reason, string> = {
  no_blocks: "#ff7a59",
  token_budget: "#e8b931",
  no_chunking: "#a9c46c",
  max_num_seqs: "#b08cff",
  behind: "#8b95a5",
  sibling: "#56b4e9",
  after_preemption: "#e38fc4",
  policy: "#5fd0d8",
  paused: "#4f5764",
  reconfigured: "#cdd4de",
  admitted: "#56b4e9",
  resumed: "#56b4e9",
  chunk: "#56b4e9",
  decode: "#1fbf87",
};
const REASONS_LIGHT: Record<Reason, string> = {
  no_blocks: "#c8401a",
  token_budget: "#a87b00",
  no_chunking: "#5f7f1f",
  max_num_seqs: "#7b4fd6",
  behind: "#7b8594",
  sibling: "#2b7fbd",
  after_preemption: "#b5497f",
  policy: "#1f7f88",
  paused: "#b4bcc8",
  reconfigured: "#3a414c",
  admitted: "#2b7fbd",
  resumed: "#2b7fbd",
  chunk: "#2b7fbd",
  decode: "#00936a",
};

const SURFACES = [
  "bg",
  "panel",
  "raised",
  "line",
  "line2",
  "fg",
  "fg2",
  "fg3",
  "accent",
  "danger",
  "warn",
  "good",
] as const;
type Surface = (typeof SURFACES)[number];

/** The colours in force. A new object after each change of theme. */
export interface Theme extends Record<Surface, string> {
  readonly dark: boolean;
  readonly prefill: string;
  readonly decode: string;
  readonly used: string;
  readonly cached: string;
  readonly free: string;
  readonly phases: Readonly<Record<"schedule" | "prepare" | "forward" | "sample" | "update", string>>;
  readonly font: string;
  readonly mono: string;
  request(index: number): string;
  reason(reason: Reason): string;
}

/** What tells of a page's theme, as plain values. Absent: the page does not say. */
export interface PageSigns {
  /** JupyterLab's and Notebook 7's mark on the body. */
  readonly jupyterLight: string | undefined;
  /** The body's classes; VS Code puts its kind of theme there. */
  readonly classes: readonly string[];
  /** Colab's mark on <html>; `colab` without it is the light theme. */
  readonly htmlTheme: string | null;
  readonly colab: boolean;
  /** What is painted behind everything, null where that is see-through. */
  readonly background: Rgb | null;
  readonly prefersDark: boolean;
}

/** Who gives the page its colours: there, and only there, that host's variables hold. */
export type Host = "jupyter" | "vscode" | "other";

/**
 * Whose theme a page has, and whether it is dark. Widget managers outside JupyterLab define JupyterLab's variables too,
 * in light, whatever the page looks like; so the variables alone say nothing.
 */
export function pageTheme(signs: PageSigns): { host: Host; dark: boolean } {
  if (signs.jupyterLight !== undefined) return { host: "jupyter", dark: signs.jupyterLight === "false" };
  const has = (name: string): boolean => signs.classes.includes(name);
  // A light theme of high contrast has both classes of high contrast.
  if (has("vscode-light") || has("vscode-high-contrast-light")) return { host: "vscode", dark: false };
  if (has("vscode-dark") || has("vscode-high-contrast")) return { host: "vscode", dark: true };
  if (signs.htmlTheme !== null || signs.colab) return { host: "other", dark: signs.htmlTheme === "dark" };
  if (signs.background !== null) return { host: "other", dark: inkOn(signs.background) === LIGHT_INK };
  return { host: "other", dark: signs.prefersDark };
}

function readSigns(): PageSigns {
  const { body, documentElement } = document;
  const painted = [body, documentElement].map((element) => getComputedStyle(element).backgroundColor);
  const opaque = painted.find((colour) => alphaOf(colour) === 1);
  return {
    jupyterLight: body.dataset["jpThemeLight"],
    classes: [...body.classList],
    htmlTheme: documentElement.getAttribute("theme"),
    colab: (globalThis as { google?: { colab?: unknown } }).google?.colab !== undefined,
    background: opaque === undefined ? null : rgb(opaque),
    prefersDark: matchMedia("(prefers-color-scheme: dark)").matches,
  };
}

/**
 * Keep `root` in the page's theme; `changed` is told the colours, at once and after each change. Colours can only be
 * resolved inside a document: a root that is put there later calls `again`.
 */
export function followTheme(
  root: HTMLElement,
  changed: (theme: Theme) => void,
): { again: () => void; stop: () => void } {
  const apply = (): void => {
    const { host, dark } = pageTheme(readSigns());
    root.dataset["theme"] = dark ? "dark" : "light";
    root.dataset["host"] = host;
    changed(readTheme(root));
  };
  const observer = new MutationObserver(apply);
  const attributeFilter = ["data-jp-theme-light", "data-jp-theme-name", "data-iw-palette", "class", "theme", "style"];
  for (const element of [document.body, document.documentElement]) {
    observer.observe(element, { attributes: true, attributeFilter });
  }
  const query = matchMedia("(prefers-color-scheme: dark)");
  query.addEventListener("change", apply);
  apply();
  return {
    again: apply,
    stop: () => {
      observer.disconnect();
      query.removeEventListener("change", apply);
    },
  };
}

function readTheme(root: HTMLElement): Theme {
  const dark = root.dataset["theme"] === "dark";
  const probe = document.createElement("span");
  root.append(probe);
  const resolved = {} as Record<Surface, string>;
  for (const name of SURFACES) {
    // A custom property is not resolved when read; a real property made from it is.
    probe.style.color = `var(--iw-${name})`;
    resolved[name] = getComputedStyle(probe).color;
  }
  probe.style.fontFamily = "var(--iw-font)";
  const font = getComputedStyle(probe).fontFamily;
  probe.style.fontFamily = "var(--iw-mono)";
  const mono = getComputedStyle(probe).fontFamily;
  probe.remove();
  const requests = paletteOf(document.body.dataset["iwPalette"])[dark ? "dark" : "light"];
  const reasons = dark ? REASONS_DARK : REASONS_LIGHT;
  return {
    ...resolved,
    dark,
    font,
    mono,
    prefill: dark ? "#7aa7ff" : "#5b82e0",
    decode: dark ? "#1fbf87" : "#00936a",
    used: dark ? "#7aa7ff" : "#4a74d8",
    cached: dark ? "#3f5688" : "#b3c4ee",
    free: dark ? "#23272e" : "#eceff4",
    phases: dark
      ? { schedule: "#e69f00", prepare: "#b08cff", forward: "#4f8ff0", sample: "#1fbf87", update: "#e38fc4" }
      : { schedule: "#d98a00", prepare: "#7b4fd6", forward: "#3a78d9", sample: "#00936a", update: "#c2578f" },
    request: (index) => requests[((index % requests.length) + requests.length) % requests.length]!,
    reason: (reason) => reasons[reason],
  };
}

const parsed = new Map<string, Rgb>();

/** A CSS colour as bytes, by way of the canvas, which understands every notation. */
export function rgb(colour: string): Rgb {
  const known = parsed.get(colour);
  if (known !== undefined) return known;
  const [r, g, b] = pixel(colour);
  const value: Rgb = [r!, g!, b!];
  parsed.set(colour, value);
  return value;
}

/** How opaque a CSS colour is, 0 to 1. */
function alphaOf(colour: string): number {
  return pixel(colour)[3]! / 255;
}

function pixel(colour: string): Uint8ClampedArray {
  const context = new OffscreenCanvas(1, 1).getContext("2d")!;
  context.fillStyle = colour;
  context.fillRect(0, 0, 1, 1);
  return context.getImageData(0, 0, 1, 1).data;
}

/** `share` of a over b. */
export function mix(a: Rgb, b: Rgb, share: number): Rgb {
  return [
    Math.round(a[0] * share + b[0] * (1 - share)),
    Math.round(a[1] * share + b[1] * (1 - share)),
    Math.round(a[2] * share + b[2] * (1 - share)),
  ];
}

export function css(colour: Rgb, alpha = 1): string {
  return alpha === 1 ? `rgb(${colour.join(" ")})` : `rgb(${colour.join(" ")} / ${alpha})`;
}

const DARK_INK = "#10141a";
const LIGHT_INK = "#ffffff";

/** Black or white, whichever can be read on the colour. */
export function inkOn(colour: Rgb): string {
  const luminance = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2];
  return luminance > 140 ? DARK_INK : LIGHT_INK;
}
