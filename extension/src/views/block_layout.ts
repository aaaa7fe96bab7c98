// Where each block is drawn: as many cells as there are blocks, as large as the space allows, in reading order.

export interface BlockLayout {
  /** Side of a cell with its gap, in device pixels. */
  readonly pitch: number;
  readonly gap: number;
  readonly columns: number;
  readonly rows: number;
  /** Left and top of the first cell, in device pixels. */
  readonly left: number;
  readonly top: number;
}

const LARGEST = 56;

/** Lay out `count` cells in a box of device pixels; `scale` is device pixels per CSS pixel. */
export function layoutBlocks(count: number, width: number, height: number, scale: number): BlockLayout {
  const largest = Math.floor(LARGEST * scale);
  let pitch = Math.max(1, Math.min(largest, Math.floor(Math.sqrt((width * height) / Math.max(1, count)))));
  const fits = (size: number): boolean => Math.ceil(count / Math.max(1, Math.floor(width / size))) * size <= height;
  while (pitch < largest && fits(pitch + 1)) pitch += 1;
  while (pitch > 1 && !fits(pitch)) pitch -= 1;
  let columns = Math.max(1, Math.min(count, Math.floor(width / pitch)));
  // Rows of 8, 16, 32 … make block numbers easy to count, where that costs no size.
  for (const step of [32, 16, 8]) {
    const rounded = Math.floor(columns / step) * step;
    if (rounded > 0 && Math.ceil(count / rounded) * pitch <= height) {
      columns = rounded;
      break;
    }
  }
  const rows = Math.ceil(count / columns);
  const gap = pitch >= 14 * scale ? Math.round(2 * scale) : pitch >= 5 * scale ? Math.max(1, Math.round(scale)) : 0;
  return {
    pitch,
    gap,
    columns,
    rows,
    left: Math.floor((width - columns * pitch + gap) / 2),
    top: Math.floor((height - rows * pitch + gap) / 2),
  };
}

/** The block at a place in device pixels, or null beside the cells. */
export function blockAt(layout: BlockLayout, count: number, x: number, y: number): number | null {
  const column = Math.floor((x - layout.left) / layout.pitch);
  const row = Math.floor((y - layout.top) / layout.pitch);
  if (column < 0 || column >= layout.columns || row < 0 || row >= layout.rows) return null;
  const block = row * layout.columns + column;
  return block < count ? block : null;
}
