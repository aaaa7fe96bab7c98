// Block map: where is the memory, whose is it, what is shared, what goes next?

import { int } from "../format.ts";
import type { EngineState } from "../replay.ts";
import { h, setAttribute, setText } from "../ui/dom.ts";
import { emptyState } from "../ui/empty_state.ts";
import { HoverCard } from "../ui/hover_card.ts";
import { segmented } from "../ui/segmented.ts";
import type { View, ViewContext } from "../ui/stage.ts";
import { Surface } from "../ui/surface.ts";
import { css, mix, type Rgb, rgb, type Theme } from "../ui/theme.ts";
import { tellBlock } from "./block_card.ts";
import { drawCells } from "./block_cells.ts";
import { BlockColours, type BlockMode, heat, ownerColour, paletteOf } from "./block_colours.ts";
import { ownersOf } from "./block_facts.ts";
import {
  blockAt,
  type BlockLayout,
  type Box,
  type Camera,
  layoutBlocks,
  lookAt,
  panBy,
  place,
  reveal,
  sizeInWords,
  visibleCells,
  zoomAt,
} from "./block_layout.ts";
import { BlockMotion, effectsOf, ringAt } from "./block_motion.ts";
import { BlockRaster } from "./block_raster.ts";
import { ringColours, StepLegend } from "./block_step_legend.ts";
import { BlockStrip } from "./block_strip.ts";

const MODES = [
  ["owner", "owner", "Colour by the request that holds the block"],
  ["state", "state", "In use, cached or free"],
  ["refs", "sharing", "How many requests hold the block"],
  ["age", "age", "Steps since the block was last used"],
  ["next", "next up", "The order in which free blocks will be reused"],
] as const;

/** At and below this speed each step's block events are worth pointing at. */
const SLOW_STEPS_PER_SECOND = 30;
const ZOOM_STEP = 1.6;
/** Most cells that are drawn one by one; more are drawn as pixels with lines between them. */
const MOST_CELLS = 2_000;
/** A longer block table is shown by its colour alone: a line through it would be a scribble. */
const LONGEST_PATH = 400;
const MINIMAP = 96;

export function blocksView(element: HTMLElement, context: ViewContext): View {
  return new BlocksView(element, context);
}

class BlocksView implements View {
  readonly early = true;
  private readonly context: ViewContext;
  private readonly stage: HTMLElement;
  private readonly surface: Surface;
  private readonly card: HoverCard;
  private readonly strip: BlockStrip;
  private readonly legend = h("div", { class: "iw-legend", "aria-live": "off" });
  private readonly size = h("span", {
    class: "iw-dim iw-map-size",
    title: "How large a block is drawn",
    "data-testid": "block-size",
  });
  private readonly rings = new StepLegend();
  private readonly picked = h("div", { class: "iw-block-story", role: "status", "data-testid": "block-story" });
  private readonly hint = h(
    "div",
    { class: "iw-dim" },
    "Pick a block or a request: its block table and what is known of it stay here.",
  );
  private readonly empty = emptyState("Waiting for the engine", "Its blocks appear here as soon as it answers.");
  private readonly colours = new BlockColours();
  private readonly raster = new BlockRaster();
  private readonly motion = new BlockMotion();
  private readonly calm = matchMedia("(prefers-reduced-motion: reduce)");
  private mode: BlockMode = "owner";
  private fit: BlockLayout | null = null;
  private layout: BlockLayout | null = null;
  private camera: Camera | null = null;
  private box: Box = { width: 1, height: 1, scale: 1 };
  private pointer: MouseEvent | null = null;
  private drag: { x: number; y: number; moved: boolean; map: boolean } | null = null;
  private legendKey = "";
  /** Blocks used, cached and free. */
  private readonly counts = [h("span"), h("span"), h("span")] as const;

