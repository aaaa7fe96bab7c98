// Draws a waterfall: a row for each thing that took time before the first token, bars that lead to their steps.

import { count, int, percent, seconds } from "../format.ts";
import { type Reason, WAITING_FOR } from "../generated.ts";
import type { Theme } from "../ui/theme.ts";
import { h, setAttribute, setProperty, setText } from "../ui/dom.ts";
import type { CardLine, HoverCard } from "../ui/hover_card.ts";
import type { Cursor } from "../trace_types.ts";
import type { WaterfallSegment } from "../waterfall.ts";
import { type WaterfallBar, type WaterfallRow, waterfallRows } from "./waterfall_rows.ts";

export interface WaterfallOptions {
  readonly card: HoverCard;
  /** Where the bars lead; null if their steps cannot be visited. */
  readonly visit: ((step: number) => void) | null;
  /** The colour of a row's bars. */
  colour(row: WaterfallRow): string;
}

export interface WaterfallContent {
  readonly segments: readonly WaterfallSegment[];
  /** False while the first token is still to come. */
  readonly complete: boolean;
  /** Seconds that the picture is wide; the segments' own length if left out. */
  readonly scale?: number;
}

interface DrawnBar {
  readonly element: HTMLButtonElement;
  readonly bar: WaterfallBar;
}

export class Waterfall {
  readonly element = h("div", { class: "iw-waterfall", "data-testid": "waterfall" });
  private readonly head = h("div", { class: "iw-waterfall-head" });
  private readonly list = h("div", { class: "iw-waterfall-rows" });
  private readonly options: WaterfallOptions;
  private bars: DrawnBar[] = [];
  private rows: readonly { row: WaterfallRow; element: HTMLElement }[] = [];
  private shown: readonly WaterfallSegment[] | null = null;

  constructor(options: WaterfallOptions) {
    this.options = options;
    this.element.append(this.head, this.list);
    this.element.addEventListener("pointerleave", () => options.card.hide());
  }

  draw(content: WaterfallContent, cursor: Cursor): void {
    if (content.segments !== this.shown) {
      this.shown = content.segments;
      this.build(content);
    }
    for (const { row, element } of this.rows) setProperty(element, "--swatch", this.options.colour(row));
    for (const { element, bar } of this.bars) {
      const here = cursor !== "live" && cursor >= bar.firstStep && cursor <= bar.lastStep;
      setAttribute(element, "aria-pressed", String(here));
      element.classList.toggle("iw-future", cursor !== "live" && bar.firstStep > cursor);
    }
  }

  private build({ segments, complete, scale }: WaterfallContent): void {
    const rows = waterfallRows(segments);
    const total = segments.reduce((sum, s) => sum + s.seconds, 0);
    setText(
      this.head,
      complete ? `First token ${seconds(total)} after arrival` : `No token yet, ${seconds(total)} so far`,
    );
    this.bars = [];
    this.rows = rows.map((row) => ({ row, element: this.row(row, total, Math.max(scale ?? total, 1e-9)) }));
    this.list.replaceChildren(...this.rows.map(({ element }) => element));
    this.options.card.hide();
  }

  private row(row: WaterfallRow, total: number, scale: number): HTMLElement {
    const lane = h("span", { class: "iw-waterfall-lane" });
    for (const bar of row.bars) lane.append(this.bar(row, bar, total, scale));
    const amount = `${seconds(row.seconds)} · ${percent(total > 0 ? row.seconds / total : 0)}`;
    return h(
      "div",
      { class: "iw-waterfall-row", "data-kind": row.kind },
      h("span", { class: "iw-waterfall-label", title: row.label }, row.label),
      lane,
      h("span", { class: "iw-num" }, amount),
    );
  }

  private bar(row: WaterfallRow, bar: WaterfallBar, total: number, scale: number): HTMLButtonElement {
    const { card, visit } = this.options;
    const kind = row.kind === "prefill" ? "solid" : row.kind === "neighbour" ? "prefill" : "wait";
    const steps =
      bar.numSteps > 1 ? `steps ${int(bar.firstStep)} to ${int(bar.lastStep)}` : `step ${int(bar.firstStep)}`;
    const element = h("button", {
      type: "button",
      class: `iw-swatch iw-${kind}`,
      style: `left:${(100 * bar.from) / scale}%;width:${(100 * (bar.to - bar.from)) / scale}%`,
      "aria-label": `${row.label}, ${seconds(bar.seconds)}, ${steps}`,
      "data-step": bar.firstStep,
      onpointermove: (event: PointerEvent) => {
        const lines: CardLine[] = [
          ["took", seconds(bar.seconds)],
          ["of the time to first token", percent(total > 0 ? bar.seconds / total : 0)],
          ["from", `${seconds(bar.from)} after arrival`],
          [bar.numSteps > 1 ? "steps" : "step", bar.numSteps > 1 ? steps.slice(6) : int(bar.firstStep)],
        ];
        if (bar.tokens > 0) lines.push(["computed", count(bar.tokens, "token")]);
        card.show(event, { title: row.label, colour: this.options.colour(row), lines, ...note(row) });
      },
      onpointerleave: () => card.hide(),
      onclick: () => visit?.(bar.firstStep),
    });
    element.disabled = visit === null;
    this.bars.push({ element, bar });
    return element;
  }
}

function note(row: WaterfallRow): { note?: string } {
  if (row.kind === "neighbour")
    return { note: "A step's time is split by the tokens that each request computed in it." };
  if (row.kind === "prefill") return { note: "Its own share of the steps that computed its prompt, by tokens." };
  return {};
}

const REASONS_BY_LABEL = new Map(
  Object.entries(WAITING_FOR).map(([reason, label]) => [`waits ${label}`, reason as Reason]),
);

/** A wait has its reason's colour, computing the request's; `request` gives it, asked for "" by its own share. */
export function waterfallColour(theme: Theme, row: WaterfallRow, request: (id: string) => string): string {
  if (row.kind === "queue") {
    const reason = REASONS_BY_LABEL.get(row.label);
    return reason === undefined ? theme.fg3 : theme.reason(reason);
  }
  if (row.kind === "preempted") return theme.danger;
  return row.kind === "neighbour" && row.other === "" ? theme.fg3 : request(row.kind === "prefill" ? "" : row.other);
}
