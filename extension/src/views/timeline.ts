// Batch timeline: what ran together, how many tokens against which budget, how long, and who waited for what?

import { count, int, percent, seconds } from "../format.ts";
import type { Reason } from "../generated.ts";
import { actionLabel, explain, explainEnding, reasonLabel } from "../reasons.ts";
import type { RequestInfo, Step } from "../trace_types.ts";
import { h } from "../ui/dom.ts";
import { emptyState } from "../ui/empty_state.ts";
import { type CardLine, HoverCard } from "../ui/hover_card.ts";
import { segmented } from "../ui/segmented.ts";
import type { View, ViewContext } from "../ui/stage.ts";
import { Surface } from "../ui/surface.ts";
import { css, rgb, type Theme } from "../ui/theme.ts";
import { BarRaster } from "./bar_raster.ts";
import { type AxisUnit, ticks, TimelineAxis } from "./timeline_axis.ts";
import { drawRows, layoutRows, type RowLayout } from "./timeline_rows.ts";
import { drawStripFrame, STRIP_GAP, stripLayout, type StripStyle } from "./timeline_strips.ts";

const AXIS_HEIGHT = 22;
/** Under the axis at least this much is for the requests' rows, whatever the strips want. */
const LEAST_ROWS = 44;
/** However low a panel is, so much of it is for the requests' rows. */
const ROWS_SHARE = 0.3;

function roomForStrips(height: number): number {
  return height - AXIS_HEIGHT - Math.max(LEAST_ROWS, ROWS_SHARE * height);
}

export function timelineView(element: HTMLElement, context: ViewContext): View {
  return new TimelineView(element, context);
}

class TimelineView implements View {
  readonly early = true;
  private readonly context: ViewContext;
  private readonly surface: Surface;
  private readonly card: HoverCard;
  private readonly axis = new TimelineAxis();
  private readonly bars = new BarRaster();
  private readonly legend = h("div", { class: "iw-legend" });
  private readonly empty = emptyState("No steps yet", "Type a prompt in the playground, or run", "llm.generate(…)");
  private readonly stage: HTMLElement;
  private readonly followButton: HTMLButtonElement;
  private rows: RowLayout | null = null;
  private scroll = 0;
  private pointer: PointerEvent | null = null;
  private drag: { x: number; y: number; moved: boolean; scroll: number } | null = null;
  private seenCursor: number | "live" = "live";
  private legendKey = "";
  private readonly reasons = new Set<Reason>();

  constructor(element: HTMLElement, context: ViewContext) {
    this.context = context;
    const units = segmented<AxisUnit>(
      "Axis",
      [
        ["step", "steps", "Every step equally wide"],
        ["time", "time", "True to the clock, pauses included"],
      ],
      "step",
      (unit) => {
        this.axis.setUnit(unit, context.session.store);
        context.invalidate();
      },
    );
    const button = (text: string, label: string, id: string, click: () => void): HTMLButtonElement =>
      h(
        "button",
        {
          type: "button",
          class: "iw-button",
          title: label,
          "aria-label": `${text}: ${label}`,
          "data-testid": id,
          onclick: click,
        },
        text,
      );
    this.followButton = button("Follow", "Keep the newest step in view", "timeline-follow", () => {
      this.axis.follow = true;
      this.axis.track(context.session.store);
      context.invalidate();
    });
    const buttons = h(
      "div",
      { class: "iw-buttons" },
      this.followButton,
      button("−", "Zoom out", "zoom-out", () => this.zoom(1.6)),
      button("+", "Zoom in", "zoom-in", () => this.zoom(1 / 1.6)),
      button("Fit", "Show the whole run", "zoom-fit", () => {
        this.axis.fit(context.session.store);
        context.invalidate();
      }),
    );
    this.stage = h("div", { class: "iw-stage iw-timeline", tabindex: "0", role: "group", "data-testid": "timeline" });
    this.stage.setAttribute("aria-label", "Timeline. Arrow keys move the time cursor, plus and minus zoom.");
    element.append(h("div", { class: "iw-toolbar" }, units, this.legend, buttons), this.stage);
    this.stage.append(this.empty);
    this.surface = new Surface(this.stage, "Timeline of requests and steps", () => context.invalidate());
    this.card = new HoverCard(this.stage);
    this.listen();
  }

