// Block map: where is the memory, whose is it, what is shared, what goes next?

import { count, int, visible } from "../format.ts";
import type { BlockEventKind } from "../generated.ts";
import type { EngineState } from "../replay.ts";
import { h } from "../ui/dom.ts";
import { emptyState } from "../ui/empty_state.ts";
import { HoverCard } from "../ui/hover_card.ts";
import { segmented } from "../ui/segmented.ts";
import type { View, ViewContext } from "../ui/stage.ts";
import { Surface } from "../ui/surface.ts";
import { css, inkOn, mix, type Rgb, rgb, type Theme } from "../ui/theme.ts";
import { type BlockColours, type BlockMode, colourBlocks, heat, ownerColour, reuseRank } from "./block_colours.ts";
import { fill, lastUse, type Ownership, ownersOf, ownership, tokensIn } from "./block_facts.ts";
import { blockAt, type BlockLayout, layoutBlocks } from "./block_layout.ts";

const MODES = [
  ["owner", "owner", "Colour by the request that holds the block"],
  ["state", "state", "In use, cached or free"],
  ["refs", "sharing", "How many requests hold the block"],
  ["age", "age", "Steps since the block was last used"],
  ["next", "next up", "The order in which free blocks will be reused"],
] as const;

/** How the first free blocks are marked where there is room. */
const NEXT_NAMES = ["next", "2nd", "3rd"] as const;

/** At and below this speed each step's block events are worth pointing at. */
const SLOW_STEPS_PER_SECOND = 30;

export function blocksView(element: HTMLElement, context: ViewContext): View {
  return new BlocksView(element, context);
}

class BlocksView implements View {
  readonly early = true;
  private readonly context: ViewContext;
  private readonly surface: Surface;
  private readonly card: HoverCard;
  private readonly legend = h("div", { class: "iw-legend", "aria-live": "off" });
  private readonly empty = emptyState("Waiting for the engine", "Its blocks appear here as soon as it answers.");
  private readonly layer = document.createElement("canvas");
  private mode: BlockMode = "owner";
  private layout: BlockLayout | null = null;
  private pointer: MouseEvent | null = null;
  private legendKey = "";

  constructor(element: HTMLElement, context: ViewContext) {
    this.context = context;
    const modes = segmented("Colour by", MODES, "owner", (mode) => {
      this.mode = mode;
      context.invalidate();
    });
    const stage = h("div", { class: "iw-stage", "data-testid": "block-map" });
    element.append(h("div", { class: "iw-toolbar" }, modes, this.legend), stage);
    stage.append(this.empty);
    this.surface = new Surface(stage, "Map of the KV cache blocks", () => context.invalidate());
    this.card = new HoverCard(stage);
    const { canvas } = this.surface;
    canvas.addEventListener("pointermove", (event) => this.hover(event));
    canvas.addEventListener("pointerleave", () => this.hover(null));
    canvas.addEventListener("click", (event) => this.pick(event));
  }

  draw(): void {
    const { session } = this.context;
    const state = session.store.stateAt(session.cursor);
    this.surface.begin();
    this.empty.hidden = state !== null;
    if (state === null) {
      return;
    }
    const { width, height, scale } = this.surface;
    this.layout = layoutBlocks(state.numBlocks, Math.round(width * scale), Math.round(height * scale), scale);
    const owners = ownership(state);
    const colours = colourBlocks(this.mode, state, owners, session.store, this.context.theme());
    if (this.layout.gap === 0) this.drawPixels(state, colours);
    else this.drawCells(state, owners, colours);
    this.drawStepEvents(state);
    this.drawSelection(state);
    this.drawLegend(state);
    if (this.pointer !== null) this.showCard(state);
  }

  destroy(): void {
    this.surface.destroy();
  }

  private colourOf(id: string): Rgb {
    return ownerColour(this.context.session.store, this.context.theme(), id);
  }

  /** Requests that stand out: the hovered one, else the selected one. */
  private get lit(): string | null {
    return this.context.session.hovered ?? this.context.session.selection.request;
  }

