// The picked request's block table as a strip: its blocks in logical order, each by its number in the pool.

import { count, int } from "../format.ts";
import type { EngineState } from "../replay.ts";
import { h, setAttribute, setText } from "../ui/dom.ts";
import { Surface } from "../ui/surface.ts";
import { css, inkOn, type Rgb, rgb, type Theme } from "../ui/theme.ts";
import { fill } from "./block_facts.ts";

const WIDEST = 40;

export interface StripEvents {
  resized(): void;
  hover(event: MouseEvent | null, block: number | null): void;
  pick(block: number): void;
}

export class BlockStrip {
  private readonly title = h("span", { class: "iw-strip-title" });
  private readonly stage = h("div", { class: "iw-strip-cells" });
  readonly element = h("div", { class: "iw-strip", "data-testid": "block-table" }, this.title, this.stage);
  private readonly surface: Surface;
  private table: readonly number[] = [];

  constructor(events: StripEvents) {
    this.surface = new Surface(this.stage, "Block table", events.resized);
    const { canvas } = this.surface;
    canvas.addEventListener("pointermove", (event) => events.hover(event, this.blockUnder(event)));
    canvas.addEventListener("pointerleave", () => events.hover(null, null));
    canvas.addEventListener("click", (event) => {
      const block = this.blockUnder(event);
      if (block !== null) events.pick(block);
    });
  }

  destroy(): void {
    this.surface.destroy();
  }

  /** Show a request's table; null hides the strip. */
  draw(state: EngineState, request: string | null, picked: number | null, colour: Rgb, theme: Theme): void {
    const table = request === null ? undefined : state.blockTables.get(request);
    this.element.hidden = request === null;
    if (request === null) return;
    this.table = table ?? [];
    if (table === undefined) {
      setText(this.title, `${request} holds no blocks at this step`);
      this.surface.begin();
      return;
    }
    const computed = Math.min(state.requests.get(request)?.numComputed ?? 0, table.length * state.blockSize);
    const room = table.length * state.blockSize;
    setText(this.title, `${request}: ${count(table.length, "block")}, ${int(computed)} of ${int(room)} tokens filled`);
    setAttribute(this.surface.canvas, "aria-label", `Block table of ${request} in logical order: ${listed(table)}`);
    const target = this.surface.begin();
    const { height } = this.surface;
    const pitch = this.pitch;
    const gap = pitch >= 5 ? 1.5 : 0;
    target.textAlign = "center";
    target.textBaseline = "middle";
    target.font = `500 ${pitch >= 30 ? 10 : 9}px ${theme.font}`;
    // With more blocks than pixels, one of those that share a pixel is drawn.
    const step = Math.max(1, Math.floor(1 / pitch));
    // Numbers for all of them or for none: a few among blank ones would look like marks.
    const numbered = pitch >= 9 + 6 * String(Math.max(...table)).length;
    for (let i = 0; i < table.length; i += step) {
      const block = table[i]!;
      const x = i * pitch;
      const width = Math.max(1, pitch - gap);
      const share = fill(state, request, i);
      target.fillStyle = css(colour, 0.3);
      target.fillRect(x, 0, width, height);
      target.fillStyle = css(colour);
      target.fillRect(x, height * (1 - share), width, height * share);
      if (state.refCounts[block]! > 1 && pitch >= 3) {
        const corner = Math.min(7, width * 0.6);
        target.fillStyle = inkOn(colour);
        target.beginPath();
        target.moveTo(x + width, 0);
        target.lineTo(x + width - corner, 0);
        target.lineTo(x + width, corner);
        target.fill();
      }
      if (numbered) {
        target.fillStyle = share >= 0.5 ? inkOn(colour) : theme.fg;
        target.fillText(String(block), x + width / 2, height / 2 + 0.5);
      }
      if (block === picked) {
        target.strokeStyle = css(rgb(theme.fg));
        target.lineWidth = 2;
        target.strokeRect(x + 1, 1, Math.max(1, width - 2), height - 2);
      }
    }
  }

  private get pitch(): number {
    return Math.min(WIDEST, this.surface.width / Math.max(1, this.table.length));
  }

  private blockUnder(event: MouseEvent): number | null {
    return this.table[Math.floor(this.surface.locate(event).x / this.pitch)] ?? null;
  }
}

function listed(table: readonly number[]): string {
  const shown = table.slice(0, 24).join(", ");
  return table.length > 24 ? `${shown} and ${int(table.length - 24)} more` : shown;
}
