import assert from "node:assert/strict";
import { mock, test } from "node:test";

import { type Cause, PROTOCOL_VERSION } from "../src/protocol.ts";
import { ReplaySource } from "../src/replay_source.ts";
import { Session } from "../src/session.ts";
import { WhyQuestion } from "../src/views/why_question.ts";
import { FakeSource, payload, recordedTrace, record, shortRun, snapshot } from "./support.ts";

const causes: Cause[] = [
  ["Arrived.", 0],
  ["It has not finished.", null],
];

/** A session after three steps, in which r1 has ended and r2 has not. */
function open(): { session: Session; source: FakeSource; question: WhyQuestion; asked: () => unknown[] } {
  mock.timers.enable({ apis: ["setTimeout", "setInterval"] });
  const session = new Session("e1");
  const source = new FakeSource();
  session.attach(source);
  source.handlers!.hello(recordedTrace().engine, PROTOCOL_VERSION);
  source.handlers!.frame(payload(shortRun(), snapshot()), true);
  const question = new WhyQuestion(session, () => undefined);
  return { session, source, question, asked: () => source.commands.map((c) => [c.name, c.args]) };
}

async function answer(source: FakeSource, result: unknown): Promise<void> {
  source.handlers!.reply({ type: "reply", id: source.commands.at(-1)!.id, ok: true, result });
  await Promise.resolve();
  await Promise.resolve();
}

test("why is asked when a row is opened, and not again with every frame", async () => {
  const { source, question, asked } = open();
  question.follow("r2");
  source.handlers!.frame(payload([record(4)]), false);
  question.follow("r2");
  assert.deepEqual(asked(), [["why", { request_id: "r2" }]]);
  assert.equal(question.causes, null);
  await answer(source, { request_id: "r2", causes, waterfall: [] });
  assert.deepEqual(question.causes, causes);
  question.follow("r1");
  assert.equal(question.causes, null);
  assert.equal(asked().length, 2);
  mock.timers.reset();
});

test("why is asked again when the engine has paused and stands still, and when the request ends", () => {
  const { source, question, asked } = open();
  question.follow("r2");
  for (const step of [4, 5, 6]) {
    source.handlers!.frame(payload([record(step)], undefined, { state: "paused" }), false);
    question.follow("r2");
    mock.timers.tick(50);
  }
  assert.equal(asked().length, 1);
  mock.timers.tick(200);
  assert.equal(asked().length, 2);
  source.handlers!.frame(payload([record(7, { finished: [["r2", "abort", ""]] })]), false);
  question.follow("r2");
  question.follow("r2");
  assert.equal(asked().length, 3);
  mock.timers.reset();
});

test("an answer that comes late or not at all changes nothing", async () => {
  const { source, question } = open();
  question.follow("r2");
  question.follow(null);
  await answer(source, { request_id: "r2", causes, waterfall: [] });
  assert.equal(question.causes, null);
  question.follow("r2");
  const error = { kind: "ConfigError", message: "there is no command 'why'" };
  source.handlers!.reply({ type: "reply", id: source.commands.at(-1)!.id, ok: false, error });
  await Promise.resolve();
  assert.equal(question.causes, null);
  mock.timers.reset();
});

test("nobody is asked without a connection", () => {
  const { source, question, asked } = open();
  source.handlers!.lost();
  question.follow("r2");
  assert.deepEqual(asked(), []);
  mock.timers.reset();
});

test("a page without a kernel answers from what was saved with it, and takes no commands", async () => {
  const trace = recordedTrace();
  const session = new Session("e1");
  session.attach(new ReplaySource(trace));
  assert.equal(session.interactive, false);
  const id = Object.keys(trace.why)[0]!;
  assert.deepEqual(await session.command("why", { request_id: id }), trace.why[id]);
  await assert.rejects(session.command("pause", {}), /no engine to command/);
});
