import assert from "node:assert/strict";
import { mock, test } from "node:test";

import { joinSession } from "../src/registry.ts";
import { CommandFailure, Session } from "../src/session.ts";
import { type EngineInfo, PROTOCOL_VERSION } from "../src/protocol.ts";
import { FakeSource, payload, recordedTrace, shortRun, snapshot } from "./support.ts";

const engine: EngineInfo = recordedTrace().engine;

function live(): { session: Session; source: FakeSource; leave: () => void } {
  const session = new Session("e1");
  const source = new FakeSource();
  const leave = session.attach(source);
  source.handlers!.hello(engine, PROTOCOL_VERSION);
  source.handlers!.frame(payload(shortRun(), snapshot()), true);
  return { session, source, leave };
}

test("one source carries the stream; when it goes, the next one takes over with what is known kept", () => {
  const { session, source: first, leave } = live();
  const second = new FakeSource();
  const leaveSecond = session.attach(second);
  assert.deepEqual(second.log, []);
  leave();
  assert.deepEqual(first.log, ["subscribe", "unsubscribe", "stopped"]);
  assert.deepEqual(second.log, ["subscribe"]);
  assert.equal(session.store.lastStep, 3);
  leaveSecond();
  assert.ok(session.unused);
});

test("frames of a source that does not carry the stream are ignored", () => {
  const { session, leave } = live();
  const second = new FakeSource();
  const leaveSecond = session.attach(second);
  second.handlers!.frame(payload([], snapshot(), { state: "paused" }), true);
  assert.equal(session.store.status?.state, "running");
  leave();
  leaveSecond();
});

test("a closed channel hands over to another one, and only the last loss is a loss", () => {
  const { session, source, leave } = live();
  const second = new FakeSource();
  const leaveSecond = session.attach(second);
  source.handlers!.lost();
  assert.deepEqual(second.log, ["subscribe"]);
  assert.equal(session.connection, "live");
  second.handlers!.lost();
  assert.equal(session.connection, "lost");
  leave();
  leaveSecond();
});

test("a command is answered under its id, with the result or the named error", async () => {
  const { session, source, leave } = live();
  const good = session.command("submit", { prompts: ["a"], params: {}, priority: 0 });
  const bad = session.command("configure", { max_num_seqs: -1 });
  const [first, second] = source.commands;
  const error = { kind: "ConfigError", message: "max_num_seqs must be at least 1" };
  source.handlers!.reply({ type: "reply", id: second!.id, ok: false, error });
  source.handlers!.reply({ type: "reply", id: first!.id, ok: true, result: { request_ids: ["r7"] } });
  assert.deepEqual(await good, { request_ids: ["r7"] });
  await assert.rejects(bad, (e: CommandFailure) => e.kind === "ConfigError" && /at least 1/.test(e.message));
  leave();
});

test("a command to nobody, or without an answer, fails with a sentence", async () => {
  await assert.rejects(new Session("e2").command("pause", {}), /kernel does not answer/);
  mock.timers.enable({ apis: ["setTimeout", "setInterval"] });
  const { session, leave } = live();
  const silent = session.command("pause", {});
  mock.timers.tick(16_000);
  await assert.rejects(silent, /No answer to "pause"/);
  leave();
  mock.timers.reset();
});

test("a command that a running cell keeps back is told of while frames go on, and no longer once it is answered", async () => {
  let now = 1_000;
  mock.method(performance, "now", () => now);
  const { session, source, leave } = live();
  const paused = session.command("pause", {});
  const frame = (): void => source.handlers!.frame(payload([]), false);
  now += 1_500;
  frame();
  assert.equal(session.unanswered, "");
  now += 1_000;
  assert.equal(session.unanswered, "", "nothing was heard since: that may be a lost kernel");
  frame();
  assert.match(session.unanswered, /No answer to “pause” yet/);
  source.handlers!.reply({ type: "reply", id: source.commands[0]!.id, ok: true });
  await paused;
  assert.equal(session.unanswered, "");
  leave();
  mock.restoreAll();
});

test("commands of a view that was closed do not hang", async () => {
  const { session, leave } = live();
  const pending = session.command("pause", {});
  leave();
  await assert.rejects(pending, /was closed/);
  assert.ok(session.unused);
});

test("the time cursor stays within what is kept, and forward from the newest step is live", () => {
  const { session, leave } = live();
  session.setCursor(99);
  assert.equal(session.cursor, 3);
  session.moveCursor(-1);
  assert.equal(session.cursor, 2);
  session.moveCursor(2);
  assert.equal(session.cursor, "live");
  session.moveCursor(-2);
  assert.equal(session.cursor, 1);
  assert.deepEqual(session.stateAt(1)?.block_tables, { r1: [0, 1] });
  leave();
});

test("a selection replaces the one before and is told once", () => {
  const { session, leave } = live();
  let told = 0;
  session.onChange(() => (told += 1));
  session.select({ request: "r1" });
  session.select({ request: "r1" });
  session.select({ block: 2 });
  assert.equal(told, 2);
  assert.deepEqual(session.selection, { request: null, block: 2, token: null });
  leave();
});

test("a frame that cannot be read is said, and the next one is taken", () => {
  const { session, source, leave } = live();
  const broken = payload([{ ...shortRun()[3]!, step: 4, block_events: [["free", 7, "r9", ""]] }]);
  source.handlers!.frame(broken, false);
  assert.match(session.problem ?? "", /could not be read/);
  leave();
});

test("another protocol asks for a reload", () => {
  const { session, source, leave } = live();
  source.handlers!.hello(engine, PROTOCOL_VERSION + 1);
  assert.match(session.problem ?? "", /reload the page/);
  leave();
});

test("views of one engine on a page share a session, and the last one to leave ends it", () => {
  const first = joinSession("shared", new FakeSource());
  const second = joinSession("shared", new FakeSource());
  assert.equal(first.session, second.session);
  first.leave();
  assert.equal(joinedAgain("shared"), second.session);
  second.leave();
  assert.notEqual(joinedAgain("shared"), second.session);
});

function joinedAgain(id: string): Session {
  const joined = joinSession(id, new FakeSource());
  joined.leave();
  return joined.session;
}
