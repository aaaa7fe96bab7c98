// One prompt answered by two engines: both texts, the place where they part, and what either side thought there.

import { count, int, probability, visible } from "../format.ts";
import { candidates, type Candidate, type Duel, ended, leastKnown, type Place, summary } from "../lockstep.ts";
import type { LockstepSide } from "../protocol.ts";
import type { Session } from "../session.ts";
import { h, setAttribute, setText } from "../ui/dom.ts";
import type { CardContent, HoverCard } from "../ui/hover_card.ts";

const MOST_CANDIDATES = 6;
const TEXTS_LABEL = "Two answers. Left and right arrow keys pick a token and show what both engines thought there.";

export function sideTitle(side: LockstepSide): string {
  const who = { this: "this engine", copy: "a copy", other: "the other engine" }[side.kind];
  return `${who} · ${side.name}`;
}

export class DuelView {
  readonly element: HTMLElement;
  private readonly session: Session;
  private readonly headline = h("p", { class: "iw-duel-headline", "data-testid": "duel-headline" });
  private readonly heads = [h("header", {}), h("header", {})] as const;
  private readonly texts = [h("div", { class: "iw-duel-text" }), h("div", { class: "iw-duel-text" })] as const;
  private readonly both: HTMLElement;
  private readonly detail = h("div", { class: "iw-duel-detail", "data-testid": "duel-detail" });
  private readonly hint = h(
    "p",
    { class: "iw-duel-hint" },
    "Press Run: two engines answer this prompt, each with its likeliest tokens, and the place where they part is marked.",
  );
  private duel: Duel | null = null;
  private picked: number | null = null;
  private drawn: [number, number] = [0, 0];
  private detailKey = "";
  private headKey = "";