  private drawPixels(state: EngineState, colours: BlockColours): void {
    const { columns, rows, pitch, left, top } = this.layout!;
    if (this.layer.width !== columns || this.layer.height !== rows) {
      this.layer.width = columns;
      this.layer.height = rows;
    }
    const context = this.layer.getContext("2d")!;
    const image = context.createImageData(columns, rows);
    const words = new Uint32Array(image.data.buffer);
    const table = this.lit === null ? undefined : state.blockTables.get(this.lit);
    const background = rgb(this.context.theme().panel);
    const plain = Uint32Array.from(colours.palette, word);
    const shared = Uint32Array.from(colours.palette, (c) => word(mix([255, 255, 255], c, 0.45)));
    const dim = Uint32Array.from(colours.palette, (c) => word(mix(c, background, 0.3)));
    for (let block = 0; block < state.numBlocks; block++) {
      const shades = table !== undefined ? dim : state.refCounts[block]! > 1 ? shared : plain;
      words[block] = shades[colours.index[block]!]!;
    }
    for (const block of table ?? []) words[block] = plain[colours.index[block]!]!;
    context.putImageData(image, 0, 0);
    const target = this.surface.context;
    target.save();
    target.setTransform(1, 0, 0, 1, 0, 0);
    target.imageSmoothingEnabled = false;
    target.drawImage(this.layer, left, top, columns * pitch, rows * pitch);
    target.restore();
  }

  private drawCells(state: EngineState, owners: Ownership, colours: BlockColours): void {
    const target = this.surface.context;
    const theme = this.context.theme();
    const { pitch, gap, columns, left, top } = this.layout!;
    const { scale } = this.surface;
    const size = pitch - gap;
    const detailed = size >= 12 * scale;
    const lit = this.lit === null ? null : new Set(state.blockTables.get(this.lit) ?? []);
    const free = css(rgb(theme.free));
    const next = firstFree(state, NEXT_NAMES.length);
    target.save();
    target.setTransform(1, 0, 0, 1, 0, 0);
    target.textAlign = "center";
    target.textBaseline = "middle";
    target.font = `500 ${Math.round(Math.min(size * 0.4, 10 * scale))}px ${theme.font}`;
    for (let block = 0; block < state.numBlocks; block++) {
      const x = left + (block % columns) * pitch;
      const y = top + Math.floor(block / columns) * pitch;
      const owner = owners.first[block]!;
      const colour = colours.palette[colours.index[block]!]!;
      target.globalAlpha = lit !== null && lit.size > 0 && !lit.has(block) ? 0.28 : 1;
      target.fillStyle = free;
      target.fillRect(x, y, size, size);
      if (owner >= 0) {
        const share = detailed ? fill(state, owners.ids[owner]!, owners.index[block]!) : 1;
        if (share < 1) {
          target.fillStyle = css(colour, 0.32);
          target.fillRect(x, y, size, size);
        }
        const filled = Math.round(size * share);
        target.fillStyle = css(colour);
        target.fillRect(x, y + size - filled, size, filled);
      } else if (this.mode !== "owner" || state.hashes[block] !== "") {
        target.fillStyle = css(colour);
        target.fillRect(x, y, size, size);
      }
      if (state.refCounts[block]! > 1) this.markShared(x, y, size, state.refCounts[block]!, colour);
      if (size >= 30 * scale) {
        target.textAlign = "left";
        target.fillStyle = inkOn(colour);
        target.globalAlpha *= 0.6;
        target.fillText(String(block), x + 4 * scale, y + size - 8 * scale);
        target.globalAlpha /= 0.6;
        target.textAlign = "center";
      }
      if (detailed && owner < 0) {
        target.fillStyle = css(rgb(inkOn(colour)), 0.75);
        if (next.includes(block))
          target.fillText(
            size >= 30 * scale ? NEXT_NAMES[next.indexOf(block)]! : String(next.indexOf(block) + 1),
            x + size / 2,
            y + size / 2 + scale * 0.5,
          );
        else if (state.hashes[block] !== "") {
          target.beginPath();
          target.arc(
            x + size / 2,
            y + size / 2,
            Math.max(1.2 * scale, Math.min(size * 0.09, 3 * scale)),
            0,
            2 * Math.PI,
          );
          target.fill();
        }
      }
    }
    target.restore();
  }

  /** A white corner, and the count where there is room: sharing must be seen without colour. */
  private markShared(x: number, y: number, size: number, owners: number, colour: Rgb): void {
    const target = this.surface.context;
    const side = Math.min(size * 0.5, 18 * this.surface.scale);
    target.fillStyle = inkOn(colour);
    target.beginPath();
    target.moveTo(x + size, y);
    target.lineTo(x + size - side, y);
    target.lineTo(x + size, y + side);
    target.fill();
    if (size >= 18 * this.surface.scale) {
      const font = target.font;
      target.font = `600 ${Math.round(side * 0.52)}px ${this.context.theme().font}`;
      target.fillStyle = css(colour);
      target.fillText(String(owners), x + size - side * 0.31, y + side * 0.36);
      target.font = font;
    }
  }

