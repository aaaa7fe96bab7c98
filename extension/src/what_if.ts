// A question to the simulator and its answer, shared by the views that ask and the one that shows it.

import type { ComparisonData, Recipe } from "./protocol.ts";
import type { Session } from "./session.ts";

/** A long trace takes long to simulate; the engine tells meanwhile how far it is. */
const ANSWER_WITHIN_MS = 600_000;

export class WhatIf {
  running = false;
  failure = "";
  result: ComparisonData | null = null;
  private readonly session: Session;

  constructor(session: Session) {
    this.session = session;
  }

  /** The recorded run under other settings; or, with a recipe, that traffic under the present and the other ones. */
  ask(settings: Record<string, unknown>, recipe: Recipe | null): void {
    const { session } = this;
    this.running = true;
    this.failure = "";
    session.touch();
    const args = recipe === null ? { settings } : { settings, recipe };
    session
      .command("what_if", args, ANSWER_WITHIN_MS)
      .then(
        (result) => void (this.result = result),
        (error: Error) => void (this.failure = error.message),
      )
      .finally(() => {
        this.running = false;
        session.touch();
      });
  }

  stop(): void {
    this.session.command("what_if_stop", {}).catch(() => undefined);
  }
}
