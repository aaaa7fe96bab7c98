// Latency: how long to the first token, from token to token, and to the end; and who kept the reader's limits?

import { count, int, millis, percent } from "../format.ts";
import type { TraceStore } from "../store.ts";
import { h, setAttribute, setText } from "../ui/dom.ts";
import { HoverCard } from "../ui/hover_card.ts";
import { segmented } from "../ui/segmented.ts";
import type { View, ViewContext } from "../ui/stage.ts";
import { Surface } from "../ui/surface.ts";
import { css, rgb, type Theme } from "../ui/theme.ts";
import { paceFacts } from "./device_facts.ts";
import { binCard, type Histogram, histogram, logTicks, placeOf, type Scale, valueAt } from "./histogram.ts";
import { endToEnd, goodput, readLimit, type Slo } from "./latency_goodput.ts";
import { ticks } from "./timeline_axis.ts";

const PERCENTILES = ["p50", "p95", "p99"] as const;
/** Shortest time between two draws while live, in ms: sorting tens of thousands of samples is not free. */
const DRAW_EVERY = 200;
/** A chart as high as this has room for a title under its axis, in px. */
const LEAST_TITLED = 70;

interface Kind {
  readonly key: keyof Slo;
  readonly name: string;
  readonly meaning: string;
  readonly sample: string;
  readonly values: (store: TraceStore, until: number | null) => readonly number[];
  readonly colour: (theme: Theme) => string;
}

const KINDS: readonly Kind[] = [
  {
    key: "ttft",
    name: "TTFT",
    meaning: "time to first token",
    sample: "request",
    values: (store, until) => store.ttft.upTo(until),
    colour: (theme) => theme.prefill,
  },
  {
    key: "itl",
    name: "ITL",
    meaning: "time between tokens",
    sample: "gap",
    values: (store, until) => store.itl.upTo(until),
    colour: (theme) => theme.decode,
  },
  {
    key: "e2e",
    name: "E2E",
    meaning: "arrival to end",
    sample: "request",
    values: (store, until) => endToEnd(store, until ?? Number.POSITIVE_INFINITY),
    colour: (theme) => theme.request(3),
  },
];

interface Chart {
  readonly kind: Kind;
  readonly surface: Surface;
  readonly figures: readonly HTMLElement[];
  readonly limit: HTMLInputElement;
  data: Histogram | null;
}

export function latencyView(element: HTMLElement, context: ViewContext): View {
  return new LatencyView(element, context);
}

class LatencyView implements View {
  readonly early = true;
  readonly rest = 1000;
  private readonly context: ViewContext;
  private readonly charts: readonly Chart[];
  private readonly served = h("div", { class: "iw-goodput", role: "status", "data-testid": "goodput" });
  private readonly device = h("div", { class: "iw-goodput", "data-testid": "latency-device" });
  private limits: Record<keyof Slo, number | null> = { ttft: null, itl: null, e2e: null };
  private problem = "";
  private scale: Scale = "linear";
  private drawn = 0;
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(element: HTMLElement, context: ViewContext) {
    this.context = context;
    const box = h("div", { class: "iw-latency", "data-testid": "latency" });
    const scales = segmented<Scale>(
      "Scale",
      [
        ["linear", "linear", "From 0 to a little past the 99th percentile"],
        ["log", "log", "Every sample, each power of ten equally wide: shows the quick ones and a long tail"],
      ],
      this.scale,
      (scale) => {
        this.scale = scale;
        this.redraw();
      },
    );
    element.append(box, h("div", { class: "iw-latency-foot" }, this.served, scales), this.device);
    this.charts = KINDS.map((kind) => this.chart(box, kind));
  }

  draw(): void {
    const { session } = this.context;
    const wait = DRAW_EVERY - (performance.now() - this.drawn);
    if (session.cursor === "live" && wait > 0) {
      this.timer ??= setTimeout(() => {
        this.timer = undefined;
        this.context.invalidate();
      }, wait);
      return;
    }
    this.drawn = performance.now();
    const until = session.cursor === "live" ? null : session.cursor;
    const theme = this.context.theme();
    for (const chart of this.charts) {
      const bars = Math.max(8, Math.min(48, Math.floor(chart.surface.width / 7)));
      chart.data = histogram(chart.kind.values(session.store, until), bars, this.scale);
      drawHistogram(chart.surface, chart.data, theme, chart.kind, this.limits[chart.kind.key]);
    }
    for (const { kind, data, figures, surface } of this.charts) {
      PERCENTILES.forEach((p, i) => setText(figures[i]!, millis(data![p])));
      const told = PERCENTILES.map((p) => `${p} ${millis(data![p])}`).join(", ");
      setAttribute(
        surface.canvas,
        "aria-label",
        `Histogram of ${kind.meaning}, ${data!.scale} scale, ${count(data!.count, kind.sample)}: ${told}`,
      );
    }
    setText(this.served, this.problem === "" ? this.servedText() : this.problem);
    this.served.classList.toggle("iw-bad", this.problem !== "");
    const said = paceFacts(session.store.status?.device ?? null);
    this.device.hidden = said === "";
    setText(this.device, said);
  }

