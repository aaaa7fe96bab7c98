// A notebook widget's model as a source of frames.

import { decodePayload, isFromEngine, type ToEngine, type CommandArgs, type CommandName } from "./protocol.ts";
import { onOtherUpdates, wantedUpdates } from "./registry.ts";
import type { Source, SourceHandlers } from "./source.ts";

/** The part of anywidget's model that the views use, so that a panel can offer the same over another channel. */
export interface WidgetModel {
  get(name: string): unknown;
  set(name: string, value: unknown): void;
  on(name: string, callback: (...args: never[]) => void): void;
  off(name: string, callback: (...args: never[]) => void): void;
  save_changes(): void;
  send(content: unknown): void;
}

/** An ack stands for all frames before it; every message to a kernel makes its indicator blink. */
const ACK_EVERY = 10;

export class WidgetSource implements Source {
  readonly interactive = true;
  private readonly model: WidgetModel;
  private handlers: SourceHandlers | null = null;
  private stopAsking: (() => void) | null = null;

  constructor(model: WidgetModel) {
    this.model = model;
  }

  listen(handlers: SourceHandlers): () => void {
    this.handlers = handlers;
    const onMessage = (content: unknown, buffers?: (ArrayBuffer | ArrayBufferView)[]): void => {
      if (!isFromEngine(content)) return;
      if (content.type === "hello") handlers.hello(content.engine, content.protocol, content.saved);
      else if (content.type === "reply") handlers.reply(content);
      else {
        try {
          const payload = buffers?.[0];
          if (payload !== undefined) handlers.frame(decodePayload(payload), content.keyframe);
        } finally {
          // Also after a frame that could not be read: without the ack the stream would stop for good.
          if (content.keyframe || content.seq % ACK_EVERY === 0) this.send({ type: "ack", seq: content.seq });
        }
      }
    };
    const onLost = (): void => handlers.lost();
    this.model.on("msg:custom", onMessage);
    this.model.on("comm:close", onLost);
    this.model.on("comm_live_update", onLost);
    return () => {
      this.endAsking();
      this.handlers = null;
      this.model.off("msg:custom", onMessage);
      this.model.off("comm:close", onLost);
      this.model.off("comm_live_update", onLost);
    };
  }

  subscribe(): void {
    this.stopAsking ??= onOtherUpdates(() => this.subscribe());
    const message: ToEngine = { type: "subscribe", ...wantedUpdates() };
    this.send(message);
  }

  unsubscribe(): void {
    this.endAsking();
    this.send({ type: "unsubscribe" });
  }

  command<N extends CommandName>(id: string, name: N, args: CommandArgs[N]): void {
    this.send({ type: "command", id, name, args });
  }

  private endAsking(): void {
    this.stopAsking?.();
    this.stopAsking = null;
  }

  private send(message: ToEngine): void {
    try {
      this.model.send(message);
    } catch {
      // A channel that is closed for good says so by throwing.
      this.handlers?.lost();
    }
  }
}
