// Kernels: where the time of the step at the cursor went, what it read and computed, and how near the limit it came.

import { count, int, byteSize, millis, percent } from "../format.ts";
import type { MachineLimits } from "../protocol.ts";
import { duration } from "../step_summary.ts";
import { h, setAttribute, setProperty, setText } from "../ui/dom.ts";
import { emptyState } from "../ui/empty_state.ts";
import { HoverCard } from "../ui/hover_card.ts";
import type { View, ViewContext } from "../ui/stage.ts";
import { Surface } from "../ui/surface.ts";
import type { Theme } from "../ui/theme.ts";
import { batchOf, kernelParts, type Part } from "./kernel_rows.ts";
import { drawRoofline, partColour, pointCard, type RoofPoint } from "./roofline_chart.ts";

const PHASES = ["schedule", "prepare", "forward", "sample", "update"] as const;
/** Of the work; in a narrow panel each row names them itself. */
const COLUMNS = ["reads", "computes", "at least", "bound by"];

export function kernelsView(element: HTMLElement, context: ViewContext): View {
  return new KernelsView(element, context);
}

class KernelsView implements View {
  readonly early = true;
  private readonly context: ViewContext;
  private readonly total = h("div", { class: "iw-total" });
  private readonly bar = h("div", { class: "iw-bar", role: "img" }, ...PHASES.map(() => h("i")));
  private readonly times = h("div", { class: "iw-legend iw-phases", "data-testid": "kernels-times" });
  private readonly work = h("table", { class: "iw-ledger iw-work", "data-testid": "kernels-work" });
  private readonly note = h("div", { class: "iw-facts", "data-testid": "kernels-note" });
  private readonly measure: HTMLButtonElement;
  private readonly told = h("span", { class: "iw-dim", role: "status", "data-testid": "kernels-told" });
  private readonly stage = h("div", { class: "iw-roofline" });
  private readonly legend = h(
    "div",
    { class: "iw-dim" },
    "Rings: the most that each part could do. Dot: what the forward did.",
  );
  private readonly surface: Surface;
  private points: readonly RoofPoint[] = [];
  private readonly box: HTMLElement;
  private readonly empty = emptyState(
    "No step yet",
    "Each step tells here where its time went, what it read and what it computed.",
  );
  private failure = "";

  constructor(element: HTMLElement, context: ViewContext) {
    this.context = context;
    const { session } = context;
    this.measure = h(
      "button",
      {
        type: "button",
        class: "iw-button",
        "data-testid": "kernels-measure",
        title: "Time copies and matrix products for about two seconds; best while the engine is paused or idle",
        onclick: () => {
          this.failure = "";
          const running = session.store.status?.jobs?.limits?.state === "running";
          session.command(running ? "measure_machine_stop" : "measure_machine", {}).catch((error: Error) => {
            this.failure = error.message;
            context.invalidate();
          });
        },
      },
      "Measure this machine",
    );
    for (const phase of PHASES) {
      const [swatch, value] = [h("i", { class: "iw-chip" }), h("b")];
      this.times.append(h("span", {}, swatch, `${phase} `, value));
    }
    this.work.append(
      h("thead", {}, h("tr", {}, ...["part", ...COLUMNS].map((text) => h("th", { scope: "col" }, text)))),
      h("tbody"),
    );
    const actions = h("div", { class: "iw-kernels-actions" }, this.measure, this.told);
    this.box = h(
      "div",
      { class: "iw-kernels", "data-testid": "kernels" },
      this.total,
      this.bar,
      this.times,
      this.work,
      this.note,
      this.stage,
      this.legend,
      actions,
    );
    element.append(this.box, this.empty);
    this.surface = new Surface(this.stage, "Roofline of the step", () => context.invalidate());
    const card = new HoverCard(this.stage);
    this.surface.canvas.addEventListener("pointermove", (event) => {
      const { x, y } = this.surface.locate(event);
      const found = pointCard(this.points, x, y, context.theme());
      if (found === null) card.hide();
      else card.show(event, found);
    });
    this.surface.canvas.addEventListener("pointerleave", () => card.hide());
  }

