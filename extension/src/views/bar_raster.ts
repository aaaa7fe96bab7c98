// Bars as pixels: a timeline has thousands of them, which a canvas would take one by one.

import { rgb } from "../ui/theme.ts";

export class BarRaster {
  private readonly canvas = document.createElement("canvas");
  private readonly context = this.canvas.getContext("2d")!;
  private image = new ImageData(1, 1);
  private words = new Uint32Array(this.image.data.buffer);
  private readonly colours = new Map<string, number>();
  private left = 0;
  private top = 0;
  private scale = 1;

  /** Begin anew over a rectangle in CSS pixels; `scale` is device pixels per CSS pixel. */
  begin(left: number, top: number, width: number, height: number, scale: number): void {
    const columns = Math.max(1, Math.ceil(width * scale));
    const rows = Math.max(1, Math.ceil(height * scale));
    if (this.canvas.width !== columns || this.canvas.height !== rows) {
      this.canvas.width = columns;
      this.canvas.height = rows;
      this.image = new ImageData(columns, rows);
      this.words = new Uint32Array(this.image.data.buffer);
    } else {
      this.words.fill(0);
    }
    // Whole device pixels, so that what is drawn here is not smoothed when it is put into the picture.
    this.left = Math.round(left * scale);
    this.top = Math.round(top * scale);
    this.scale = scale;
  }

  /** A bar in an opaque colour, its edges in CSS pixels rounded to the screen's; at least a pixel wide. */
  bar(colour: string, x: number, top: number, width: number, bottom: number): void {
    const { scale, words } = this;
    const columns = this.canvas.width;
    const from = Math.max(0, Math.round(x * scale) - this.left);
    const to = Math.min(columns, Math.max(from + 1, Math.round((x + width) * scale) - this.left));
    const first = Math.max(0, Math.round(top * scale) - this.top);
    const last = Math.min(this.canvas.height, Math.round(bottom * scale) - this.top);
    const word = this.word(colour);
    for (let row = first * columns; row < last * columns; row += columns) {
      for (let i = row + from; i < row + to; i++) words[i] = word;
    }
  }

  /** Put the bars into the picture. */
  draw(target: CanvasRenderingContext2D): void {
    this.context.putImageData(this.image, 0, 0);
    target.save();
    target.setTransform(1, 0, 0, 1, 0, 0);
    target.drawImage(this.canvas, this.left, this.top);
    target.restore();
  }

  private word(colour: string): number {
    let word = this.colours.get(colour);
    if (word === undefined) {
      const [r, g, b] = rgb(colour);
      word = (0xff000000 | (b << 16) | (g << 8) | r) >>> 0;
      this.colours.set(colour, word);
    }
    return word;
  }
}
