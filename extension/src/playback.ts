// Plays the recorded steps, as a film: the cursor moves on by itself until it reaches the newest step.

import type { Session } from "./session.ts";

const STEPS_PER_SECOND = 15;
/** A long trace is played in about this many seconds. */
const LONGEST_SECONDS = 60;

export class Playback {
  private readonly session: Session;
  private timer: ReturnType<typeof setInterval> | undefined;
  /** Where it put the cursor last: whoever moves it elsewhere stops the film. */
  private at = -1;

  constructor(session: Session) {
    this.session = session;
  }

  get playing(): boolean {
    return this.timer !== undefined;
  }

  toggle(): void {
    if (this.playing) this.stop();
    else this.start();
  }

  stop(): void {
    clearInterval(this.timer);
    this.timer = undefined;
    this.session.touch();
  }

  private start(): void {
    const { session } = this;
    const { firstStep, lastStep } = session.store;
    if (firstStep === null || lastStep === null) return;
    if (session.cursor === "live" || session.cursor >= lastStep) session.setCursor(firstStep);
    this.at = session.cursor as number;
    const stride = Math.max(1, Math.ceil((lastStep - this.at) / (STEPS_PER_SECOND * LONGEST_SECONDS)));
    this.timer = setInterval(() => this.advance(stride), 1000 / STEPS_PER_SECOND);
    session.touch();
  }

  private advance(stride: number): void {
    const { session } = this;
    const last = session.store.lastStep;
    if (session.cursor !== this.at || last === null || this.at >= last) return this.stop();
    this.at = Math.min(last, this.at + stride);
    session.setCursor(this.at);
  }
}
