import assert from "node:assert/strict";
import { test } from "node:test";

import type { ArrivalRow } from "../src/generated.ts";
import { TraceStore } from "../src/store.ts";
import { blockWhy } from "../src/views/block_why.ts";
import { tokenWhy } from "../src/views/token_why.ts";
import { waterfallRows } from "../src/views/waterfall_rows.ts";
import { decodeSegment, waterfall, type WaterfallSegment } from "../src/waterfall.ts";
import { admitted, payload, record, recordedTrace, shortRun, snapshot } from "./support.ts";

function recorded(): TraceStore {
  const store = new TraceStore();
  store.applyFrame(recordedTrace().payload);
  return store;
}

function segmentsOf(store: TraceStore, id: string): WaterfallSegment[] {
  const request = store.requests.get(id)!;
  return waterfall(request, store.steps, store.indexOf(request.arrivalStep));
}

function near(found: WaterfallSegment[], expected: WaterfallSegment[], of: string): void {
  const plain = (segments: WaterfallSegment[]): unknown[] =>
    segments.map(({ seconds, ...rest }) => ({ ...rest, micros: Math.round(seconds * 1e6) }));
  assert.deepEqual(plain(found), plain(expected), of);
}

test("the waterfall of every request is Python's", () => {
  const store = recorded();
  const { why } = recordedTrace();
  assert.ok(Object.keys(why).length >= 10);
  const kinds = new Set<string>();
  for (const [id, answer] of Object.entries(why)) {
    const expected = answer.waterfall.map(decodeSegment);
    expected.forEach((s) => kinds.add(s.kind));
    near(segmentsOf(store, id), expected, id);
  }
  assert.deepEqual([...kinds].sort(), ["neighbour", "prefill", "queue"]);
});

test("segments and rows add up to the time to first token", () => {
  const store = recorded();
  for (const request of store.requests.values()) {
    const first = request.tokens[0];
    if (first === undefined) continue;
    const segments = segmentsOf(store, request.id);
    const sum = (parts: readonly { seconds: number }[]): number => parts.reduce((s, p) => s + p.seconds, 0);
    assert.ok(Math.abs(sum(segments) - (first.time - request.arrivalTime)) < 1e-9);
    const rows = waterfallRows(segments);
    assert.ok(Math.abs(sum(rows) - sum(segments)) < 1e-9);
    for (const row of rows) assert.ok(Math.abs(sum(row.bars) - row.seconds) < 1e-9);
    assert.ok(rows.filter((row) => row.kind === "neighbour").length <= 5);
  }
});

test("a wait behind another request is told as what that one waits for, with who holds it", () => {
  const store = new TraceStore();
  store.applyFrame(payload(shortRun(), snapshot()));
  const [queue, turn, prefill] = segmentsOf(store, "r2");
  assert.deepEqual([queue!.label, queue!.firstStep, queue!.numSteps, queue!.other], ["for KV blocks", 0, 2, "r1"]);
  assert.equal(turn!.label, "for its turn in the queue");
  assert.deepEqual([prefill!.kind, prefill!.tokens, prefill!.firstStep], ["prefill", 2, 3]);
});

test("a request without a token has the time so far", () => {
  const store = new TraceStore();
  store.applyFrame(payload(shortRun().slice(0, 2), snapshot()));
  const segments = segmentsOf(store, "r2");
  assert.deepEqual(
    segments.map((s) => [s.kind, s.numSteps]),
    [["queue", 2]],
  );
});

test("a preemption before the first token is a piece of its own", () => {
  const store = new TraceStore();
  const arrival: ArrivalRow = ["a", 0, [1, 2, 3, 4, 5, 6, 7, 8], 4, 0, "a", ""];
  const records = [
    record(0, { arrivals: [arrival], decisions: [admitted("a", 4)] }),
    record(1, { decisions: [["a", "preempt", "no_blocks", 0, 0, 0, 1, 0, "b"]] }),
    record(2, { decisions: [["a", "prefill", "resumed", 8, 0, 0, 0, 0, ""]], sampled: [["a", 9, null, [], 0]] }),
  ];
  store.applyFrame(payload(records, snapshot()));
  const found = segmentsOf(store, "a").map((s) => [s.kind, s.label, s.firstStep, s.tokens, s.other]);
  assert.deepEqual(found, [
    ["prefill", "prefill", 0, 4, ""],
    ["preempted", "preempted for b", 1, 0, "b"],
    ["prefill", "prefill", 2, 8, ""],
  ]);
});

