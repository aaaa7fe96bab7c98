// The map with one pixel a block, kept from frame to frame: only rows with changed blocks are written again.

import { css, type Rgb } from "../ui/theme.ts";
import type { BlockLayout, Box } from "./block_layout.ts";

export class BlockRaster {
  readonly canvas = document.createElement("canvas");
  private readonly context = this.canvas.getContext("2d")!;
  private image = new ImageData(1, 1);
  private words = new Uint32Array(this.image.data.buffer);
  private paletteKey = "";

  /** Write the blocks in `changed` (null: all) in the palette's colours, `columns` blocks a row. */
  update(index: Uint8Array, palette: readonly Rgb[], columns: number, changed: readonly number[] | null): void {
    const rows = Math.ceil(index.length / columns);
    const key = palette.map((colour) => colour.join()).join(" ");
    let all = changed === null || key !== this.paletteKey;
    this.paletteKey = key;
    if (this.canvas.width !== columns || this.canvas.height !== rows) {
      this.canvas.width = columns;
      this.canvas.height = rows;
      this.image = new ImageData(columns, rows);
      this.words = new Uint32Array(this.image.data.buffer);
      all = true;
    }
    const colours = Uint32Array.from(palette, word);
    if (all) {
      for (let b = 0; b < index.length; b++) this.words[b] = colours[index[b]!]!;
      this.context.putImageData(this.image, 0, 0);
      return;
    }
    const dirty = new Set<number>();
    for (const b of changed!) {
      this.words[b] = colours[index[b]!]!;
      dirty.add(Math.floor(b / columns));
    }
    if (dirty.size > rows / 3) this.context.putImageData(this.image, 0, 0);
    else for (const row of dirty) this.context.putImageData(this.image, 0, 0, 0, row, columns, 1);
  }

  /** Draw what the layout shows of the map; the target's unit must be device pixels. */
  draw(target: CanvasRenderingContext2D, layout: BlockLayout): void {
    const { pitch, left, top, columns, rows } = layout;
    // Where a pixel stands for several blocks it gets their mean colour.
    target.imageSmoothingEnabled = pitch < 1;
    target.drawImage(this.canvas, left, top, columns * pitch, rows * pitch);
  }

  /** Lines between cells that are large enough for them. */
  drawGaps(target: CanvasRenderingContext2D, layout: BlockLayout, box: Box, background: string): void {
    const { pitch, gap, left, top, columns, rows } = layout;
    if (gap === 0) return;
    target.fillStyle = background;
    for (let c = Math.max(1, Math.floor(-left / pitch)); c <= columns && left + c * pitch - gap < box.width; c++) {
      target.fillRect(left + c * pitch - gap, Math.max(0, top), gap, Math.min(box.height, rows * pitch));
    }
    for (let r = Math.max(1, Math.floor(-top / pitch)); r <= rows && top + r * pitch - gap < box.height; r++) {
      target.fillRect(Math.max(0, left), top + r * pitch - gap, Math.min(box.width, columns * pitch), gap);
    }
  }

  /** Let a request's blocks stand out by dimming all others. */
  drawLit(
    target: CanvasRenderingContext2D,
    layout: BlockLayout,
    box: Box,
    lit: readonly number[],
    colourOf: (block: number) => Rgb,
    background: Rgb,
  ): void {
    target.fillStyle = css(background, 0.7);
    target.fillRect(0, 0, box.width, box.height);
    const { pitch, gap, left, top, columns } = layout;
    const size = Math.max(1, pitch - gap);
    for (const block of lit) {
      const x = left + (block % columns) * pitch;
      const y = top + Math.floor(block / columns) * pitch;
      if (x < -pitch || y < -pitch || x > box.width || y > box.height) continue;
      target.fillStyle = css(colourOf(block));
      target.fillRect(x, y, size, size);
    }
  }
}

/** A colour as one word of image data. */
function word(colour: Rgb): number {
  return (0xff000000 | (colour[2] << 16) | (colour[1] << 8) | colour[0]) >>> 0;
}
