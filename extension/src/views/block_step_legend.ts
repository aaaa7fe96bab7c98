// What the rings on the map mean: how many blocks the shown step allocated, shared, copied, moved, evicted and freed.

import { int } from "../format.ts";
import { h } from "../ui/dom.ts";
import type { Theme } from "../ui/theme.ts";
import type { BlockEffect } from "./block_motion.ts";

type Kind = BlockEffect["kind"];

const WORDS: Record<Kind, string> = {
  allocate: "allocated",
  share: "shared with one more",
  copy: "copied on write",
  move: "moved",
  evict: "evicted",
  free: "freed",
};

export function ringColours(theme: Theme): Record<Kind, string> {
  return {
    allocate: theme.fg,
    share: theme.accent,
    copy: theme.good,
    move: theme.good,
    evict: theme.danger,
    free: theme.fg3,
  };
}

/** How many blocks have a ring of each kind, in the order above; kinds without one are left out. */
export function ringCounts(effects: readonly BlockEffect[]): [Kind, number][] {
  const counts = new Map<Kind, number>();
  for (const { kind } of effects) counts.set(kind, (counts.get(kind) ?? 0) + 1);
  return (Object.keys(WORDS) as Kind[]).flatMap((kind) => (counts.has(kind) ? [[kind, counts.get(kind)!]] : []));
}

export class StepLegend {
  readonly element = h("div", { class: "iw-legend iw-step-legend", "data-testid": "step-legend" });
  private shown = "";

  constructor() {
    this.element.hidden = true;
  }

  draw(step: number, effects: readonly BlockEffect[], theme: Theme): void {
    const counts = ringCounts(effects);
    const colours = ringColours(theme);
    const key = counts.length === 0 ? "" : [step, theme.dark, ...counts].join();
    if (key === this.shown) return;
    this.shown = key;
    this.element.hidden = key === "";
    if (key === "") return;
    this.element.replaceChildren(
      h("span", { class: "iw-dim" }, `Step ${int(step)}`),
      ...counts.map(([kind, n]) =>
        h(
          "span",
          {},
          h("i", { class: `iw-swatch iw-ring-${kind}`, style: `--swatch:${colours[kind]}` }),
          `${int(n)} ${WORDS[kind]}`,
        ),
      ),
    );
  }
}