test("a change of the KV pool preempts for nobody", () => {
  const store = new TraceStore();
  const arrival: ArrivalRow = ["a", 0, [1, 2, 3, 4, 5, 6, 7, 8], 4, 0, "a", ""];
  const setting = "num_gpu_blocks_override=4";
  const records = [
    record(0, { arrivals: [arrival], decisions: [admitted("a", 4)] }),
    record(1, { decisions: [["a", "preempt", "reconfigured", 0, 0, 0, 2, 1, setting]] }),
    record(2, { decisions: [["a", "wait", "reconfigured", 0, 0, 0, 0, 0, setting]] }),
    record(3, { decisions: [["a", "prefill", "resumed", 8, 0, 0, 0, 0, ""]], sampled: [["a", 9, null, [], 0]] }),
    record(4, { decisions: [["a", "preempt", "no_blocks", 0, 0, 0, 1, 0, "a"]] }),
    record(5, { decisions: [["a", "prefill", "resumed", 9, 0, 0, 0, 0, ""]], sampled: [["a", 9, null, [], 0]] }),
  ];
  store.applyFrame(payload(records, snapshot()));
  const found = segmentsOf(store, "a").map((s) => [s.kind, s.label, s.firstStep, s.other]);
  assert.deepEqual(found.slice(1), [
    ["preempted", `preempted as the KV pool changed: ${setting}`, 1, ""],
    ["queue", "while the KV pool was changed", 2, ""],
    ["prefill", "prefill", 3, ""],
  ]);
  assert.match(tokenWhy(store, store.requests.get("a")!, 1)!.text, /it was preempted for want of KV blocks, in step 4/);
});

test("a token is told with what happened since the one before it", () => {
  const store = new TraceStore();
  store.applyFrame(payload(shortRun(), snapshot()));
  const r1 = store.requests.get("r1")!;
  const plain = (index: number): string => tokenWhy(store, r1, index)!.text.replaceAll("\u00a0", " ");
  assert.equal(plain(0), "Token 1, the first, came 750 ms after the arrival.");
  assert.equal(plain(1), "Token 2 came 1.00 s after the one before it: one step, alone in the batch.");
  assert.equal(tokenWhy(store, r1, 1)!.step, 1);
  assert.equal(tokenWhy(store, r1, 9), null);
});

test("a preempted request's next token names the preemption", () => {
  const store = recorded();
  const found = [...store.requests.values()].flatMap((request) =>
    request.preemptions.map((at) => ({ request, index: request.tokens.findIndex((t) => t.step > at) })),
  );
  const told = found.filter((f) => f.index > 0).map((f) => tokenWhy(store, f.request, f.index)!.text);
  assert.ok(told.length > 0);
  for (const text of told)
    assert.match(text, /it was preempted (for|as the KV pool changed: ).+, in step \d+; .*computed again/);
});

test("a free block says who let it go", () => {
  const store = new TraceStore();
  store.applyFrame(payload(shortRun(), snapshot()));
  const told = blockWhy(store, "live", store.stateAt("live")!, 1)!;
  assert.deepEqual([told.step, told.request], [2, "r1"]);
  assert.match(told.text, /kept for its prefix.*r1 gave it back when it ended/);
  assert.equal(blockWhy(store, "live", store.stateAt("live")!, 7)!.request, null);
});

test("a block is told free in exactly those states in which nobody holds it", () => {
  const store = recorded();
  const seen = { held: 0, free: 0 };
  for (let step = store.firstStep!; step <= store.lastStep!; step += 7) {
    const state = store.stateAt(step)!;
    const held = new Set([...state.blockTables.values()].flat());
    for (let block = 0; block < state.numBlocks; block++) {
      const told = blockWhy(store, step, state, block);
      assert.equal(told === null, held.has(block), `block ${block} in step ${step}`);
      seen[told === null ? "held" : "free"] += 1;
    }
    assert.equal(blockWhy(store, step, state, state.numBlocks), null);
  }
  assert.ok(seen.held > 0 && seen.free > 0);
});

test("a changed priority is the request's from that step on", () => {
  const store = new TraceStore();
  const arrival: ArrivalRow = ["a", 0, [1, 2], 4, 0, "a", ""];
  store.applyFrame(payload([record(0, { arrivals: [arrival] })], snapshot()));
  assert.equal(store.requests.get("a")!.priority, 0);
  store.applyFrame(payload([record(1, { changes: [["priority", "-3", "a"]] })]));
  assert.equal(store.requests.get("a")!.priority, -3);
});
