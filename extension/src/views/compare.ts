// Two runs: which request gained, which lost and why. A view of plain values, with or without an engine beside it.

import { count, int, percent, seconds } from "../format.ts";
import type { ComparisonData } from "../protocol.ts";
import { colourIndex } from "../request_log.ts";
import { h, setText } from "../ui/dom.ts";
import { HoverCard } from "../ui/hover_card.ts";
import { segmented } from "../ui/segmented.ts";
import type { Theme } from "../ui/theme.ts";
import {
  type CompareOrder,
  type CompareRow,
  compareRows,
  type Measure,
  verdict,
  waterfallsOf,
} from "./compare_rows.ts";
import { Waterfall, waterfallColour } from "./waterfall.ts";

const MAX_ROWS = 200;
const SIGNS = { gained: "▼", lost: "▲", same: "=" } as const;

export class ComparePanel {
  readonly element = h("div", { class: "iw-compare", "data-testid": "compare" });
  private readonly card: HoverCard;
  private readonly theme: () => Theme;
  private readonly visit: ((step: number) => void) | null;
  private readonly head = h("div", { class: "iw-compare-head" });
  private readonly totals = h("table", { class: "iw-ledger", "data-testid": "compare-totals" });
  private readonly rows = h("div", { class: "iw-compare-rows", role: "list" });
  private readonly more = h("div", { class: "iw-more" });
  private data: ComparisonData | null = null;
  private measure: Measure = "e2e";
  private order: CompareOrder = "change";
  private open: string | null = null;
  private shownTheme: Theme | null = null;

  /** visit: where a step of the first run can be looked at, if that run is the one around. */
  constructor(parent: HTMLElement, theme: () => Theme, visit: ((step: number) => void) | null) {
    this.theme = theme;
    this.visit = visit;
    const choices = h(
      "div",
      { class: "iw-compare-choices" },
      segmented(
        "Time",
        [
          ["e2e", "end to end", "From arrival to the end"],
          ["ttft", "first token", "From arrival to the first token"],
        ],
        this.measure,
        (value) => {
          this.measure = value;
          this.build();
        },
      ),
      segmented(
        "Order",
        [
          ["change", "by change", "The greatest gain first"],
          ["arrival", "by name", "In the order of their numbers"],
        ],
        this.order,
        (value) => {
          this.order = value;
          this.build();
        },
      ),
    );
    const top = h("div", { class: "iw-compare-top" }, this.head, this.totals);
    this.element.append(top, choices, this.rows, this.more);
    parent.append(this.element);
    this.card = new HoverCard(parent);
  }

  draw(data: ComparisonData): void {
    const theme = this.theme();
    if (data === this.data && theme === this.shownTheme) return;
    if (data !== this.data) this.open = null;
    this.data = data;
    this.shownTheme = theme;
    this.build();
  }

  private build(): void {
    const { data } = this;
    if (data === null) return;
    this.drawHead(data);
    this.drawTotals(data);
    const all = compareRows(data, this.measure, this.order);
    // Both ends of the order are told: who gained most, and who lost most.
    const shown = all.length <= MAX_ROWS ? all : [...all.slice(0, MAX_ROWS / 2), ...all.slice(-MAX_ROWS / 2)];
    const longest = Math.max(1e-9, ...shown.flatMap((row) => [row.first ?? 0, row.second ?? 0]));
    this.rows.replaceChildren(...shown.flatMap((row) => this.row(data, row, longest)));
    setText(
      this.more,
      all.length > shown.length ? `and ${count(all.length - shown.length, "request")} between them` : "",
    );
  }

  private drawHead(data: ComparisonData): void {
    const side = (index: 0 | 1): HTMLElement => {
      const { name, simulated, fit, messages } = data.sides[index];
      const error =
        fit === null
          ? ""
          : `, its cost model misses a recorded step by ${percent(fit.median)} in the median, ${percent(fit.p95)} at p95`;
      return h(
        "div",
        {},
        h("span", { class: `iw-dot ${index === 0 ? "iw-ring" : ""}` }),
        h("b", {}, name),
        h("span", { class: "iw-dim" }, ` ${simulated ? `simulated${error}` : "measured"}`),
        ...messages.map((message) => h("div", { class: "iw-dim" }, message)),
      );
    };
    const parts = [`${int(data.num_gained)} gained`, `${int(data.num_lost)} lost`, `${int(data.num_same)} the same`];
    if (data.missing.length > 0) parts.push(`${int(data.missing.length)} ended in one run only`);
    const changed = data.settings.map(([name, a, b]) => h("span", { class: "iw-changed" }, `${name} ${a} → ${b}`));
    this.head.replaceChildren(
      h("div", { class: "iw-compare-sides" }, side(0), side(1)),
      h("div", { class: "iw-compare-headline", "data-testid": "compare-headline" }, parts.join(", ")),
      h("div", { class: "iw-row", "data-testid": "compare-settings" }, ...changed),
    );
  }