  draw(): void {
    const { session } = this.context;
    const { store } = session;
    const theme = this.context.theme();
    const record = store.stepAt(session.cursor)?.record ?? null;
    const limits = store.status?.limits ?? null;
    const sizes = store.status?.work ?? null;
    const parts = record === null || sizes === null ? [] : kernelParts(record, sizes, limits);
    this.stage.hidden = this.legend.hidden = limits === null || parts.length === 0;
    // The canvas first: text on it is dear once the document has changed.
    this.points = this.stage.hidden ? [] : drawRoofline(this.surface, parts, record!.times.forward, limits!, theme);
    this.box.hidden = record === null;
    this.empty.hidden = record !== null;
    if (record === null) return;
    this.drawTimes(record.times, theme);
    const { tokens, requests } = batchOf(record);
    const what = tokens === 0 ? "nobody computed" : `${count(tokens, "token")} of ${count(requests, "request")}`;
    setText(this.total, `Step ${int(record.step)}: ${millis(duration(record.times))} · ${what}`);
    this.drawWork(parts, record.times.forward, theme);
    setText(this.note, this.noteOf(tokens, parts, record.times.forward, limits));
    this.drawActions(limits);
    if (!this.stage.hidden) setAttribute(this.surface.canvas, "aria-label", `Roofline. ${this.note.textContent}`);
  }

  destroy(): void {
    this.surface.destroy();
  }

  private drawTimes(times: Readonly<Record<(typeof PHASES)[number], number>>, theme: Theme): void {
    const whole = PHASES.reduce((sum, phase) => sum + times[phase], 0);
    PHASES.forEach((phase, i) => {
      const colour = theme.phases[phase];
      const piece = this.bar.children[i] as HTMLElement;
      setProperty(piece, "flex-grow", whole > 0 ? (times[phase] / whole).toFixed(4) : "0");
      setProperty(piece, "--piece", colour);
      const [swatch, value] = this.times.children[i]!.children as unknown as [HTMLElement, HTMLElement];
      setProperty(swatch, "--chip", colour);
      setText(value, whole > 0 ? `${millis(times[phase])} (${percent(times[phase] / whole)})` : millis(times[phase]));
    });
    setAttribute(this.bar, "aria-label", PHASES.map((phase) => `${phase} ${millis(times[phase])}`).join(", "));
  }

  private drawWork(parts: readonly Part[], forward: number, theme: Theme): void {
    this.work.hidden = parts.length === 0;
    const body = this.work.tBodies[0]!;
    while (body.rows.length < parts.length) {
      body.append(h("tr", {}, h("td"), ...COLUMNS.map((text) => h("td", { class: "iw-num", "data-label": text }))));
    }
    parts.forEach((part, i) => {
      const [name, reads, computes, least, bound] = body.rows[i]!.cells;
      if (name!.firstElementChild === null) name!.append(h("span", { class: "iw-chip" }), h("span"));
      setProperty(name!.firstElementChild as HTMLElement, "--chip", partColour(theme, part.name));
      setText(name!.lastElementChild!, part.name);
      setText(reads!, byteSize(part.bytes));
      setText(computes!, `${(part.flops / 1e6).toFixed(1)} MFLOP`);
      setText(least!, part.limit === null ? "–" : millis(part.limit));
      setText(bound!, part.bound ?? "–");
      setAttribute(body.rows[i]!, "title", part.name === "forward" ? `took ${millis(forward)}` : "");
    });
  }

  private noteOf(tokens: number, parts: readonly Part[], forward: number, limits: MachineLimits | null): string {
    if (tokens === 0) return "Nothing was read or computed in this step.";
    if (parts.length === 0) {
      return this.context.session.interactive
        ? "This engine has no model, so there are no bytes and operations to count."
        : "What a step read and computed is not in a saved trace; llm.roofline(step) tells it while the engine lives.";
    }
    if (limits === null) return "How near this is to the machine's limit shows once the machine was measured.";
    const whole = parts.at(-1)!;
    const reached = `The forward took ${millis(forward)}, ${percent(whole.limit! / forward)} of the limit.`;
    const cached = whole.limit! > forward ? " Above 100 %: what it read came from a cache, not from memory." : "";
    return `${reached}${cached} Its parts are timed one by one by llm.roofline().`;
  }

  private drawActions(limits: MachineLimits | null): void {
    const { session } = this.context;
    const { store } = session;
    const job = store.status?.jobs?.limits;
    const running = job?.state === "running";
    this.measure.hidden = !session.commandable || (store.status?.work ?? null) === null;
    setText(this.measure, running ? "Stop measuring" : limits === null ? "Measure this machine" : "Measure again");
    const machine =
      limits === null
        ? ""
        : `${limits.device}, ${count(limits.threads, "thread")}: copies ${(limits.copy_bandwidth / 1e9).toFixed(1)} GB/s, ` +
          `multiplies ${int(limits.matmul_peak / 1e9)} GFLOP/s in ${limits.dtype}`;
    const busy = `Measuring … ${int(job?.done ?? 0)} of ${int(job?.total ?? 0)} rounds`;
    setText(this.told, this.failure || job?.message || (running ? busy : machine));
  }
}
