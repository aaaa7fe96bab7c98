// Where each block is drawn: all of them in reading order, as large as the space allows, or a part of them larger.

export interface BlockLayout {
  /** Side of a cell with its gap, in device pixels; less than 1 where a pixel stands for several blocks. */
  readonly pitch: number;
  readonly gap: number;
  readonly columns: number;
  readonly rows: number;
  /** Left and top of the first cell, in device pixels. */
  readonly left: number;
  readonly top: number;
}

/** What part of the map is looked at: the size of a cell, and the place (in columns and rows) at the centre. */
export interface Camera {
  readonly pitch: number;
  readonly x: number;
  readonly y: number;
}

/** The space for the map, in device pixels; `scale` is device pixels per CSS pixel. */
export interface Box {
  readonly width: number;
  readonly height: number;
  readonly scale: number;
}

const LARGEST_FITTED = 56;
const LARGEST_ZOOMED = 120;

/** Lay out `count` cells so that all of them are seen. */
export function layoutBlocks(count: number, width: number, height: number, scale: number): BlockLayout {
  const largest = Math.floor(LARGEST_FITTED * scale);
  let pitch = Math.max(1, Math.min(largest, Math.floor(Math.sqrt((width * height) / Math.max(1, count)))));
  const fits = (size: number): boolean => Math.ceil(count / Math.max(1, Math.floor(width / size))) * size <= height;
  while (pitch < largest && fits(pitch + 1)) pitch += 1;
  while (pitch > 1 && !fits(pitch)) pitch -= 1;
  if (!fits(pitch)) return overview(count, width, height);
  let columns = Math.max(1, Math.min(count, Math.floor(width / pitch)));
  // Rows of 8, 16, 32 … make block numbers easy to count, where that costs no size.
  for (const step of [32, 16, 8]) {
    const rounded = Math.floor(columns / step) * step;
    if (rounded > 0 && Math.ceil(count / rounded) * pitch <= height) {
      columns = rounded;
      break;
    }
  }
  return centred(pitch, columns, Math.ceil(count / columns), width, height, scale);
}

/** More blocks than pixels: each pixel stands for several. */
function overview(count: number, width: number, height: number): BlockLayout {
  const columns = Math.ceil(Math.sqrt((count * width) / Math.max(1, height)) / 64) * 64;
  const rows = Math.ceil(count / columns);
  return centred(Math.min(width / columns, height / rows), columns, rows, width, height, 1);
}

function centred(
  pitch: number,
  columns: number,
  rows: number,
  width: number,
  height: number,
  scale: number,
): BlockLayout {
  const gap = gapOf(pitch, scale);
  const left = Math.floor((width - columns * pitch + gap) / 2);
  return { pitch, gap, columns, rows, left, top: Math.floor((height - rows * pitch + gap) / 2) };
}

function gapOf(pitch: number, scale: number): number {
  return pitch >= 14 * scale ? Math.round(2 * scale) : pitch >= 5 * scale ? Math.max(1, Math.round(scale)) : 0;
}

/** The layout that a camera sees; null sees everything. The map never leaves an edge of the box empty needlessly. */
export function place(fit: BlockLayout, camera: Camera | null, box: Box): BlockLayout {
  if (camera === null) return fit;
  const { pitch } = camera;
  const gap = gapOf(pitch, box.scale);
  const side = (size: number, cells: number, at: number): number => {
    const whole = cells * pitch - gap;
    if (whole <= size) return Math.floor((size - whole) / 2);
    return Math.round(Math.max(size - whole, Math.min(0, size / 2 - at * pitch)));
  };
  const left = side(box.width, fit.columns, camera.x);
  return { ...fit, pitch, gap, left, top: side(box.height, fit.rows, camera.y) };
}

/** Zoom by a factor about a point of the box; null when everything is seen again. */
export function zoomAt(
  fit: BlockLayout,
  now: BlockLayout,
  box: Box,
  factor: number,
  x: number,
  y: number,
): Camera | null {
  const largest = Math.max(fit.pitch, LARGEST_ZOOMED * box.scale);
  let pitch = Math.min(largest, now.pitch * factor);
  // Whole pixels, so that every cell has the same size; always at least one more or less.
  if (pitch >= 2) pitch = factor > 1 ? Math.max(Math.floor(now.pitch) + 1, Math.round(pitch)) : Math.floor(pitch);
  pitch = Math.min(largest, pitch);
  if (pitch <= fit.pitch * 1.001) return null;
  const column = (x - now.left) / now.pitch;
  const row = (y - now.top) / now.pitch;
  return { pitch, x: column + (box.width / 2 - x) / pitch, y: row + (box.height / 2 - y) / pitch };
}

/** Move what is seen by device pixels; what everything is seen of does not move. */
export function panBy(now: BlockLayout, camera: Camera | null, box: Box, dx: number, dy: number): Camera | null {
  if (camera === null) return null;
  return lookAt(now, box, (box.width / 2 - now.left - dx) / now.pitch, (box.height / 2 - now.top - dy) / now.pitch);
}

/** A camera of the present size over a place, kept within the map. */
export function lookAt(now: BlockLayout, box: Box, x: number, y: number): Camera {
  const within = (at: number, cells: number, size: number): number => {
    const half = size / now.pitch / 2;
    return cells <= 2 * half ? cells / 2 : Math.max(half, Math.min(cells - half, at));
  };
  return { pitch: now.pitch, x: within(x, now.columns, box.width), y: within(y, now.rows, box.height) };
}

/** Move the camera just as far as needed for a block to be seen. */
export function reveal(now: BlockLayout, camera: Camera | null, box: Box, block: number): Camera | null {
  if (camera === null) return null;
  const x = now.left + (block % now.columns) * now.pitch;
  const y = now.top + Math.floor(block / now.columns) * now.pitch;
  const outside = (at: number, size: number): number => (at < 0 ? -at : Math.min(0, size - at - now.pitch));
  return panBy(now, camera, box, outside(x, box.width), outside(y, box.height));
}

export interface CellRange {
  readonly firstColumn: number;
  readonly lastColumn: number;
  readonly firstRow: number;
  readonly lastRow: number;
}

/** The cells that are at least partly inside the box, both ends included. */
export function visibleCells(layout: BlockLayout, box: Box): CellRange {
  const { pitch, left, top, columns, rows } = layout;
  return {
    firstColumn: Math.max(0, Math.floor(-left / pitch)),
    lastColumn: Math.min(columns - 1, Math.floor((box.width - 1 - left) / pitch)),
    firstRow: Math.max(0, Math.floor(-top / pitch)),
    lastRow: Math.min(rows - 1, Math.floor((box.height - 1 - top) / pitch)),
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

/** How large a block is drawn, in words: "8 px each", "1 px = 4 blocks". */
export function sizeInWords(pitch: number, scale: number): string {
  const pixels = pitch / scale;
  if (pixels >= 1) return `${pixels >= 10 ? Math.round(pixels) : Number(pixels.toFixed(1))} px a block`;
  return `${Number((1 / (pixels * pixels)).toFixed(1))} blocks a px`;
}
