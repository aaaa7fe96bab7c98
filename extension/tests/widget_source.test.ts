import assert from "node:assert/strict";
import { test } from "node:test";

import { PROTOCOL_VERSION } from "../src/protocol.ts";
import { setUpdates } from "../src/registry.ts";
import { ReplaySource } from "../src/replay_source.ts";
import type { SourceHandlers } from "../src/source.ts";
import { WidgetSource } from "../src/widget_source.ts";
import { payload, recordedTrace, shortRun, snapshot } from "./support.ts";

type Callback = (...args: never[]) => void;

class FakeModel {
  readonly sent: unknown[] = [];
  readonly callbacks = new Map<string, Callback>();
  broken = false;
  get(): unknown {
    return undefined;
  }
  set(): void {
    throw new Error("views only send messages");
  }
  save_changes(): void {
    throw new Error("views only send messages");
  }
  on(name: string, callback: Callback): void {
    this.callbacks.set(name, callback);
  }
  off(name: string): void {
    this.callbacks.delete(name);
  }
  send(content: unknown): void {
    if (this.broken) throw new Error("comm is closed");
    this.sent.push(content);
  }
  receive(content: unknown, value?: unknown): void {
    const bytes = new TextEncoder().encode(JSON.stringify(value));
    (this.callbacks.get("msg:custom") as (...args: unknown[]) => void)(
      content,
      value === undefined ? [] : [new DataView(bytes.buffer)],
    );
  }
}

function handlers(log: string[]): SourceHandlers {
  return {
    hello: (engine) => void log.push(`hello ${engine.engine_id}`),
    frame: (frame, keyframe) => void log.push(`frame ${frame.records.length} ${keyframe}`),
    reply: (reply) => void log.push(`reply ${reply.id}`),
    lost: () => void log.push("lost"),
  };
}

test("messages reach their handlers, and key frames and every tenth frame are acknowledged", () => {
  const model = new FakeModel();
  const log: string[] = [];
  const source = new WidgetSource(model);
  const stop = source.listen(handlers(log));
  source.subscribe();
  model.receive({ type: "hello", protocol: PROTOCOL_VERSION, engine: recordedTrace().engine });
  model.receive({ type: "frame", seq: 7, keyframe: true }, payload(shortRun(), snapshot()));
  for (const seq of [8, 9, 10, 11]) model.receive({ type: "frame", seq, keyframe: false }, payload([]));
  model.receive({ type: "reply", id: "x", ok: true });
  model.receive({ type: "somebody else's" });
  model.callbacks.get("comm:close")!();
  assert.deepEqual(log, [
    "hello demo",
    "frame 4 true",
    "frame 0 false",
    "frame 0 false",
    "frame 0 false",
    "frame 0 false",
    "reply x",
    "lost",
  ]);
  assert.deepEqual(model.sent, [{ type: "subscribe" }, { type: "ack", seq: 7 }, { type: "ack", seq: 10 }]);
  stop();
  assert.equal(model.callbacks.size, 0);
});

test("a frame whose handler fails is acknowledged all the same", () => {
  const model = new FakeModel();
  const source = new WidgetSource(model);
  source.listen({
    ...handlers([]),
    frame: () => {
      throw new Error("no");
    },
  });
  assert.throws(() => model.receive({ type: "frame", seq: 20, keyframe: false }, payload([])));
  assert.deepEqual(model.sent, [{ type: "ack", seq: 20 }]);
});

test("a channel that throws is lost", () => {
  const model = new FakeModel();
  const log: string[] = [];
  const source = new WidgetSource(model);
  source.listen(handlers(log));
  model.broken = true;
  source.command("1", "pause", {});
  assert.deepEqual(log, ["lost"]);
});

test("a saved trace delivers everything at once and refuses commands by name", () => {
  const { engine, payload: saved } = recordedTrace();
  const log: string[] = [];
  const source = new ReplaySource({ engine, payload: saved });
  source.listen(handlers(log));
  source.subscribe();
  source.command("c1", "pause", {});
  assert.deepEqual(log, ["hello demo", `frame ${saved.records.length} true`, "reply c1"]);
});

test("every stream of the page keeps to its rate, those that run already too", () => {
  const [cell, closed] = [new FakeModel(), new FakeModel()];
  const source = new WidgetSource(cell);
  const stop = source.listen(handlers([]));
  source.subscribe();
  const other = new WidgetSource(closed);
  other.listen(handlers([]));
  other.subscribe();
  other.unsubscribe();
  setUpdates(5);
  setUpdates(5);
  assert.deepEqual(cell.sent, [{ type: "subscribe" }, { type: "subscribe", updates_per_second: 5 }]);
  assert.deepEqual(closed.sent, [{ type: "subscribe" }, { type: "unsubscribe" }]);
  stop();
  setUpdates(null);
  assert.equal(cell.sent.length, 2);
});