  /** Rings around the blocks that the shown step changed: only where single steps can be followed. */
  private drawStepEvents(state: EngineState): void {
    const { session } = this.context;
    const { status } = session.store;
    const slow =
      session.cursor !== "live" ||
      status?.state === "paused" ||
      (status?.speed ?? Number.POSITIVE_INFINITY) <= SLOW_STEPS_PER_SECOND;
    const step = session.store.stepAt(session.cursor);
    const { pitch } = this.layout!;
    if (!slow || step === null || pitch < 6 * this.surface.scale) return;
    const theme = this.context.theme();
    const colours: Partial<Record<BlockEventKind, string>> = {
      allocate: theme.fg,
      share: theme.accent,
      copy: theme.good,
      evict: theme.danger,
    };
    const kinds = new Map<number, BlockEventKind>();
    for (const event of step.record.block_events) {
      if (event.kind === "cache") continue;
      const before = kinds.get(event.block);
      // An eviction is always followed by the allocation that it made room for: show the eviction.
      if (before === "evict" && event.kind === "allocate") continue;
      kinds.set(event.block, event.kind);
    }
    for (const [block, kind] of kinds) {
      if (block >= state.numBlocks) continue;
      this.outline(block, colours[kind] ?? theme.fg3, kind === "free" ? [3, 2] : [], 1.5);
    }
  }

  private drawSelection(state: EngineState): void {
    const { selection } = this.context.session;
    const theme = this.context.theme();
    const shown = this.lit;
    const table = shown === null ? undefined : state.blockTables.get(shown);
    if (shown !== null && table !== undefined) this.drawPath(table, theme, css(this.colourOf(shown)));
    if (selection.block !== null && selection.block < state.numBlocks) {
      this.outline(selection.block, theme.fg, [], 2);
    }
  }

  /** The request's block table in its logical order: a line through its blocks, numbered where there is room. */
  private drawPath(table: readonly number[], theme: Theme, colour: string): void {
    const target = this.surface.context;
    const { scale } = this.surface;
    const { pitch, gap } = this.layout!;
    const size = (pitch - gap) / scale;
    const centres = table.map((block) => this.centre(block));
    target.save();
    target.lineJoin = "round";
    target.lineCap = "round";
    if (table.length > 12) target.globalAlpha = 0.75;
    for (const [style, width] of [
      [theme.bg, size > 10 ? 4.5 : 3],
      [size > 10 ? theme.fg : colour, size > 10 ? 1.5 : 1.2],
    ] as const) {
      target.strokeStyle = style;
      target.lineWidth = width;
      target.beginPath();
      centres.forEach(({ x, y }, i) => (i === 0 ? target.moveTo(x, y) : target.lineTo(x, y)));
      target.stroke();
    }
    target.globalAlpha = 1;
    if (size >= 15) {
      const radius = Math.min(8, size * 0.34);
      target.textAlign = "center";
      target.textBaseline = "middle";
      target.font = `600 ${Math.round(radius * 1.15)}px ${theme.font}`;
      centres.forEach(({ x, y }, i) => {
        target.fillStyle = theme.bg;
        target.beginPath();
        target.arc(x, y, radius, 0, 2 * Math.PI);
        target.fill();
        target.strokeStyle = theme.fg;
        target.lineWidth = 1;
        target.stroke();
        target.fillStyle = theme.fg;
        target.fillText(String(i), x, y + 0.5);
      });
    } else if (centres.length > 0) {
      const { x, y } = centres[0]!;
      target.fillStyle = theme.fg;
      target.beginPath();
      target.arc(x, y, 3, 0, 2 * Math.PI);
      target.fill();
    }
    target.restore();
  }

  private outline(block: number, colour: string, dash: number[], width: number): void {
    const target = this.surface.context;
    const { pitch, gap, columns, left, top } = this.layout!;
    const { scale } = this.surface;
    const size = Math.max(4, (pitch - gap) / scale);
    const x = (left + (block % columns) * pitch) / scale;
    const y = (top + Math.floor(block / columns) * pitch) / scale;
    target.save();
    target.strokeStyle = colour;
    target.lineWidth = width;
    target.setLineDash(dash);
    target.strokeRect(x + width / 2 - 0.5, y + width / 2 - 0.5, size - width + 1, size - width + 1);
    target.restore();
  }

  private centre(block: number): { x: number; y: number } {
    const { pitch, gap, columns, left, top } = this.layout!;
    const { scale } = this.surface;
    const half = (pitch - gap) / 2;
    return {
      x: (left + (block % columns) * pitch + half) / scale,
      y: (top + Math.floor(block / columns) * pitch + half) / scale,
    };
  }