  draw(): void {
    const { session } = this.context;
    const { store } = session;
    const theme = this.context.theme();
    const context = this.surface.begin();
    this.empty.hidden = store.steps.length > 0;
    if (store.steps.length === 0) {
      return;
    }
    this.place();
    const selected = store.requests.get(session.selection.request ?? "") ?? null;
    const lit = session.hovered ?? session.selection.request;
    const litHere = lit !== null && this.rows!.requests.some((r) => r.id === lit) ? lit : null;
    this.drawAxis(theme);
    drawRows(this.rows!, this.axis, {
      context,
      theme,
      scale: this.surface.scale,
      lit: litHere,
      selected: selected?.id ?? null,
    });
    this.drawStrips({ context, bars: this.bars, theme, axis: this.axis, store, selected });
    this.drawCursor(theme);
    this.drawLegend(theme);
    this.followButton.classList.toggle("iw-quiet", this.axis.follow);
    if (this.pointer !== null && this.drag?.moved !== true) this.showCard(this.pointer);
  }

  destroy(): void {
    this.surface.destroy();
  }

  /** Where axis, rows and strips lie in the present size, and which part of the run is in view. */
  private place(): void {
    const { session } = this.context;
    const { width, height } = this.surface;
    this.axis.left = width < 620 ? 84 : 150;
    this.axis.right = width - 14;
    if (session.cursor !== this.seenCursor) {
      this.seenCursor = session.cursor;
      if (session.cursor === "live") this.axis.follow = true;
      else {
        const step = session.store.stepAt(session.cursor);
        if (step !== null) this.axis.reveal((this.axis.stepStart(step) + this.axis.stepEnd(step)) / 2);
      }
    }
    this.axis.track(session.store);
    const { strips, pitch } = stripLayout(roomForStrips(height));
    const room = Math.max(30, height - AXIS_HEIGHT - strips.length * pitch - 10);
    this.rows = layoutRows(session.store, this.axis, AXIS_HEIGHT + 2, room, this.scroll);
  }

  private drawAxis(theme: Theme): void {
    const { context, height } = this.surface;
    const { axis } = this;
    context.font = `10px ${theme.font}`;
    context.textBaseline = "middle";
    context.textAlign = "center";
    context.lineWidth = 1;
    const wanted = Math.max(2, (axis.right - axis.left) / 95);
    for (const value of ticks(axis.lo, axis.hi, wanted, axis.unit === "step")) {
      const x = Math.round(axis.x(axis.unit === "step" ? value + 0.5 : value)) + 0.5;
      if (x < axis.left + 4 || x > axis.right - 4) continue;
      context.strokeStyle = theme.line;
      context.beginPath();
      context.moveTo(x, AXIS_HEIGHT - 3);
      context.lineTo(x, height);
      context.stroke();
      context.fillStyle = theme.fg3;
      context.fillText(axis.unit === "step" ? int(value) : seconds(value), x, 9);
    }
    context.textAlign = "left";
    context.fillStyle = theme.fg3;
    const name = axis.unit === "step" ? "step" : "engine time";
    // In a narrow timeline the place is wanted for how many requests are above.
    if (axis.left > 120 || this.rows!.above === 0) context.fillText(name, 8, 9);
  }

  private drawStrips(style: StripStyle): void {
    const { axis, surface } = this;
    const { context, bars, store } = style;
    const { strips, pitch } = stripLayout(roomForStrips(surface.height));
    if (strips.length === 0) return;
    const at = this.pointedStep() ?? store.stepAt(this.context.session.cursor);
    const height = pitch - STRIP_GAP;
    const [left, width] = [axis.left, axis.right - axis.left];
    const topOf = (i: number): number => surface.height - (strips.length - i) * pitch + STRIP_GAP - 2;
    bars.begin(left, topOf(0), width, surface.height - topOf(0), surface.scale);
    strips.forEach((strip, i) => {
      drawStripFrame(style, strip, at, topOf(i), height);
      strip.drawBars(style, topOf(i), height);
    });
    bars.draw(context);
    context.save();
    context.beginPath();
    context.rect(left, topOf(0), width, surface.height);
    context.clip();
    strips.forEach((strip, i) => strip.drawLines?.(style, topOf(i), height));
    context.restore();
  }

