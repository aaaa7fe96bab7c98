// How soon views are drawn again while steps are too quick to follow one by one. Without a GPU a drawing takes the page's
// thread 20 ms and more, on a processor that the engine may want.

import type { Selection, Session } from "../session.ts";
import type { TraceStore } from "../store.ts";
import type { Cursor } from "../trace_types.ts";

const FAST_STEPS_PER_SECOND = 30;
/** So much of a processor's time may go into drawing then … */
const SHARE = 0.05;
/** … but no drawing is put off for longer. */
const LONGEST_REST_MS = 500;
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

  /** True while steps go by that nobody can follow; false where what the reader does is to be shown. */
  skims(): boolean {
    const { selection, cursor, hovered } = this.session;
    const acted = selection !== this.selection || cursor !== this.cursor || hovered !== this.hovered;
    return !acted && tooQuick(this.session.store);
  }

  /** Milliseconds to wait before the next drawing. */
  rest(): number {
    if (!this.skims()) return 0;
    return Math.max(0, this.began + Math.min(LONGEST_REST_MS, this.cost / SHARE) - this.now());
  }

  destroy(): void {
    this.rendered.port1.close();
  }
}

/** More steps a second than anybody can follow one by one. */
export function tooQuick({ status, steps }: TraceStore): boolean {
  const newest = steps.at(-1);
  const before = steps.at(-1 - FAST_STEPS_PER_SECOND);
  return status?.state === "running" && before !== undefined && newest!.end - before.end < 1;
}
