// How soon views are drawn again while steps are too quick to follow one by one. Without a GPU a drawing takes the page's
// thread 20 ms and more, on a processor that the engine may want.

import type { Selection, Session } from "../session.ts";
import type { Cursor } from "../trace_types.ts";

const FAST_STEPS_PER_SECOND = 30;
/** So much of a processor's time may go into drawing then … */
const SHARE = 0.1;
/** … but no drawing is put off for longer. */
const LONGEST_REST_MS = 250;
/** Weight of the newest drawing in what one costs. */
const NEWEST = 0.2;

export class Pace {
  private readonly session: Session;
  private readonly now: () => number;
  private readonly rendered = new MessageChannel();
  private began = 0;
  /** Milliseconds of a drawing, up to the end of layout and paint. */
  private cost = 0;
  private selection: Selection | null = null;
  private cursor: Cursor = "live";
  private hovered: string | null = null;

  constructor(session: Session, now = (): number => performance.now()) {
    this.session = session;
    this.now = now;
    this.rendered.port1.onmessage = () => this.end();
  }

  /** A drawing begins, in an animation frame: a message sent now comes once that is laid out and painted. */
  begin(): void {
    ({ selection: this.selection, cursor: this.cursor, hovered: this.hovered } = this.session);
    this.began = this.now();
    this.rendered.port2.postMessage(null);
  }

  end(): void {
    const took = this.now() - this.began;
    this.cost = this.cost === 0 ? took : this.cost + (took - this.cost) * NEWEST;
  }

  /** Milliseconds to wait before the next drawing; 0 where steps can be followed, or what the reader does is to be shown. */
  rest(): number {
    const { selection, cursor, hovered } = this.session;
    if (selection !== this.selection || cursor !== this.cursor || hovered !== this.hovered) return 0;
    if (!this.tooQuick()) return 0;
    return Math.max(0, this.began + Math.min(LONGEST_REST_MS, this.cost / SHARE) - this.now());
  }

  destroy(): void {
    this.rendered.port1.close();
  }

  private tooQuick(): boolean {
    const { status, steps } = this.session.store;
    const newest = steps.at(-1);
    const before = steps.at(-1 - FAST_STEPS_PER_SECOND);
    return status?.state === "running" && before !== undefined && newest!.end - before.end < 1;
  }
}