  private drawCursor(theme: Theme): void {
    const { session } = this.context;
    const { context, height } = this.surface;
    const { axis } = this;
    const pointed = this.pointedStep();
    if (pointed !== null) {
      const x0 = axis.x(axis.stepStart(pointed));
      const x1 = axis.x(axis.stepEnd(pointed));
      context.fillStyle = css(rgb(theme.fg), 0.1);
      context.fillRect(x0, AXIS_HEIGHT - 3, Math.max(1, x1 - x0), height);
    }
    if (session.cursor === "live") return;
    const step = session.store.stepAt(session.cursor);
    if (step === null) return;
    const x0 = axis.x(axis.stepStart(step));
    const x1 = axis.x(axis.stepEnd(step));
    if (x1 < axis.left || x0 > axis.right) return;
    context.fillStyle = css(rgb(theme.accent), 0.22);
    if (x1 - x0 > 3) context.fillRect(x0, AXIS_HEIGHT - 3, x1 - x0, height);
    const x = Math.round((x0 + x1) / 2) + 0.5;
    context.strokeStyle = theme.accent;
    context.lineWidth = 1.5;
    context.beginPath();
    context.moveTo(x, AXIS_HEIGHT - 5);
    context.lineTo(x, height);
    context.stroke();
    const text = int(session.cursor);
    context.font = `600 11px ${theme.font}`;
    const width = context.measureText(text).width + 12;
    const left = Math.max(axis.left, Math.min(axis.right - width, x - width / 2));
    context.fillStyle = theme.accent;
    context.beginPath();
    context.roundRect(left, 0, width, 17, 4);
    context.fill();
    context.fillStyle = "#ffffff";
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.fillText(text, left + width / 2, 9);
  }

  /** Only what has been seen is explained; entries stay, so that the canvas below keeps its place. */
  private drawLegend(theme: Theme): void {
    const { store } = this.context.session;
    const [first, last] = this.axis.visible(store);
    const stride = Math.max(1, Math.floor((last - first + 1) / 800));
    for (let i = first; i <= last; i += stride)
      for (const reason of store.steps[i]!.waits.keys()) this.reasons.add(reason);
    const reasons = [...this.reasons].sort();
    const key = `${reasons.join()} ${theme.dark}`;
    if (key === this.legendKey) return;
    this.legendKey = key;
    const item = (kind: string, colour: string, text: string): HTMLElement =>
      h("span", {}, h("i", { class: `iw-swatch iw-${kind}`, style: `--swatch:${colour}` }), text);
    this.legend.replaceChildren(
      item("prefill", theme.prefill, "prefill"),
      item("solid", theme.decode, "decode"),
      h("span", {}, h("i", { class: "iw-cross", style: `color:${theme.danger}` }, "×"), "preempted"),
      item("budget", theme.danger, "token budget"),
      item("end", theme.fg2, "end"),
      ...(reasons.length > 0 ? [h("span", { class: "iw-dim" }, "waits for")] : []),
      ...reasons.map((reason) => item("wait", theme.reason(reason), reasonLabel(reason))),
    );
  }

