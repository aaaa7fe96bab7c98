import { h } from "./dom.ts";

export type CardLine = readonly [name: string, value: string];

export interface CardContent {
  readonly title: string;
  readonly colour?: string;
  readonly lines: readonly CardLine[];
  /** A sentence under the lines. */
  readonly note?: string;
  /** Text of tokens, set in the code font. */
  readonly code?: string;
}

/** A small card beside the pointer that never leaves the window. */
export class HoverCard {
  private readonly element = h("div", { class: "iw-card", role: "tooltip", "data-testid": "hover-card" });

  constructor(parent: HTMLElement) {
    this.element.hidden = true;
    parent.append(this.element);
  }

  show(event: { clientX: number; clientY: number }, content: CardContent): void {
    const title = h("div", { class: "iw-card-title" });
    if (content.colour !== undefined) title.append(h("span", { class: "iw-chip", style: `--chip:${content.colour}` }));
    title.append(content.title);
    const list = h("dl", {});
    for (const [name, value] of content.lines) list.append(h("dt", {}, name), h("dd", {}, value));
    this.element.replaceChildren(
      title,
      ...(content.note === undefined ? [] : [h("p", {}, content.note)]),
      ...(content.lines.length === 0 ? [] : [list]),
      ...(content.code === undefined ? [] : [h("code", {}, content.code)]),
    );
    this.element.hidden = false;
    this.place(event.clientX, event.clientY);
  }

  hide(): void {
    this.element.hidden = true;
  }

  private place(x: number, y: number): void {
    const { style } = this.element;
    // Fixed boxes are placed against the nearest transformed ancestor, which a notebook may have: measure and correct.
    style.left = "0px";
    style.top = "0px";
    const box = this.element.getBoundingClientRect();
    const right = x + 16 + box.width <= innerWidth - 8;
    const below = y + 16 + box.height <= innerHeight - 8;
    style.left = `${(right ? x + 16 : Math.max(8, x - 12 - box.width)) - box.left}px`;
    style.top = `${(below ? y + 16 : Math.max(8, y - 12 - box.height)) - box.top}px`;
  }
}
