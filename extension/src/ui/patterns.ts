// Hatches, so that waiting and prefill differ from decode without colour too.

const cache = new Map<string, CanvasPattern>();

/** Diagonal lines in a colour; `spacing` and `width` in CSS pixels. */
export function hatch(
  context: CanvasRenderingContext2D,
  colour: string,
  spacing: number,
  width: number,
  scale: number,
): CanvasPattern {
  const key = `${colour} ${spacing} ${width} ${scale}`;
  const known = cache.get(key);
  if (known !== undefined) return known;
  const size = Math.max(2, Math.round(spacing * scale));
  const tile = new OffscreenCanvas(size, size);
  const pen = tile.getContext("2d")!;
  pen.strokeStyle = colour;
  pen.lineWidth = width * scale;
  pen.lineCap = "square";
  pen.beginPath();
  // Three lines, so that the pattern has no seams at the tile's corners.
  for (const shift of [-size, 0, size]) {
    pen.moveTo(shift, size);
    pen.lineTo(shift + size, 0);
  }
  pen.stroke();
  const pattern = context.createPattern(tile, "repeat")!;
  pattern.setTransform(new DOMMatrix().scale(1 / scale));
  cache.set(key, pattern);
  return pattern;
}