  destroy(): void {
    clearTimeout(this.timer);
    for (const { surface } of this.charts) surface.destroy();
  }

  private servedText(): string {
    const { session } = this.context;
    if (Object.values(this.limits).every((limit) => limit === null)) {
      return "Type a limit, or drag in a histogram, to see how many requests keep it.";
    }
    const { met, ended, perSecond } = goodput(session.store, session.cursor, this.limits);
    if (ended === 0) return "Goodput: no request has ended yet.";
    const share = percent(met / ended);
    return `Goodput: ${perSecond.toFixed(2)} requests/s · ${int(met)} of ${int(ended)} ended requests kept the limits (${share})`;
  }

  private redraw(): void {
    this.drawn = 0;
    this.context.invalidate();
  }

  private chart(box: HTMLElement, kind: Kind): Chart {
    const figures = PERCENTILES.map(() => h("b"));
    const stage = h("div", { class: "iw-histogram" });
    const limit = h("input", {
      class: "iw-field",
      type: "text",
      inputmode: "decimal",
      placeholder: "none",
      title: `Limit for the ${kind.meaning}${kind.key === "itl" ? ", on average over a request," : ""} in ms`,
      "aria-label": `Limit for the ${kind.meaning} in milliseconds`,
      "data-testid": `slo-${kind.key}`,
    });
    limit.addEventListener("keydown", (event) => {
      event.stopPropagation();
      if (event.key !== "Escape") return;
      limit.value = "";
      limit.dispatchEvent(new Event("input"));
    });
    limit.addEventListener("input", () => {
      this.problem = "";
      try {
        this.limits[kind.key] = readLimit(limit.value);
      } catch (error) {
        this.problem = (error as Error).message;
      }
      this.redraw();
    });
    box.append(
      h(
        "section",
        { "data-testid": `latency-${kind.key}` },
        h(
          "header",
          {},
          h("strong", {}, kind.name),
          h("span", { class: "iw-dim" }, kind.meaning),
          h("label", {}, "limit", limit, "ms"),
        ),
        h("div", { class: "iw-figures" }, ...PERCENTILES.map((p, i) => h("span", {}, `${p} `, figures[i]!))),
        stage,
      ),
    );
    const surface = new Surface(stage, `Histogram of ${kind.meaning}`, () => this.redraw());
    const chart: Chart = { kind, surface, figures, limit, data: null };
    this.dragLimit(chart);
    const card = new HoverCard(stage);
    surface.canvas.addEventListener("pointermove", (event) => {
      const { data } = chart;
      const found = data === null ? null : binCard(data, surface.locate(event).x / surface.width, kind);
      if (found === null) card.hide();
      else card.show(event, found);
    });
    surface.canvas.addEventListener("pointerleave", () => card.hide());
    return chart;
  }

  /** The limit's line follows the pointer while it is pressed. */
  private dragLimit(chart: Chart): void {
    const { canvas } = chart.surface;
    const take = (event: PointerEvent): void => {
      const { data, surface, kind, limit } = chart;
      if (data === null || data.count === 0) return;
      const share = Math.max(0, Math.min(1, surface.locate(event).x / surface.width));
      const ms = Math.max(1e-3, valueAt(data, share) * 1e3);
      // As many digits as a pixel can tell apart, and what is typed is what is used.
      limit.value = String(Number(ms.toPrecision(3)));
      this.limits[kind.key] = readLimit(limit.value);
      this.problem = "";
      this.redraw();
    };
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      canvas.setPointerCapture(event.pointerId);
      take(event);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (canvas.hasPointerCapture(event.pointerId)) take(event);
    });
  }
}

