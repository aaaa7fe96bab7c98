// Where a session's frames come from and its commands go to.

import type { CommandArgs, CommandName, EngineInfo, FramePayload, FromEngine } from "./protocol.ts";

export interface SourceHandlers {
  hello(engine: EngineInfo, protocol: number, saved?: boolean): void;
  /** The source acknowledges the frame when this returns. */
  frame(payload: FramePayload, keyframe: boolean): void;
  reply(reply: Extract<FromEngine, { type: "reply" }>): void;
  /** The other side is gone; a later frame means that it is back. */
  lost(): void;
}

export interface Source {
  /** False where nobody is behind it who could fall silent: a page with a trace and no kernel. */
  readonly interactive: boolean;
  /** Begin to deliver replies and news of loss; frames come after subscribe(). Returns what ends it. */
  listen(handlers: SourceHandlers): () => void;
  subscribe(): void;
  unsubscribe(): void;
  command<N extends CommandName>(id: string, name: N, args: CommandArgs[N]): void;
}
