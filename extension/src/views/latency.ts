// Latency: how long to the first token, and from token to token?

import { count, millis } from "../format.ts";
import type { Series } from "../series.ts";
import { h, setText } from "../ui/dom.ts";
import type { View, ViewContext } from "../ui/stage.ts";
import { Surface } from "../ui/surface.ts";
import { css, rgb, type Theme } from "../ui/theme.ts";
import { type Histogram, histogram } from "./histogram.ts";

const PERCENTILES = ["p50", "p95", "p99"] as const;
/** Shortest time between two draws while live, in ms: sorting tens of thousands of samples is not free. */
const DRAW_EVERY = 250;

interface Chart {
  readonly surface: Surface;
  readonly figures: readonly HTMLElement[];
  readonly total: HTMLElement;
  readonly pick: (store: { ttft: Series; itl: Series }) => Series;
  readonly colour: (theme: Theme) => string;
}

export function latencyView(element: HTMLElement, context: ViewContext): View {
  return new LatencyView(element, context);
}

class LatencyView implements View {
  readonly early = true;
  private readonly context: ViewContext;
  private readonly charts: readonly Chart[];
  private drawn = 0;
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(element: HTMLElement, context: ViewContext) {
    this.context = context;
    const box = h("div", { class: "iw-latency", "data-testid": "latency" });
    element.append(box);
    this.charts = [
      this.chart(
        box,
        "TTFT",
        "time to first token",
        (s) => s.ttft,
        (t) => t.prefill,
      ),
      this.chart(
        box,
        "ITL",
        "time between tokens",
        (s) => s.itl,
        (t) => t.decode,
      ),
    ];
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
    const all = this.charts.map((chart) => {
      const bars = Math.max(8, Math.min(48, Math.floor(chart.surface.width / 7)));
      const data = histogram(chart.pick(session.store).upTo(until), bars);
      drawHistogram(chart.surface, data, theme, chart.colour(theme));
      return data;
    });
    this.charts.forEach((chart, c) => {
      const data = all[c]!;
      PERCENTILES.forEach((p, i) => setText(chart.figures[i]!, millis(data[p])));
      setText(chart.total, count(data.count, "sample"));
    });
  }

  destroy(): void {
    clearTimeout(this.timer);
    for (const { surface } of this.charts) surface.destroy();
  }

  private chart(box: HTMLElement, name: string, meaning: string, pick: Chart["pick"], colour: Chart["colour"]): Chart {
    const figures = PERCENTILES.map(() => h("b"));
    const total = h("span", { class: "iw-dim" });
    const stage = h("div", { class: "iw-histogram" });
    box.append(
      h(
        "section",
        { "data-testid": `latency-${name.toLowerCase()}` },
        h("header", {}, h("strong", {}, name), h("span", { class: "iw-dim" }, meaning), total),
        h("div", { class: "iw-figures" }, ...PERCENTILES.map((p, i) => h("span", {}, `${p} `, figures[i]!))),
        stage,
      ),
    );
    const surface = new Surface(stage, `Histogram of ${meaning}`, () => {
      this.drawn = 0;
      this.context.invalidate();
    });
    return { surface, figures, total, pick, colour };
  }
}

function drawHistogram(surface: Surface, data: Histogram, theme: Theme, colour: string): void {
  const context = surface.begin();
  const { width, height } = surface;
  const bottom = height - 16;
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
    context.fillText("no tokens yet", width / 2, (top + bottom) / 2 + 4);
    return;
  }
  const tallest = Math.max(...data.bins);
  const step = width / data.bins.length;
  context.fillStyle = colour;
  data.bins.forEach((n, i) => {
    if (n === 0) return;
    const size = Math.max(1.5, ((bottom - top) * n) / tallest);
    context.fillRect(i * step + 0.5, bottom - size, Math.max(1, step - 1), size);
  });
  context.fillStyle = theme.fg3;
  context.textAlign = "left";
  context.fillText("0", 0, height - 4);
  context.textAlign = "right";
  const end = data.beyond > 0 ? `${millis(data.hi)} and more` : millis(data.hi);
  context.fillText(end, width, height - 4);
  let free = -1;
  for (const p of PERCENTILES) {
    const x = Math.min(width - 1, (data[p] / data.hi) * width);
    context.strokeStyle = css(rgb(theme.fg), p === "p50" ? 0.9 : 0.6);
    context.setLineDash(p === "p50" ? [] : p === "p95" ? [4, 3] : [1.5, 2.5]);
    context.beginPath();
    context.moveTo(Math.round(x) + 0.5, top - 2);
    context.lineTo(Math.round(x) + 0.5, bottom);
    context.stroke();
    const size = context.measureText(p).width;
    const left = Math.max(0, Math.min(width - size, x - size / 2));
    if (left < free) continue;
    context.fillStyle = theme.fg2;
    context.textAlign = "left";
    context.fillText(p, left, top - 5);
    free = left + size + 3;
  }
  context.setLineDash([]);
}
