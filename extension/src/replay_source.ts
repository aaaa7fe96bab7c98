// A saved trace as a source: one key frame with everything, and no engine behind it.

import type { EngineInfo, FramePayload } from "./protocol.ts";
import type { Source, SourceHandlers } from "./source.ts";

export interface SavedTrace {
  engine: EngineInfo;
  payload: FramePayload;
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
    this.handlers?.hello(this.trace.engine, 1);
    this.handlers?.frame(this.trace.payload, true);
  }

  unsubscribe(): void {
    // Everything was delivered at once.
  }

  command(id: string): void {
    const error = { kind: "SavedTrace", message: "This is a saved trace: there is no engine to command." };
    this.handlers?.reply({ type: "reply", id, ok: false, error });
  }
}