  constructor(element: HTMLElement, context: ViewContext) {
    this.context = context;
    const modes = segmented("Colour by", MODES, "owner", (mode) => {
      this.mode = mode;
      context.invalidate();
    });
    const button = (text: string, label: string, id: string, click: () => void): HTMLElement =>
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
    const buttons = h(
      "div",
      { class: "iw-buttons" },
      this.size,
      button("−", "Zoom out", "map-zoom-out", () => this.zoom(1 / ZOOM_STEP)),
      button("+", "Zoom in", "map-zoom-in", () => this.zoom(ZOOM_STEP)),
      button("Fit", "Show all blocks", "map-zoom-fit", () => this.look(null)),
    );
    this.stage = h("div", {
      class: "iw-stage iw-map",
      tabindex: "0",
      role: "group",
      "aria-label": "Block map. Arrow keys pick a block, plus and minus zoom, 0 shows all, Escape clears.",
      "data-testid": "block-map",
    });
    this.strip = new BlockStrip({
      resized: () => context.invalidate(),
      hover: (event, block) => this.showCard(event, block),
      pick: (block) => this.select(block, context.session.selection.request),
    });
    element.append(
      h("div", { class: "iw-toolbar" }, modes, this.legend, buttons),
      this.stage,
      h(
        "div",
        { class: "iw-map-foot", tabindex: "0", role: "group", "aria-label": "What is picked" },
        this.rings.element,
        this.hint,
        this.strip.element,
        this.picked,
      ),
    );
    this.stage.append(this.empty);
    this.surface = new Surface(this.stage, "Map of the KV cache blocks", () => context.invalidate());
    this.card = new HoverCard(this.stage);
    this.listen();
  }

  draw(): void {
    const { session } = this.context;
    const state = this.state;
    const theme = this.context.theme();
    const target = this.surface.begin();
    this.empty.hidden = state !== null;
    if (state === null) {
      this.strip.element.hidden = true;
      return;
    }
    const { width, height, scale } = this.surface;
    // A panel that was just hidden, or one that is too low for a map.
    if (width === 0 || height === 0) return;
    this.box = { width: Math.round(width * scale), height: Math.round(height * scale), scale };
    this.fit = layoutBlocks(state.numBlocks, this.box.width, this.box.height, scale);
    this.layout = place(this.fit, this.camera, this.box);
    const palette = paletteOf(this.mode, theme);
    const changed = this.colours.update(session.store, state, this.mode);
    this.raster.update(this.colours.index, palette, this.layout.columns, changed);
    const request = this.lit;
    const table = request === null ? undefined : state.blockTables.get(request);
    target.save();
    target.setTransform(1, 0, 0, 1, 0, 0);
    const lit = table === undefined ? null : new Set(table);
    const { detailed } = this;
    // Dimmed cells are drawn one by one, as dimmed lines between them would be seen.
    const coloured = lit === null || !detailed;
    if (coloured) this.raster.draw(target, this.layout);
    if (!detailed && table !== undefined) {
      const colourOf = (block: number): Rgb => palette[this.colours.index[block]!]!;
      this.raster.drawLit(target, this.layout, this.box, table, colourOf, rgb(theme.panel));
    }
    if (coloured) this.raster.drawGaps(target, this.layout, this.box, theme.panel);
    if (detailed) {
      const { colours, layout, box } = this;
      drawCells(target, { state, colours, palette, theme, layout, box, lit, coloured });
    }
    target.restore();
    this.drawStepEvents(state);
    this.drawSelection(state, table);
    if (this.camera !== null) this.drawMinimap(theme);
    this.drawLegend(state);
    setText(this.size, sizeInWords(this.layout.pitch, scale));
    const selected = session.selection.request;
    const colour = selected === null ? rgb(theme.fg3) : ownerColour(session.store, theme, selected);
    this.strip.draw(state, selected, session.selection.block, colour, theme);
    this.drawPicked(state);
    this.hint.hidden = selected !== null || session.selection.block !== null;
    if (this.pointer !== null) this.pointAt(this.pointer, state);
  }

  destroy(): void {
    this.surface.destroy();
    this.strip.destroy();
  }

  private get state(): EngineState | null {
    const { session } = this.context;
    return session.store.stateAt(session.cursor);
  }

  /** True where every cell has room for more than a colour. */
  private get detailed(): boolean {
    const layout = this.layout!;
    if (layout.pitch < 10 * this.box.scale) return false;
    const cells = visibleCells(layout, this.box);
    return (cells.lastColumn - cells.firstColumn + 1) * (cells.lastRow - cells.firstRow + 1) <= MOST_CELLS;
  }

  /** Requests that stand out: the hovered one, else the selected one. */
  private get lit(): string | null {
    return this.context.session.hovered ?? this.context.session.selection.request;
  }

  // -- what is looked at --

  private look(camera: Camera | null): void {
    this.camera = camera;
    this.context.invalidate();
  }