  private drawTotals(data: ComparisonData): void {
    const value = (v: number | null, unit: string): string =>
      v === null ? "–" : unit === "s" ? seconds(v) : `${int(v)}${unit === "" ? "" : `\u00a0${unit}`}`;
    const dot = (kind: string): HTMLElement => h("td", { class: "iw-num" }, h("span", { class: `iw-dot ${kind}` }));
    this.totals.replaceChildren(
      h("thead", { "aria-hidden": "true" }, h("tr", {}, h("td"), dot("iw-ring"), dot(""), h("td"))),
      h(
        "tbody",
        {},
        ...data.totals.map(([name, unit, a, b, less]) => {
          const change = a === null || b === null || a === 0 ? Number.NaN : b / a - 1;
          const better = change === 0 ? "same" : change < 0 === less ? "gained" : "lost";
          const text = Number.isFinite(change) ? `${change > 0 ? "+" : "−"}${percent(Math.abs(change))}` : "";
          return h(
            "tr",
            {},
            h("td", {}, name),
            h("td", { class: "iw-num" }, value(a, unit)),
            h("td", { class: "iw-num" }, value(b, unit)),
            h("td", { class: "iw-num iw-verdict", "data-verdict": Math.abs(change) < 0.01 ? "same" : better }, text),
          );
        }),
      ),
    );
  }

  private row(data: ComparisonData, row: CompareRow, longest: number): HTMLElement[] {
    const kind = verdict(row);
    const x = (value: number | null): number => (100 * (value ?? 0)) / longest;
    const [a, b] = [x(row.first), x(row.second)];
    const lane = h(
      "span",
      { class: "iw-dumbbell" },
      h("i", { class: "iw-rod", style: `left:${Math.min(a, b)}%;width:${Math.abs(a - b)}%` }),
      h("i", { class: "iw-dot iw-ring", style: `left:${a}%` }),
      h("i", { class: "iw-dot", style: `left:${b}%` }),
    );
    const gain = `${SIGNS[kind]} ${row.gain > 0 ? "−" : "+"}${seconds(Math.abs(row.gain))}`;
    const times = (v: number | null): string => (v === null ? "–" : seconds(v));
    const button = h(
      "button",
      {
        type: "button",
        class: "iw-compare-row",
        "data-verdict": kind,
        "data-testid": `compare-${row.id}`,
        "aria-expanded": String(this.open === row.id),
        title: row.why,
        onclick: () => {
          this.open = this.open === row.id ? null : row.id;
          this.build();
          this.rows.querySelector<HTMLElement>(`[data-testid="compare-${row.id}"]`)?.focus({ preventScroll: true });
        },
      },
      h("b", {}, row.id),
      lane,
      h("span", { class: "iw-num" }, `${times(row.first)} → ${times(row.second)}`),
      h("span", { class: "iw-num iw-verdict", "data-verdict": kind }, kind === "same" ? "= same" : gain),
      h("span", { class: "iw-compare-why" }, row.why),
    );
    return this.open === row.id ? [button, this.both(data, row)] : [button];
  }

  /** The two waterfalls of a request above each other, on one scale. */
  private both(data: ComparisonData, row: CompareRow): HTMLElement {
    const found = waterfallsOf(data, row.id);
    const element = h("div", { class: "iw-compare-both", "data-testid": "compare-waterfalls" });
    if (found === null) {
      element.append(h("p", { class: "iw-dim" }, "Waterfalls are kept for the requests that changed most."));
      return element;
    }
    const length = (segments: readonly { seconds: number }[]): number => segments.reduce((s, p) => s + p.seconds, 0);
    const scale = Math.max(length(found[0]), length(found[1]));
    found.forEach((segments, i) => {
      const side = data.sides[i as 0 | 1];
      const picture = new Waterfall({
        card: this.card,
        visit: i === 0 && !side.simulated ? this.visit : null,
        colour: (r) => {
          const theme = this.theme();
          return waterfallColour(theme, r, (id) => theme.request(colourIndex(id === "" ? row.id : id, 0)));
        },
      });
      const times = row.preemptions[i as 0 | 1];
      const preempted = times === 0 ? "" : `, preempted ${count(times, "time")}`;
      element.append(
        h("div", { class: "iw-dim" }, h("span", { class: `iw-dot ${i === 0 ? "iw-ring" : ""}` }), side.name, preempted),
        picture.element,
      );
      picture.draw({ segments, complete: true, scale }, "live");
    });
    return element;
  }
}