  constructor(session: Session, card: HoverCard) {
    this.session = session;
    const column = (side: 0 | 1): HTMLElement =>
      h("div", { class: "iw-duel-side", "data-testid": `duel-${side}` }, this.heads[side], this.texts[side]);
    this.both = h(
      "div",
      { class: "iw-duel-both", role: "group", tabindex: "0", "aria-label": TEXTS_LABEL },
      column(0),
      column(1),
    );
    this.element = h("div", { class: "iw-duel" }, this.hint, this.headline, this.both, this.detail);
    this.both.addEventListener("pointermove", (event) => {
      const place = this.placeOf(event.target);
      if (place === null || this.duel === null) card.hide();
      else card.show(event, this.describe(this.duel, place));
    });
    this.both.addEventListener("pointerleave", () => card.hide());
    this.both.addEventListener("click", (event) => {
      const place = this.placeOf(event.target);
      if (place !== null) this.pick(place);
    });
    this.both.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (by === undefined || this.duel === null || this.duel.places.length === 0) return;
      const last = this.duel.places.length - 1;
      const now = this.picked ?? this.duel.partsAt ?? last + (by < 0 ? 1 : 0);
      this.pick(Math.max(0, Math.min(last, now + by)));
      event.preventDefault();
      event.stopPropagation();
    });
  }

  draw(duel: Duel | null): void {
    if (duel !== this.duel) {
      this.duel = duel;
      this.picked = null;
      this.drawn = [0, 0];
      for (const text of this.texts) text.replaceChildren();
    }
    const sides = this.session.lockstep.sides;
    this.hint.hidden = duel !== null;
    this.headline.hidden = this.both.hidden = duel === null;
    if (duel === null || sides === null) {
      this.detail.hidden = true;
      return;
    }
    const text = (id: number): string => this.session.store.text(id);
    setText(this.headline, summary(duel, text));
    setAttribute(this.headline, "data-kind", duel.partsAt !== null ? "parts" : ended(duel) ? "equal" : "");
    this.drawHeads(duel, sides);
    ([0, 1] as const).forEach((side) => this.drawText(duel, side));
    this.drawDetail(duel, sides);
  }

  private drawHeads(duel: Duel, sides: readonly [LockstepSide, LockstepSide]): void {
    const key = JSON.stringify([duel.request, sides]);
    if (key === this.headKey) return;
    this.headKey = key;
    const models = sides[0].model === sides[1].model ? "" : "models";
    this.heads.forEach((head, i) => {
      const side = sides[i as 0 | 1];
      const pick = h(
        "button",
        {
          type: "button",
          class: "iw-button iw-duel-request",
          title: "Pick this request in all views",
          onclick: () => this.session.select({ request: duel.request }),
        },
        duel.request,
      );
      head.replaceChildren(
        h("span", { class: `iw-dot ${i === 0 ? "iw-ring" : ""}` }),
        h("b", {}, sideTitle(side)),
        ...(models === "" ? [] : [h("span", { class: "iw-dim" }, side.model)]),
        ...(i === 0 ? [pick] : []),
      );
    });
  }

  private drawText(duel: Duel, side: 0 | 1): void {
    const element = this.texts[side];
    const pieces = document.createDocumentFragment();
    for (let place = this.drawn[side]; place < duel.places.length; place++) {
      const token = duel.places[place]![side];
      const parts = duel.partsAt;
      const kind = parts === null || place < parts ? "equal" : place === parts ? "parts" : "after";
      const text = token === null ? "" : this.session.store.text(token.id);
      // Past a side's end there is nothing to show; where the two part by that, it is marked all the same.
      if (token === null && kind !== "parts") continue;
      pieces.append(h("span", { class: `iw-${kind}`, "data-place": place }, text));
    }
    this.drawn[side] = duel.places.length;
    const end = element.querySelector(".iw-ending");
    element.insertBefore(pieces, end);
    const reason = duel.endings[side];
    if (reason !== null && end === null)
      element.append(h("small", { class: "iw-ending", title: `finish_reason: ${reason}` }, ` ∎ ${reason}`));
    element.querySelector(".iw-picked")?.classList.remove("iw-picked");
    if (this.picked !== null) element.querySelector(`[data-place="${this.picked}"]`)?.classList.add("iw-picked");
  }

  /** What both thought at the picked place, or else where they part: the probabilities next to each other. */
  private drawDetail(duel: Duel, sides: readonly [LockstepSide, LockstepSide]): void {
    const at = this.picked ?? duel.partsAt;
    const place = at === null ? undefined : duel.places[at];
    this.detail.hidden = place === undefined;
    const key = `${duel.request} ${at} ${duel.partsAt}`;
    if (place === undefined || at === null || key === this.detailKey) return;
    this.detailKey = key;
    const least = [leastKnown(place[0]), leastKnown(place[1])] as const;
    const cell = (row: Candidate, side: 0 | 1): HTMLElement => {
      const share = row.shares[side];
      const bar = h("i", { class: side === 0 ? "iw-ring" : "", style: `width:${(100 * (share ?? 0)) / largest}%` });
      const mark = h("span", { class: "iw-taken", title: "chosen" }, row.taken[side] ? "◆" : "");
      const value = h("b", {}, shareText(share, least[side]));
      return h("td", {}, h("div", { class: "iw-duel-share" }, value, mark, h("span", {}, share === null ? null : bar)));
    };
    const found = candidates(place, MOST_CANDIDATES);
    const largest = Math.max(...found.flatMap(({ shares }) => [shares[0] ?? 0, shares[1] ?? 0]), 1e-9);
    const rows = found.map((row) =>
      h(
        "tr",
        {},
        h("th", { scope: "row" }, h("code", {}, `'${visible(this.session.store.text(row.id))}'`)),
        cell(row, 0),
        cell(row, 1),
      ),
    );
    const head = sides.map((side, i) =>
      h(
        "th",
        { scope: "col", title: sideTitle(side) },
        h("span", { class: `iw-dot ${i === 0 ? "iw-ring" : ""}` }),
        side.name,
      ),
    );
    this.detail.replaceChildren(
      h("p", {}, placeTitle(duel, at)),
      h("table", {}, h("thead", {}, h("tr", {}, h("th"), ...head)), h("tbody", {}, ...rows)),
    );
  }

  private describe(duel: Duel, at: number): CardContent {
    const place: Place = duel.places[at]!;
    const sides = this.session.lockstep.sides!;
    const least = [leastKnown(place[0]), leastKnown(place[1])] as const;
    const lines = candidates(place, MOST_CANDIDATES).map((row) => {
      const shares = ([0, 1] as const).map((side) => {
        return shareText(row.shares[side], least[side]) + (row.taken[side] ? " ◆" : "");
      });
      return [`'${visible(this.session.store.text(row.id))}'`, shares.join(" · ")] as const;
    });
    return { title: placeTitle(duel, at), lines, note: `probability: ${sides.map(sideTitle).join(" · ")}; ◆ chosen` };
  }

  private pick(place: number): void {
    this.picked = this.picked === place ? null : place;
    this.session.touch();
  }

  private placeOf(target: EventTarget | null): number | null {
    const place = target instanceof HTMLElement ? target.dataset["place"] : undefined;
    return place === undefined ? null : Number(place);
  }
}

function shareText(share: number | null, least: number | null): string {
  if (share !== null) return probability(share);
  return least === null ? "–" : `< ${probability(least).replace("< ", "")}`;
}

function placeTitle(duel: Duel, at: number): string {
  const place = `Token ${int(at + 1)}`;
  if (duel.partsAt === null || at < duel.partsAt) return `${place}, the same on both sides`;
  if (at === duel.partsAt) return `${place}, where they part`;
  const before = count(at - duel.partsAt, "token");
  return `${place}, ${before} after they parted: what was written before it differs already`;
}