  /** Zoom about a point in device pixels, or about the middle. */
  private zoom(factor: number, x = this.box.width / 2, y = this.box.height / 2): void {
    if (this.layout === null || this.fit === null) return;
    this.look(zoomAt(this.fit, this.layout, this.box, factor, x, y));
    this.layout = place(this.fit, this.camera, this.box);
  }

  private pan(dx: number, dy: number): void {
    if (this.layout === null || this.fit === null) return;
    this.look(panBy(this.layout, this.camera, this.box, dx, dy));
    this.layout = place(this.fit, this.camera, this.box);
  }

  /** Where the small map is, in CSS pixels. */
  private get minimap(): { x: number; y: number; width: number; height: number } {
    const { columns, rows } = this.fit!;
    const size = MINIMAP / Math.max(columns, rows);
    const [width, height] = [Math.max(8, columns * size), Math.max(8, rows * size)];
    return { x: this.surface.width - width - 6, y: this.surface.height - height - 6, width, height };
  }

  /** Look at the place that the small map shows under the pointer. */
  private lookFromMap(event: MouseEvent): void {
    const at = this.surface.locate(event);
    const map = this.minimap;
    const { columns, rows } = this.fit!;
    const x = ((at.x - map.x) / map.width) * columns;
    this.look(lookAt(this.layout!, this.box, x, ((at.y - map.y) / map.height) * rows));
  }

  private onMap(event: MouseEvent): boolean {
    if (this.camera === null || this.fit === null) return false;
    const at = this.surface.locate(event);
    const map = this.minimap;
    return at.x >= map.x && at.x <= map.x + map.width && at.y >= map.y && at.y <= map.y + map.height;
  }

  // -- drawing --

  private drawMinimap(theme: Theme): void {
    const target = this.surface.context;
    const { x, y, width, height } = this.minimap;
    const { pitch, left, top, columns, rows } = this.layout!;
    target.save();
    target.fillStyle = theme.bg;
    target.fillRect(x - 3, y - 3, width + 6, height + 6);
    target.strokeStyle = theme.line2;
    target.lineWidth = 1;
    target.strokeRect(x - 2.5, y - 2.5, width + 5, height + 5);
    target.imageSmoothingEnabled = width < columns;
    target.drawImage(this.raster.canvas, x, y, width, height);
    const seen = (from: number, cells: number, space: number, size: number): [number, number] => {
      const low = Math.max(0, -from / pitch / cells);
      return [low * size, (Math.min(1, (space - from) / pitch / cells) - low) * size];
    };
    const [sx, sw] = seen(left, columns, this.box.width, width);
    const [sy, sh] = seen(top, rows, this.box.height, height);
    for (const [colour, line] of [
      [theme.bg, 3.5],
      [theme.fg, 1.5],
    ] as const) {
      target.strokeStyle = colour;
      target.lineWidth = line;
      target.strokeRect(x + sx, y + sy, Math.max(3, sw), Math.max(3, sh));
    }
    target.restore();
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
    const visible = slow && this.layout!.pitch >= 6 * this.box.scale;
    const events = step?.record.block_events ?? [];
    const now = performance.now();
    this.motion.shown(state.step, events, visible && !this.calm.matches, now);
    const theme = this.context.theme();
    const effects = visible ? effectsOf(events) : [];
    this.rings.draw(state.step, effects, theme);
    if (!visible) return;
    const colours = ringColours(theme);
    for (const { block, kind } of effects) {
      if (block < state.numBlocks) this.outline(block, colours[kind], kind === "free" ? [3, 2] : [], 1.5);
    }
    const motion = this.motion.at(now);
    if (motion === null) return;
    const target = this.surface.context;
    const side = (this.layout!.pitch - this.layout!.gap) / this.box.scale;
    target.save();
    target.lineWidth = 2;
    for (const { block, kind, from } of motion.effects) {
      const { size, alpha } = ringAt(kind, motion.share);
      const { x, y } = this.centre(block);
      target.globalAlpha = alpha;
      target.strokeStyle = colours[kind];
      target.strokeRect(x - (side * size) / 2, y - (side * size) / 2, side * size, side * size);
      if (from === null) continue;
      // The copy travels from the shared block to its own.
      const start = this.centre(from);
      target.fillStyle = colours.copy;
      target.beginPath();
      target.arc(start.x + (x - start.x) * motion.share, start.y + (y - start.y) * motion.share, 4, 0, 2 * Math.PI);
      target.fill();
    }
    target.restore();
    this.context.invalidate();
  }

