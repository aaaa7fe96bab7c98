// A request's output as text, token by token: shaded, hoverable, each a way to its step.

import { int, percent, seconds, visible } from "../format.ts";
import type { Session } from "../session.ts";
import type { TraceStore } from "../store.ts";
import type { RequestInfo, Token } from "../trace_types.ts";
import { h, setAttribute } from "../ui/dom.ts";
import type { CardLine, HoverCard } from "../ui/hover_card.ts";
import { css, type Rgb, rgb, type Theme } from "../ui/theme.ts";

export type Shading = "none" | "latency" | "probability";

/** Seconds since the token before; null for the first one and where that is not known. */
export function gap(request: RequestInfo, index: number): number | null {
  const before = request.tokens[index - 1];
  const token = request.tokens[index];
  if (before === undefined || token === undefined || before.step < 0) return null;
  return token.time - before.time;
}

/** How strongly a token is shaded, 0 to 1: unlikely and slow ones stand out. */
export function shade(request: RequestInfo, index: number, shading: Shading, typicalGap: number): number {
  const token = request.tokens[index]!;
  // In bits of surprise, as the eye should be drawn to what the model did not expect: 1 in 2 is faint, 1 in 64 is full.
  if (shading === "probability") return token.logprob === null ? 0 : Math.min(1, -token.logprob / Math.LN2 / 6);
  if (shading === "latency") {
    const seconds = gap(request, index);
    if (seconds === null || typicalGap <= 0) return 0;
    // 1× the typical gap is unmarked, 8× and more is full.
    return Math.max(0, Math.min(1, Math.log2(Math.max(1e-9, seconds / typicalGap)) / 3));
  }
  return 0;
}

/** The middle of the newest gaps between tokens, in seconds; 0 before there is one. */
export function typicalGap(store: TraceStore): number {
  const recent = store.itl
    .upTo(null)
    .slice(-400)
    .sort((a, b) => a - b);
  return recent[recent.length >> 1] ?? 0;
}

/** What the shades mean, in units. */
export function shadeLegend(shading: Shading, store: TraceStore, theme: Theme): HTMLElement[] {
  if (shading === "none") return [];
  const colour = shadeColour(shading, theme);
  const ramp = `background:linear-gradient(90deg, ${css(colour, 0)}, ${css(colour, STRONGEST)})`;
  const swatch = h("i", { class: "iw-swatch iw-ramp", style: ramp });
  if (shading === "probability") return [h("span", {}, "token’s probability: 100 %", swatch, "1.6 % or less")];
  const gap = typicalGap(store);
  const from = gap === 0 ? "the median" : `${seconds(gap)} (median) or less`;
  const to = gap === 0 ? "8 times that or more" : `${seconds(8 * gap)} or more`;
  return [h("span", {}, `time since the token before: ${from}`, swatch, to)];
}

const STRONGEST = 0.6;

function shadeColour(shading: Shading, theme: Theme): Rgb {
  return rgb(shading === "probability" ? theme.warn : theme.danger);
}

const TEXT_LABEL = "Output tokens. Left and right arrow keys pick a token and show its step.";

export class TokenText {
  private readonly text = h("div");
  // Laid out from below, so that the browser keeps the newest token in view without being asked for positions.
  readonly element = h(
    "div",
    { class: "iw-tokens", role: "group", tabindex: "-1", "aria-label": TEXT_LABEL },
    this.text,
  );
  private readonly session: Session;
  private request: RequestInfo | null = null;
  private shading: Shading = "none";
  private dark = false;
  private shownCursor: number | "live" = "live";
  private shownSelection = -1;

