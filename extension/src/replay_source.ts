// A saved trace as a source: one key frame with everything, and no engine behind it.

import {
  type CommandArgs,
  type CommandName,
  type EngineInfo,
  type FramePayload,
  PROTOCOL_VERSION,
  type WhyResult,
} from "./protocol.ts";
import type { Source, SourceHandlers } from "./source.ts";

export interface SavedTrace {
  engine: EngineInfo;
  payload: FramePayload;
  /** Request id -> the answer to "why". Pages made before it was kept lack it. */
  why?: Record<string, WhyResult>;
}

export class ReplaySource implements Source {
  readonly interactive = false;
  private readonly trace: SavedTrace;
  private handlers: SourceHandlers | null = null;

  constructor(trace: SavedTrace) {
    this.trace = trace;
  }

  listen(handlers: SourceHandlers): () => void {
    this.handlers = handlers;
    return () => {
      this.handlers = null;
    };
  }

  subscribe(): void {
    this.handlers?.hello(this.trace.engine, PROTOCOL_VERSION, true);
    this.handlers?.frame(this.trace.payload, true);
  }

  unsubscribe(): void {
    // Everything was delivered at once.
  }

  command<N extends CommandName>(id: string, name: N, args: CommandArgs[N]): void {
    const answer = name === "why" ? this.trace.why?.[(args as CommandArgs["why"]).request_id] : undefined;
    if (answer !== undefined) {
      this.handlers?.reply({ type: "reply", id, ok: true, result: answer });
      return;
    }
    const error = { kind: "SavedTrace", message: "This is a saved trace: there is no engine to command." };
    this.handlers?.reply({ type: "reply", id, ok: false, error });
  }
}