  private drawSelection(state: EngineState, table: readonly number[] | undefined): void {
    const { session } = this.context;
    const theme = this.context.theme();
    if (table !== undefined && table.length <= LONGEST_PATH && this.layout!.pitch >= 2) {
      this.drawPath(table, theme, css(ownerColour(session.store, theme, this.lit!)));
    }
    const { block } = session.selection;
    if (block !== null && block < state.numBlocks) this.outline(block, theme.fg, [], 2);
  }

  /** The request's block table in its logical order: a line through its blocks, numbered where there is room. */
  private drawPath(table: readonly number[], theme: Theme, colour: string): void {
    const target = this.surface.context;
    const { pitch, gap } = this.layout!;
    const size = (pitch - gap) / this.box.scale;
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
    const { scale } = this.box;
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
    const { scale } = this.box;
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
    const words = [`${int(used)} used`, `${int(cached)} cached`, `${int(state.free.size - cached)} free`];
    words.forEach((text, i) => setText(this.counts[i]!, text));
    const held = `${int(used)} of ${int(state.numBlocks)} blocks in use, ${int(cached)} cached`;
    setAttribute(this.surface.canvas, "aria-label", `Map of the KV cache blocks: ${held}`);
    const key = `${this.mode} ${theme.dark}`;
    if (key === this.legendKey) return;
    this.legendKey = key;
    const item = (swatch: string, text: HTMLElement | string): HTMLElement =>
      h("span", {}, h("i", { class: "iw-swatch", style: `background:${swatch}` }), text);
    const ramp = `linear-gradient(90deg, ${[0, 0.5, 1].map((t) => css(heat(theme, t))).join(", ")})`;
    const scale = (from: string, to: string): HTMLElement =>
      h("span", {}, from, h("i", { class: "iw-swatch iw-ramp", style: `background:${ramp}` }), to);
    const kept = (colour: string, text: HTMLElement | string): HTMLElement =>
      h("span", {}, h("i", { class: "iw-swatch iw-kept", style: `--swatch:${colour}` }), text);
    const empty = rgb(theme.free);
    const counts = [
      item(this.mode === "state" ? theme.used : theme.fg2, this.counts[0]),
      kept(this.mode === "state" ? theme.cached : css(mix(rgb(theme.fg2), empty, 0.3)), this.counts[1]),
      item(theme.free, this.counts[2]),
    ];
    const taken = css(mix(rgb(theme.fg3), empty, 0.35));
    const keys: Record<BlockMode, HTMLElement[]> = {
      owner: counts,
      state: counts,
      refs: [scale("1 owner", "8 or more"), item(theme.free, "nobody"), kept("transparent", "cached")],
      age: [scale("1,000 steps ago", "now"), item(theme.free, "empty"), kept("transparent", "cached")],
      next: [scale("last", "next to be reused"), item(taken, "in use"), kept("transparent", "cached")],
    };
    this.legend.replaceChildren(...keys[this.mode], h("span", {}, h("i", { class: "iw-swatch iw-shared" }), "shared"));
  }

  /** What is known of the picked block stays under the map, where a screen reader finds it too. */
  private drawPicked(state: EngineState): void {
    const { session } = this.context;
    const { block } = session.selection;
    const shown = block !== null && block < state.numBlocks;
    this.picked.hidden = !shown;
    if (!shown) {
      setText(this.picked, "");
      return;
    }
    const story = tellBlock(session.store, state, block);
    const facts = story.lines.map(([name, value]) => `${name} ${value}`).join(" · ");
    const text = `${story.title}: ${facts}`;
    const tokens = story.text ?? "";
    if (this.picked.dataset["shown"] === text + tokens) return;
    this.picked.dataset["shown"] = text + tokens;
    this.picked.replaceChildren(h("span", {}, text), ...(tokens === "" ? [] : [h("code", {}, tokens)]));
  }

  // -- the reader --