  private listen(): void {
    const { session } = this.context;
    const { canvas } = this.surface;
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      canvas.setPointerCapture(event.pointerId);
      this.drag = { x: event.clientX, y: event.clientY, moved: false, scroll: this.scroll };
    });
    canvas.addEventListener("pointermove", (event) => {
      this.pointer = event;
      if (this.drag !== null) this.pan(event);
      else session.hover(this.rowUnder(event)?.id ?? null);
      this.context.invalidate();
    });
    canvas.addEventListener("pointerup", (event) => {
      if (this.drag?.moved === false) this.pick(event);
      this.drag = null;
    });
    canvas.addEventListener("pointercancel", () => {
      this.drag = null;
    });
    canvas.addEventListener("pointerleave", () => {
      this.pointer = null;
      this.card.hide();
      session.hover(null);
      this.context.invalidate();
    });
    canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    this.stage.addEventListener("keydown", (event) => {
      const move = { ArrowLeft: -1, ArrowRight: 1, PageUp: -16, PageDown: 16 }[event.key];
      if (move !== undefined) session.moveCursor(move);
      else if (event.key === "+" || event.key === "=") this.zoom(1 / 1.6);
      else if (event.key === "-") this.zoom(1.6);
      else return;
      event.preventDefault();
      event.stopPropagation();
    });
  }

  private pan(event: PointerEvent): void {
    const drag = this.drag!;
    const dx = event.clientX - drag.x;
    if (!drag.moved && Math.hypot(dx, event.clientY - drag.y) < 4) return;
    drag.moved = true;
    drag.x = event.clientX;
    this.card.hide();
    this.axis.pan(-dx, this.context.session.store);
    if (this.rows !== null) {
      const most = this.rows.above + this.rows.below + this.rows.requests.length;
      const moved = drag.scroll + (event.clientY - drag.y) / this.rows.rowHeight;
      this.scroll = Math.max(-most, Math.min(most, moved));
    }
  }

  /** Sideways pans. Up and down zooms only once the timeline has the focus: a page must scroll past it freely. */
  private wheel(event: WheelEvent): void {
    const { store } = this.context.session;
    if (Math.abs(event.deltaX) > Math.abs(event.deltaY) || event.shiftKey) {
      this.axis.pan(event.deltaX === 0 ? event.deltaY : event.deltaX, store);
    } else if (event.ctrlKey || event.metaKey || this.stage.contains(document.activeElement)) {
      this.axis.zoom(Math.exp(Math.max(-60, Math.min(60, event.deltaY)) * 0.004), this.surface.locate(event).x, store);
    } else {
      return;
    }
    event.preventDefault();
    this.context.invalidate();
  }

  private zoom(factor: number): void {
    const { cursor, store } = this.context.session;
    const step = cursor === "live" ? null : store.stepAt(cursor);
    const at = step === null ? (this.axis.left + this.axis.right) / 2 : this.axis.x(this.axis.stepStart(step));
    this.axis.zoom(factor, at, store);
    this.context.invalidate();
  }

  private pointedStep(): Step | null {
    if (this.pointer === null || this.drag?.moved === true) return null;
    const { x } = this.surface.locate(this.pointer);
    if (x < this.axis.left || x > this.axis.right) return null;
    const { store } = this.context.session;
    return store.steps[this.axis.indexAt(x, store)] ?? null;
  }

  private rowUnder(event: MouseEvent): RequestInfo | null {
    if (this.rows === null) return null;
    const { y } = this.surface.locate(event);
    return this.rows.requests[Math.floor((y - this.rows.top) / this.rows.rowHeight)] ?? null;
  }

  private pick(event: MouseEvent): void {
    const { session } = this.context;
    this.stage.focus({ preventScroll: true });
    const request = this.rowUnder(event);
    const step = this.pointedStep();
    if (request !== null) session.select({ request: request.id });
    if (step !== null) session.setCursor(step.record.step);
  }

  private showCard(event: PointerEvent): void {
    const step = this.pointedStep();
    const request = this.rowUnder(event);
    if (step === null && request === null) {
      this.card.hide();
    } else if (request !== null) {
      this.card.show(event, requestCard(request, step, this.context.theme()));
    } else if (step !== null) {
      this.card.show(event, stepCard(step));
    }
  }
}

function requestCard(request: RequestInfo, step: Step | null, theme: Theme): Parameters<HoverCard["show"]>[1] {
  const lines: CardLine[] = [
    ["prompt", count(request.promptTokenIds.length, "token")],
    ["output", `${int(request.tokens.length)} of up to ${count(request.maxTokens, "token")}`],
  ];
  if (request.preemptions.length > 0) lines.push(["preempted", count(request.preemptions.length, "time")]);
  const decision = step?.record.decisions.find((d) => d.request_id === request.id);
  let note = request.label;
  if (step !== null && decision !== undefined) {
    note = `Step ${int(step.record.step)}, ${actionLabel(decision.action)}: ${explain(decision)}.`;
  } else if (request.ending !== null && (step === null || step.record.step >= request.ending.step)) {
    note = `Step ${int(request.ending.step)}: ${explainEnding(request.ending.reason, request.ending.detail)}.`;
  }
  return { title: request.id, colour: theme.request(request.colour), note, lines };
}

function stepCard(step: Step): Parameters<HoverCard["show"]>[1] {
  const { record } = step;
  const { times } = record;
  const blocks = record.pool.num_blocks;
  return {
    title: `Step ${int(record.step)}`,
    lines: [
      ["tokens", `${int(record.num_scheduled_tokens)} of ${int(record.token_budget)} budget`],
      ["prefill / decode", `${int(step.prefillTokens)} / ${int(step.decodeTokens)}`],
      ["running / waiting", `${int(step.numRunning)} / ${int(step.numWaiting)}`],
      ["KV used", `${int(step.numUsed)} of ${int(blocks)} blocks, ${percent(step.numUsed / blocks)}`],
      ["KV cached", count(step.numCachedFree, "block")],
      ["duration", seconds(step.end - record.time)],
      ["schedule · prepare", `${seconds(times.schedule)} · ${seconds(times.prepare)}`],
      ["forward", seconds(times.forward)],
      ["sample · update", `${seconds(times.sample)} · ${seconds(times.update)}`],
    ],
    ...(record.changes.length === 0
      ? {}
      : {
          note: `Changed before this step: ${record.changes.map((c) => `${c.request_id} ${c.name} = ${c.value}`.trim()).join(", ")}.`,
        }),
  };
}