function drawHistogram(surface: Surface, data: Histogram, theme: Theme, kind: Kind, limit: number | null): void {
  const context = surface.begin();
  const { width, height } = surface;
  const titled = height >= LEAST_TITLED;
  const bottom = height - (titled ? 29 : 16);
  const top = 14;
  context.font = `10px ${theme.font}`;
  context.textBaseline = "alphabetic";
  context.strokeStyle = theme.line2;
  context.lineWidth = 1;
  context.beginPath();
  context.moveTo(0, bottom + 0.5);
  context.lineTo(width, bottom + 0.5);
  context.stroke();
  if (data.count === 0) {
    context.fillStyle = theme.fg3;
    context.textAlign = "center";
    context.fillText("nothing yet", width / 2, (top + bottom) / 2 + 4);
    return;
  }
  const tallest = Math.max(...data.bins);
  const step = width / data.bins.length;
  context.fillStyle = kind.colour(theme);
  data.bins.forEach((n, i) => {
    if (n === 0) return;
    const size = Math.max(1.5, ((bottom - top) * n) / tallest);
    // What is beyond the limit is paler: the line alone is thin.
    context.globalAlpha = limit !== null && (i + 0.5) / data.bins.length > placeOf(data, limit) ? 0.4 : 1;
    context.fillRect(i * step + 0.5, bottom - size, Math.max(1, step - 1), size);
  });
  context.globalAlpha = 1;
  drawAxis(context, data, theme, width, bottom);
  if (titled) {
    context.textAlign = "center";
    const told = `${kind.name} in ms of ${count(data.count, kind.sample)}, ${int(tallest)} in the tallest bar`;
    context.fillText(told, width / 2, height - 4, width);
  }
  let free = -1;
  let limitBox: readonly [left: number, width: number] | null = null;
  const label = (text: string, x: number, ink: string): void => {
    const size = context.measureText(text).width;
    const left = Math.max(0, Math.min(width - size, x - size / 2));
    if (left < free || (limitBox !== null && left < limitBox[0] + limitBox[1] + 3 && limitBox[0] < left + size + 3))
      return;
    context.fillStyle = ink;
    context.textAlign = "left";
    context.fillText(text, left, top - 5);
    free = left + size + 3;
  };
  const line = (x: number, ink: string, dash: number[], thick: number): void => {
    context.strokeStyle = ink;
    context.lineWidth = thick;
    context.setLineDash(dash);
    context.beginPath();
    context.moveTo(Math.round(x) + 0.5, top - 2);
    context.lineTo(Math.round(x) + 0.5, bottom);
    context.stroke();
    context.setLineDash([]);
  };
  const limitAt = limit === null ? null : Math.min(width - 2, placeOf(data, limit) * width);
  const word = limit !== null && limit > data.hi ? "limit →" : "limit";
  if (limitAt !== null) {
    const size = context.measureText(word).width;
    limitBox = [Math.max(0, Math.min(width - size, limitAt - size / 2)), size];
  }
  for (const p of PERCENTILES) {
    const x = Math.min(width - 1, placeOf(data, data[p]) * width);
    const dash = p === "p50" ? [] : p === "p95" ? [4, 3] : [1.5, 2.5];
    line(x, css(rgb(theme.fg), p === "p50" ? 0.9 : 0.6), dash, 1);
    label(p, x, theme.fg2);
  }
  if (limitAt === null || limitBox === null) return;
  line(limitAt, theme.danger, [], 2);
  context.fillStyle = theme.danger;
  context.textAlign = "left";
  context.fillText(word, limitBox[0], top - 5);
}

/** Round numbers of ms under the bars, and where the last bar holds all that is slower still. */
function drawAxis(
  context: CanvasRenderingContext2D,
  data: Histogram,
  theme: Theme,
  width: number,
  bottom: number,
): void {
  const end = data.beyond > 0 ? `${millis(data.hi)} and more` : null;
  const room = end === null ? width : width - context.measureText(end).width - 8;
  context.fillStyle = theme.fg3;
  context.strokeStyle = theme.line2;
  const values =
    data.scale === "linear" ? ticks(0, data.hi * 1e3, width / 60, false) : logTicks(data.lo * 1e3, data.hi * 1e3);
  let free = 0;
  for (const value of values) {
    const x = placeOf(data, value / 1e3) * width;
    const text = String(Number(value.toPrecision(6)));
    const size = context.measureText(text).width;
    const left = Math.max(0, Math.min(width - size, x - size / 2));
    if (left + size > room) break;
    if (left < free) continue;
    free = left + size + 6;
    context.textAlign = "left";
    context.fillText(text, left, bottom + 13);
    if (x < 1) continue;
    context.beginPath();
    context.moveTo(Math.round(x) + 0.5, bottom);
    context.lineTo(Math.round(x) + 0.5, bottom + 4);
    context.stroke();
  }
  if (end === null) return;
  context.textAlign = "right";
  context.fillText(end, width, bottom + 13);
}
