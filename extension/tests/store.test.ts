import assert from "node:assert/strict";
import { test } from "node:test";

import { colourIndex } from "../src/request_log.ts";
import { TraceStore } from "../src/store.ts";
import { admitted, decode, payload, record, shortRun, snapshot } from "./support.ts";

function filled(): TraceStore {
  const store = new TraceStore();
  store.applyFrame(payload(shortRun(), snapshot()));
  return store;
}

test("a request's tokens, waits and ending are known", () => {
  const store = filled();
  const r1 = store.requests.get("r1")!;
  assert.deepEqual(
    r1.tokens.map((t) => [t.id, t.step, t.time]),
    [
      [10, 0, 0.5],
      [11, 1, 1.5],
      [12, 2, 2.5],
    ],
  );
  assert.deepEqual(r1.ending, { step: 2, time: 2.5, reason: "length", detail: "" });
  const r2 = store.requests.get("r2")!;
  assert.deepEqual(
    r2.segments.map((s) => [s.action, s.reason, s.from, s.to]),
    [
      ["wait", "no_blocks", 0, 1],
      ["wait", "behind", 2, 2],
      ["prefill", "admitted", 3, 3],
    ],
  );
  assert.equal(r2.firstScheduled, 3);
});

test("latencies: to the end of the step of the first token, and between ends of steps", () => {
  const store = filled();
  assert.deepEqual(store.ttft.upTo(null), [0.75, 3.75]);
  assert.deepEqual(store.itl.upTo(null), [1, 1]);
  assert.deepEqual(store.itl.upTo(1), [1]);
});

test("sums of a step", () => {
  const [first, second] = filled().steps;
  assert.equal(first!.prefillTokens, 6);
  assert.equal(second!.decodeTokens, 1);
  assert.deepEqual([...first!.waits], [["no_blocks", 1]]);
  assert.equal(first!.numUsed, 2);
  assert.equal(first!.end, 0.5);
});

test("any kept step can be rebuilt, in any order", () => {
  const store = filled();
  assert.deepEqual(Object.fromEntries(store.stateAt(3)!.blockTables), { r2: [2] });
  assert.deepEqual(Object.fromEntries(store.stateAt(1)!.blockTables), { r1: [0, 1] });
  assert.deepEqual(Object.fromEntries(store.stateAt(2)!.blockTables), {});
  assert.equal(store.stateAt("live")!.step, 3);
});

test("an overlapping key frame adds only what is new", () => {
  const store = filled();
  store.applyFrame(payload([...shortRun(), record(4, { decisions: [decode("r2", 2)] })], snapshot()));
  assert.deepEqual(
    store.steps.map((s) => s.record.step),
    [0, 1, 2, 3, 4],
  );
  assert.equal(store.requests.get("r1")!.tokens.length, 3);
});

test("the first part of a long backlog does not reset what is further already", () => {
  const store = filled();
  store.applyFrame(payload(shortRun().slice(0, 2), snapshot(), { step: 3 }));
  assert.equal(store.lastStep, 3);
  assert.equal(store.head!.step, 3);
});

test("a key frame after a gap is taken as it is, and steps in the gap cannot be visited", () => {
  const store = filled();
  const after = snapshot(8, {
    step: 9,
    block_tables: { r2: [2] },
    ref_counts: [0, 0, 1, 0, 0, 0, 0, 0],
    free_blocks: [0, 1, 3, 4, 5, 6, 7],
    running: ["r2"],
    requests: { r2: ["r2", "r2", "two", 0, -0.25, 8, [7, 8], [13, 14, 15], 4, 0] },
  });
  store.applyFrame(payload([record(10, { decisions: [decode("r2", 4)], sampled: [["r2", 16, null, [], 3]] })], after));
  assert.deepEqual(
    store.requests.get("r2")!.tokens.map((t) => [t.id, t.step]),
    [
      [13, 3],
      [14, -1],
      [15, -1],
      [16, 10],
    ],
  );
  assert.equal(store.stateAt(10)!.step, 10);
  assert.equal(store.stateAt(2)!.step, 2);
  assert.equal(store.stepAt(7), null);
});

test("a request that ended unseen in a gap is not shown as alive", () => {
  const store = new TraceStore();
  store.applyFrame(payload(shortRun().slice(0, 1), snapshot()));
  store.applyFrame(payload([], snapshot(8, { step: 20 })));
  assert.equal(store.requests.get("r1")!.ending?.reason, "ended");
});

test("an engine that has made fewer steps is another run", () => {
  const store = filled();
  store.applyFrame(payload([], snapshot(), { step: -1 }));
  assert.equal(store.head!.step, -1);
  assert.equal(store.requests.size, 0);
  assert.deepEqual(store.ttft.upTo(null), []);
});

test("old steps are dropped back to a key frame, and the rest can still be rebuilt", () => {
  const store = new TraceStore({ steps: 300 });
  const records = [record(0, { arrivals: [["r1", 0, [1], 5000, 0, "r1", ""]], decisions: [admitted("r1", 1)] })];
  for (let step = 1; step < 1200; step++) records.push(record(step, { decisions: [decode("r1", step)] }));
  for (let i = 0; i < records.length; i += 100) {
    store.applyFrame(payload(records.slice(i, i + 100), i === 0 ? snapshot() : undefined));
  }
  assert.ok(store.steps.length >= 300 && store.steps.length < 900);
  const first = store.firstStep!;
  assert.equal(store.stateAt(first)!.requests.get("r1")!.numComputed, first + 1);
  assert.equal(store.stateAt(first - 2), null);
});

test("long runs are bounded by what their steps and requests hold, not only by how many there are", () => {
  const store = new TraceStore({ rows: 1000, tokens: 200 });
  for (let step = 0; step < 3000; step++) {
    const id = `r${step}`;
    const changes = {
      arrivals: [[id, step, Array<number>(40).fill(1), 1, 0, id, ""]],
      decisions: [admitted(id, 40)],
      sampled: [[id, 7, null, [], 0]],
      finished: [[id, "length", ""]],
    };
    store.applyFrame(payload([record(step, changes as never)], step === 0 ? snapshot() : undefined));
    // A step is 6 rows here. As many as the limit allows are kept, and at most one keyframe's stretch more.
    const rows = store.steps.length * 6;
    if (step > 400) assert.ok(rows >= 1000 - 6 && rows <= 1000 + 2 * 256, `${rows} rows after ${step} steps`);
  }
  // Ended requests of dropped steps go by their tokens; those of kept steps stay.
  assert.equal(store.requests.size, store.steps.length);
  assert.ok(store.stateAt(store.firstStep!) !== null);
});

test("events are found in both directions", () => {
  const store = filled();
  assert.equal(store.nextEvent(0, 1)?.step, 2);
  assert.equal(store.nextEvent(3, -1)?.step, 2);
  assert.equal(store.nextEvent(3, 1), null);
});

test("tokens per second over the window before the cursor", () => {
  assert.ok(Math.abs(filled().tokensPerSecond(2, 2) - 1) < 0.6);
  assert.equal(new TraceStore().tokensPerSecond("live"), 0);
});

test("a colour goes with the number in the id, siblings differ, unnumbered ids go by arrival", () => {
  assert.equal(colourIndex("r12", 99), 12);
  assert.equal(colourIndex("12", 99), 12);
  assert.notEqual(colourIndex("r12.0", 0), colourIndex("r12.1", 0));
  assert.equal(colourIndex("chat-abcdef", 5), 5);
});