  constructor(session: Session, card: HoverCard) {
    this.session = session;
    this.element.addEventListener("pointermove", (event) => {
      const index = this.indexOf(event.target);
      if (index === null || this.request === null) card.hide();
      else card.show(event, this.describe(this.request, index));
    });
    this.element.addEventListener("pointerleave", () => card.hide());
    this.element.addEventListener("click", (event) => {
      const index = this.indexOf(event.target);
      if (index !== null) this.pick(index);
    });
    this.element.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (by === undefined || this.request === null) return;
      const { selection } = session;
      const now = selection.request === this.request.id ? selection.token : null;
      const newest = this.request.tokens.length - 1;
      this.pick(now === null ? newest : Math.max(0, Math.min(newest, now + by)));
      event.preventDefault();
      event.stopPropagation();
    });
  }

  draw(request: RequestInfo | null, shading: Shading, theme: Theme): void {
    if (request !== this.request || shading !== this.shading || theme.dark !== this.dark) {
      this.text.replaceChildren();
      this.request = request;
      this.shading = shading;
      this.dark = theme.dark;
      this.shownCursor = "live";
      this.shownSelection = -1;
    }
    // Nothing to pick, nothing to stop at with Tab.
    setAttribute(this.element, "tabindex", (request?.tokens.length ?? 0) > 0 ? "0" : "-1");
    if (request === null) return;
    const fresh = this.text.childElementCount;
    if (fresh < request.tokens.length) {
      const typical = shading === "latency" ? typicalGap(this.session.store) || (gap(request, 1) ?? 0) : 0;
      const colour = shadeColour(shading, theme);
      const pieces = document.createDocumentFragment();
      for (let i = fresh; i < request.tokens.length; i++) {
        const span = h("span", {}, this.session.store.text(request.tokens[i]!.id));
        const strength = shade(request, i, shading, typical);
        if (strength > 0.04) span.style.background = css(colour, Math.round(strength * STRONGEST * 100) / 100);
        pieces.append(span);
      }
      this.text.append(pieces);
    }
    this.markCursor(request, fresh);
    this.markSelected(request);
  }

  private pick(index: number): void {
    const token = this.request?.tokens[index];
    if (token === undefined) return;
    this.session.select({ request: this.request!.id, token: index });
    if (token.step >= 0) this.session.setCursor(token.step);
  }

  /** Tokens after the time cursor fade. */
  private markCursor(request: RequestInfo, fresh: number): void {
    const { cursor } = this.session;
    if (cursor === this.shownCursor && cursor === "live") return;
    const from = cursor === this.shownCursor ? fresh : 0;
    this.shownCursor = cursor;
    for (let i = from; i < request.tokens.length; i++) {
      const future = cursor !== "live" && request.tokens[i]!.step > cursor;
      this.text.children[i]!.classList.toggle("iw-future", future);
    }
    if (from > 0) return;
    if (cursor === "live") this.element.scrollTop = 0;
    else this.reveal(request.tokens.findLastIndex((token) => token.step <= cursor));
  }

  /** Scroll the text, and nothing around it, so far that a token is in sight; the first where there is none yet. */
  private reveal(index: number): void {
    const token = this.text.children[Math.max(0, index)];
    if (token === undefined) return;
    const [box, at] = [this.element.getBoundingClientRect(), token.getBoundingClientRect()];
    if (at.top < box.top) this.element.scrollTop -= box.top - at.top;
    else if (at.bottom > box.bottom) this.element.scrollTop += at.bottom - box.bottom;
  }

  private markSelected(request: RequestInfo): void {
    const { selection } = this.session;
    const now = selection.request === request.id ? (selection.token ?? -1) : -1;
    if (now === this.shownSelection) return;
    this.text.children[this.shownSelection]?.classList.remove("iw-picked");
    this.text.children[now]?.classList.add("iw-picked");
    this.shownSelection = now;
  }

  private indexOf(target: EventTarget | null): number | null {
    if (!(target instanceof HTMLSpanElement) || target.parentElement !== this.text) return null;
    return Array.prototype.indexOf.call(this.text.children, target);
  }

  private describe(request: RequestInfo, index: number): Parameters<HoverCard["show"]>[1] {
    const token: Token = request.tokens[index]!;
    const lines: CardLine[] = [["token id", int(token.id)]];
    if (token.logprob !== null) lines.push(["probability", percent(Math.exp(token.logprob))]);
    if (token.step >= 0) lines.push(["step", int(token.step)]);
    const since = gap(request, index);
    if (since !== null) lines.push(["after the one before", seconds(since)]);
    else if (index === 0 && token.step >= 0) lines.push(["after arrival", seconds(token.time - request.arrivalTime)]);
    for (const [id, logprob] of token.alternatives) {
      const mark = id === token.id ? " ✓" : "";
      lines.push([`“${visible(this.session.store.text(id))}”${mark}`, percent(Math.exp(logprob))]);
    }
    return {
      title: `Token ${int(index + 1)} of ${request.id}: “${visible(this.session.store.text(token.id))}”`,
      lines,
    };
  }
}
