// Blocks drawn one by one, where there is room for their fill, number and marks.

import type { EngineState } from "../replay.ts";
import { css, inkOn, type Rgb, rgb, type Theme } from "../ui/theme.ts";
import type { BlockColours } from "./block_colours.ts";
import { fill, placeIn } from "./block_facts.ts";
import { type BlockLayout, type Box, visibleCells } from "./block_layout.ts";

/** How the first free blocks are marked where there is room. */
const NEXT_NAMES = ["next", "2nd", "3rd"] as const;

export interface CellScene {
  readonly state: EngineState;
  readonly colours: BlockColours;
  readonly palette: readonly Rgb[];
  readonly theme: Theme;
  readonly layout: BlockLayout;
  readonly box: Box;
  /** Blocks that stand out; null if all are equal. */
  readonly lit: ReadonlySet<number> | null;
  /** True if every cell is there in its colour: only those that are more than that are drawn. */
  readonly coloured: boolean;
}

/** From this size on, in CSS pixels, a cell has its block's number in it. */
const NUMBERED = 30;

/** Draw the visible cells; the target's unit must be device pixels. */
export function drawCells(target: CanvasRenderingContext2D, scene: CellScene): void {
  const { state, layout, box, theme } = scene;
  const next = firstFree(state, NEXT_NAMES.length);
  const cells = visibleCells(layout, box);
  const size = layout.pitch - layout.gap;
  target.textAlign = "center";
  target.textBaseline = "middle";
  target.font = `500 ${Math.round(Math.min(size * 0.4, 10 * box.scale))}px ${theme.font}`;
  for (let row = cells.firstRow; row <= cells.lastRow; row++) {
    for (let column = cells.firstColumn; column <= cells.lastColumn; column++) {
      const block = row * layout.columns + column;
      if (block >= state.numBlocks) return;
      const x = layout.left + column * layout.pitch;
      const y = layout.top + row * layout.pitch;
      target.globalAlpha = scene.lit !== null && !scene.lit.has(block) ? 0.28 : 1;
      drawCell(target, scene, block, x, y, size, next);
    }
  }
}

function drawCell(
  target: CanvasRenderingContext2D,
  scene: CellScene,
  block: number,
  x: number,
  y: number,
  size: number,
  next: readonly number[],
): void {
  const { state, colours, theme } = scene;
  const { scale } = scene.box;
  const owner = colours.owner[block]!;
  const colour = scene.palette[colours.index[block]!]!;
  const share = owner === "" ? 1 : fill(state, owner, placeIn(state, owner, block));
  if (!scene.coloured || share < 1) drawFill(target, colour, theme, share, x, y, size);
  if (state.refCounts[block]! > 1) markShared(target, scene, x, y, size, state.refCounts[block]!, colour);
  const rank = owner === "" ? next.indexOf(block) : -1;
  // Both a number and its place in the queue of free blocks need more room than a number.
  if (size >= (rank < 0 ? NUMBERED : 40) * scale) {
    target.textAlign = "left";
    target.fillStyle = inkOn(colour);
    const alpha = target.globalAlpha;
    target.globalAlpha = alpha * 0.6;
    target.fillText(String(block), x + 4 * scale, y + size - 8 * scale);
    target.globalAlpha = alpha;
    target.textAlign = "center";
  }
  if (owner !== "") return;
  target.fillStyle = css(rgb(inkOn(colour)), 0.75);
  if (rank >= 0) {
    const name = size >= NUMBERED * scale ? NEXT_NAMES[rank]! : String(rank + 1);
    target.fillText(name, x + size / 2, y + size / 2 + scale * 0.5);
  } else if (state.hashes[block] !== "") {
    target.beginPath();
    target.arc(x + size / 2, y + size / 2, Math.max(1.2 * scale, Math.min(size * 0.09, 3 * scale)), 0, 2 * Math.PI);
    target.fill();
  }
}

/** As high as the block is full, over a paler shade of its colour. */
function drawFill(
  target: CanvasRenderingContext2D,
  colour: Rgb,
  theme: Theme,
  share: number,
  x: number,
  y: number,
  size: number,
): void {
  target.fillStyle = theme.free;
  target.fillRect(x, y, size, size);
  if (share < 1) {
    target.fillStyle = css(colour, 0.32);
    target.fillRect(x, y, size, size);
  }
  const filled = Math.round(size * share);
  target.fillStyle = css(colour);
  target.fillRect(x, y + size - filled, size, filled);
}

/** A corner in the ink's colour, and the count where there is room: sharing must be seen without colour. */
function markShared(
  target: CanvasRenderingContext2D,
  { box, theme }: CellScene,
  x: number,
  y: number,
  size: number,
  owners: number,
  colour: Rgb,
): void {
  const side = Math.min(size * 0.5, 18 * box.scale);
  target.fillStyle = inkOn(colour);
  target.beginPath();
  target.moveTo(x + size, y);
  target.lineTo(x + size - side, y);
  target.lineTo(x + size, y + side);
  target.fill();
  if (size < 18 * box.scale) return;
  const font = target.font;
  target.font = `600 ${Math.round(side * 0.52)}px ${theme.font}`;
  target.fillStyle = css(colour);
  target.fillText(String(owners), x + size - side * 0.31, y + side * 0.36);
  target.font = font;
}

function firstFree(state: EngineState, n: number): number[] {
  const found: number[] = [];
  for (const block of state.free) {
    if (found.length === n) break;
    found.push(block);
  }
  return found;
}