  private listen(): void {
    const { canvas } = this.surface;
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || this.layout === null) return;
      canvas.setPointerCapture(event.pointerId);
      const map = this.onMap(event);
      this.drag = { x: event.clientX, y: event.clientY, moved: map, map };
      if (map) this.lookFromMap(event);
    });
    canvas.addEventListener("pointermove", (event) => this.move(event));
    canvas.addEventListener("pointerup", (event) => {
      if (this.drag?.moved === false) this.pick(event);
      this.drag = null;
    });
    canvas.addEventListener("pointercancel", () => (this.drag = null));
    canvas.addEventListener("pointerleave", () => {
      this.pointer = null;
      this.showCard(null, null);
    });
    canvas.addEventListener("dblclick", (event) => {
      const { x, y } = this.inPixels(event);
      this.zoom(ZOOM_STEP * ZOOM_STEP, x, y);
    });
    canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    this.stage.addEventListener("keydown", (event) => this.key(event));
  }

  private move(event: PointerEvent): void {
    this.pointer = event;
    const { drag } = this;
    if (drag === null) {
      const state = this.state;
      if (state !== null && this.layout !== null) this.pointAt(event, state);
      return;
    }
    if (drag.map) {
      this.lookFromMap(event);
      return;
    }
    const [dx, dy] = [event.clientX - drag.x, event.clientY - drag.y];
    if (!drag.moved && Math.hypot(dx, dy) < 4) return;
    Object.assign(drag, { x: event.clientX, y: event.clientY, moved: true });
    this.showCard(null, null);
    this.pan(dx * this.box.scale, dy * this.box.scale);
  }

  /** The page scrolls as ever unless the reader zooms on purpose: with Ctrl, or after a click into the map. */
  private wheel(event: WheelEvent): void {
    const wanted = event.ctrlKey || event.metaKey || this.stage.contains(document.activeElement);
    if (!wanted) return;
    event.preventDefault();
    const { x, y } = this.inPixels(event);
    if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) this.pan(-event.deltaX, -event.deltaY);
    else this.zoom(Math.exp(-Math.max(-60, Math.min(60, event.deltaY)) * 0.006), x, y);
  }

  private key(event: KeyboardEvent): void {
    if (event.ctrlKey || event.metaKey || event.altKey || this.layout === null) return;
    const { columns } = this.layout;
    const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[event.key];
    const state = this.state;
    if (by !== undefined && state !== null) {
      const { block } = this.context.session.selection;
      const next = Math.max(0, Math.min(state.numBlocks - 1, block === null ? 0 : block + by));
      this.select(next, ownersOf(state, next)[0] ?? null);
    } else if (event.key === "+" || event.key === "=") this.zoom(ZOOM_STEP);
    else if (event.key === "-") this.zoom(1 / ZOOM_STEP);
    else if (event.key === "0") this.look(null);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  /** Pick a block and bring it into sight. */
  private select(block: number, request: string | null): void {
    if (this.layout !== null) this.look(reveal(this.layout, this.camera, this.box, block));
    this.context.session.select({ block, request });
  }

  private inPixels(event: MouseEvent): { x: number; y: number } {
    const { x, y } = this.surface.locate(event);
    return { x: x * this.box.scale, y: y * this.box.scale };
  }

  private blockUnder(event: MouseEvent, state: EngineState): number | null {
    if (this.layout === null || this.onMap(event)) return null;
    const { x, y } = this.inPixels(event);
    return blockAt(this.layout, state.numBlocks, x, y);
  }

  private pointAt(event: MouseEvent, state: EngineState): void {
    this.showCard(event, this.blockUnder(event, state));
  }

  private showCard(event: MouseEvent | null, block: number | null): void {
    const { session } = this.context;
    const state = this.state;
    if (event === null || block === null || state === null) {
      this.card.hide();
      session.hover(null);
      return;
    }
    const story = tellBlock(session.store, state, block);
    const owner = story.owners[0];
    session.hover(owner ?? null);
    const beside = this.layout === null ? 1 : Math.round(1 / (this.layout.pitch / this.box.scale) ** 2);
    this.card.show(event, {
      title: story.title,
      ...(owner === undefined ? {} : { colour: css(ownerColour(session.store, this.context.theme(), owner)) }),
      ...(beside > 1
        ? { note: `One of about ${int(beside)} blocks under this pixel; zoom in to tell them apart.` }
        : {}),
      lines: story.lines,
      ...(story.text === null ? {} : { code: story.text }),
    });
  }

  /** Click pins the block and its owner; a second click on a shared block goes on to its next owner. */
  private pick(event: MouseEvent): void {
    const { session } = this.context;
    const state = this.state;
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