  private drawLegend(state: EngineState): void {
    const theme = this.context.theme();
    const used = state.numUsed;
    const cached = state.numCachedFree;
    const key = [this.mode, used, cached, state.numBlocks, theme.dark].join();
    if (key === this.legendKey) return;
    this.legendKey = key;
    const item = (swatch: string, text: string): HTMLElement =>
      h("span", {}, h("i", { class: "iw-swatch", style: `background:${swatch}` }), text);
    const ramp = `linear-gradient(90deg, ${[0, 0.5, 1].map((t) => css(heat(theme, t))).join(", ")})`;
    const scale = (from: string, to: string): HTMLElement =>
      h("span", {}, from, h("i", { class: "iw-swatch iw-ramp", style: `background:${ramp}` }), to);
    const counts = [
      item(this.mode === "state" ? theme.used : theme.fg2, `${int(used)} used`),
      item(theme.cached, `${int(cached)} cached`),
      item(theme.free, `${int(state.free.size - cached)} free`),
    ];
    const keys: Record<BlockMode, HTMLElement[]> = {
      owner: counts,
      state: counts,
      refs: [scale("1 owner", "8 or more")],
      age: [scale("1000 steps ago", "now")],
      next: [scale("last", "next to be reused")],
    };
    this.legend.replaceChildren(...keys[this.mode], h("span", {}, h("i", { class: "iw-swatch iw-shared" }), "shared"));
  }

  private hover(event: MouseEvent | null): void {
    this.pointer = event;
    const { session } = this.context;
    const state = session.store.stateAt(session.cursor);
    if (event === null || state === null || this.layout === null) {
      this.card.hide();
      session.hover(null);
      return;
    }
    this.showCard(state);
  }

  private blockUnder(event: MouseEvent, state: EngineState): number | null {
    const { x, y } = this.surface.locate(event);
    const { scale } = this.surface;
    return this.layout === null ? null : blockAt(this.layout, state.numBlocks, x * scale, y * scale);
  }

  private showCard(state: EngineState): void {
    const { session } = this.context;
    const block = this.blockUnder(this.pointer!, state);
    if (block === null) {
      this.card.hide();
      session.hover(null);
      return;
    }
    const owners = ownersOf(state, block);
    session.hover(owners[0] ?? null);
    const hash = state.hashes[block]!;
    const tokens = tokensIn(session.store, state, block);
    const used = lastUse(state, block, owners[0] ?? null);
    const lines: [string, string][] = [];
    if (owners.length > 0) lines.push(["held by", owners.slice(0, 6).join(", ") + (owners.length > 6 ? " …" : "")]);
    else lines.push(["state", hash === "" ? "free" : "free, content kept for a prefix hit"]);
    lines.push(["references", int(state.refCounts[block]!)]);
    if (tokens !== null) lines.push(["tokens", `${int(tokens.length)} of ${int(state.blockSize)}`]);
    if (tokens !== null) {
      const from = state.contentIndex[block]! * state.blockSize;
      lines.push(["positions", `${int(from)} – ${int(from + state.blockSize - 1)} of ${state.contentOf[block]}`]);
    }
    if (hash !== "") lines.push(["hash", hash.slice(0, 12)]);
    if (used >= 0) lines.push(["last use", `step ${int(used)}, ${count(state.step - used, "step")} ago`]);
    if (owners.length === 0) lines.push(["reused", `after ${count(reuseRank(state)[block]!, "other block")}`]);
    const owner = owners[0];
    this.card.show(this.pointer!, {
      title: `Block ${int(block)}`,
      ...(owner === undefined ? {} : { colour: css(this.colourOf(owner)) }),
      lines,
      ...(tokens === null ? {} : { code: visible(tokens.map((id) => session.store.text(id)).join("")) }),
    });
  }

  /** Click pins the block and its owner; a second click on a shared block goes on to its next owner. */
  private pick(event: MouseEvent): void {
    const { session } = this.context;
    const state = session.store.stateAt(session.cursor);
    const block = state === null ? null : this.blockUnder(event, state);
    if (state === null || block === null) {
      session.select({});
      return;
    }
    const owners = ownersOf(state, block);
    const again = session.selection.block === block ? owners.indexOf(session.selection.request ?? "") : -1;
    session.select({ block, request: owners[(again + 1) % Math.max(1, owners.length)] ?? null });
  }
}

/** A colour as one word of image data. */
function word(colour: Rgb): number {
  return (0xff000000 | (colour[2] << 16) | (colour[1] << 8) | colour[0]) >>> 0;
}

function firstFree(state: EngineState, n: number): number[] {
  const found: number[] = [];
  for (const block of state.free) {
    if (found.length === n) break;
    found.push(block);
  }
  return found;
}
