import assert from "node:assert/strict";
import { test } from "node:test";

import { type BlockEventRow, decodeSnapshot } from "../src/generated.ts";
import { RecordReader } from "../src/record_reader.ts";
import { EngineState, type LiveRequest } from "../src/replay.ts";
import { TraceStore } from "../src/store.ts";
import { read, record, recordedTrace, shortRun, snapshot } from "./support.ts";

function stateAfter(...events: BlockEventRow[]): EngineState {
  const state = EngineState.fromSnapshot(decodeSnapshot(snapshot(4)));
  state.apply(read(record(0, { block_events: events })));
  return state;
}

test("a freed block with content joins the back of the free list, one without joins the front", () => {
  const state = stateAfter(
    ["allocate", 0, "r1", ""],
    ["allocate", 1, "r1", ""],
    ["cache", 0, "", "aa"],
    ["free", 0, "r1", ""],
    ["free", 1, "r1", ""],
  );
  assert.deepEqual([...state.free], [1, 2, 3, 0]);
  assert.equal(state.numCachedFree, 1);
  assert.equal(state.blockTables.has("r1"), false);
});

test("a shared block is freed with its last owner", () => {
  const state = stateAfter(["allocate", 0, "r1", ""], ["share", 0, "r2", ""], ["free", 0, "r1", ""]);
  assert.deepEqual([...state.refCounts], [1, 0, 0, 0]);
  assert.deepEqual(state.blockTables.get("r2"), [0]);
});

test("a prefix hit takes a free block out of the free list with its content", () => {
  const state = stateAfter(
    ["allocate", 0, "r1", ""],
    ["cache", 0, "", "aa"],
    ["free", 0, "r1", ""],
    ["share", 0, "r2", ""],
  );
  assert.deepEqual([...state.free], [1, 2, 3]);
  assert.equal(state.numCachedFree, 0);
  assert.equal(state.refCounts[0], 1);
});

test("copy-on-write puts the new block in the old one's place", () => {
  const state = stateAfter(
    ["allocate", 0, "r1", ""],
    ["allocate", 1, "r1", ""],
    ["share", 1, "r2", ""],
    ["copy", 2, "r2", "1"],
  );
  assert.deepEqual(state.blockTables.get("r2"), [2]);
  assert.deepEqual([...state.refCounts], [1, 1, 1, 0]);
  assert.equal(state.contentOf[2], "r2");
});

test("an evicted free block is reused first", () => {
  const state = stateAfter(
    ["allocate", 0, "r1", ""],
    ["cache", 0, "", "aa"],
    ["free", 0, "r1", ""],
    ["evict", 0, "", "aa"],
  );
  assert.deepEqual([...state.free], [0, 1, 2, 3]);
  assert.equal(state.numCachedFree, 0);
});

test("decisions give the queues, the computed tokens and the preemptions", () => {
  const state = EngineState.fromSnapshot(decodeSnapshot(snapshot()));
  for (const wire of shortRun().slice(0, 2)) state.apply(read(wire));
  assert.deepEqual(state.running, ["r1"]);
  assert.deepEqual(state.waiting, ["r2"]);
  assert.equal(state.requests.get("r1")?.numComputed, 7);
  state.apply(
    read(
      record(2, {
        decisions: [
          ["r1", "preempt", "no_blocks", 0, 7, 0, 1, 0, "r2"],
          ["r2", "wait", "after_preemption", 0, 0, 0, 0, 0, "r1"],
        ],
      }),
    ),
  );
  assert.deepEqual(state.running, []);
  assert.deepEqual(state.waiting, ["r1", "r2"]);
  assert.equal(state.requests.get("r1")?.numComputed, 0);
  assert.equal(state.requests.get("r1")?.numPreemptions, 1);
});

test("a running request that gets nothing stays running", () => {
  const state = EngineState.fromSnapshot(decodeSnapshot(snapshot()));
  state.apply(read(shortRun()[0]!));
  state.apply(read(record(1, { decisions: [["r1", "wait", "token_budget", 0, 6, 0, 1, 0, "r9"]], finished: [] })));
  assert.deepEqual(state.running, ["r1"]);
  assert.equal(state.requests.get("r1")?.numComputed, 6);
});

test("a free of a block that is not in the table is an error, not a silent difference", () => {
  assert.throws(() => stateAfter(["allocate", 0, "r1", ""], ["free", 1, "r1", ""]), /not in its table/);
});

test("every state of a recorded run equals the scheduler's own", () => {
  const trace = recordedTrace();
  const store = new TraceStore();
  store.applyFrame(trace.payload);
  assert.ok(trace.snapshots.length > 3);
  for (const [step, wire] of [...trace.snapshots].reverse()) {
    const state = store.stateAt(step);
    assert.ok(state !== null);
    assert.deepEqual(Object.fromEntries(state.blockTables), wire.block_tables, `block tables after step ${step}`);
    assert.deepEqual([...state.refCounts], wire.ref_counts);
    assert.deepEqual(state.hashes, wire.block_hashes);
    assert.deepEqual([...state.free], wire.free_blocks);
    assert.deepEqual(state.waiting, wire.waiting);
    assert.deepEqual(state.running, wire.running);
    for (const [id, row] of Object.entries(wire.requests)) {
      const live: LiveRequest = state.requests.get(id)!;
      assert.equal(live.numOutput, row[7].length);
      assert.equal(live.numComputed, row[8]);
      assert.equal(live.numPreemptions, row[9]);
    }
  }
});

test("the recorded run has every kind of event that the rule knows", () => {
  const records = recordedTrace().payload.records.map(read);
  const kinds = new Set(records.flatMap((r) => r.block_events.map((e) => e.kind)));
  assert.deepEqual([...kinds].sort(), ["allocate", "cache", "copy", "evict", "free", "move", "resize", "share"]);
  assert.ok(records.some((r) => r.decisions.some((d) => d.action === "preempt")));
});

test("records of one frame, which leave out what stays the same, read like records that stand alone", () => {
  const { frame, payload } = recordedTrace();
  const reader = new RecordReader();
  assert.deepEqual(
    frame.map((wire) => reader.read(wire)),
    payload.records.slice(0, frame.length).map(read),
  );
  const left = (part: "decisions" | "sampled", place: 0 | 2): number =>
    frame.filter((wire) => wire[part][place] === null).length;
  assert.ok(Math.min(left("decisions", 0), left("decisions", 2), left("sampled", 0)) > 10);
});
