// Asks whoever has the trace why a request took as long as it did, at the moments at which the answer can be new.
// No DOM here.

import type { Cause } from "../protocol.ts";
import type { Session } from "../session.ts";

/** An engine that steps while paused is one that runs slowly: the question waits until it stands still so long, in ms. */
const STANDSTILL_MS = 200;

export class WhyQuestion {
  /** The last answer about the request that is followed; null if there is none. */
  causes: readonly Cause[] | null = null;
  private readonly session: Session;
  private readonly answered: () => void;
  private request: string | null = null;
  /** What the last question was about: the same moment is not asked about twice. */
  private moment = "";
  private asked = 0;
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(session: Session, answered: () => void) {
    this.session = session;
    this.answered = answered;
  }

  /** Call with each draw: asks when the request is a new one, has ended, or the engine has paused. */
  follow(request: string | null): void {
    if (request !== this.request) {
      this.stop();
      this.request = request;
    }
    if (request === null || this.session.connection !== "live") return;
    const { store } = this.session;
    const ended = (store.requests.get(request)?.ending ?? null) !== null;
    const paused = !ended && store.status?.state === "paused";
    const moment = ended ? "ended" : paused ? `paused at ${store.status?.step}` : "running";
    if (moment === this.moment) return;
    const first = this.moment === "";
    this.moment = moment;
    clearTimeout(this.timer);
    if (first || ended) this.ask(request);
    else if (paused) this.timer = setTimeout(() => this.ask(request), STANDSTILL_MS);
  }

  stop(): void {
    clearTimeout(this.timer);
    this.asked += 1;
    this.request = null;
    this.moment = "";
    this.causes = null;
  }

  private ask(request: string): void {
    const number = ++this.asked;
    this.session.command("why", { request_id: request }).then(
      ({ causes }) => {
        if (number !== this.asked) return;
        this.causes = causes;
        this.answered();
      },
      // Without an answer the page's own sentences stay.
      () => undefined,
    );
  }
}
