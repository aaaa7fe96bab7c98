import assert from "node:assert/strict";
import { test } from "node:test";

import { candidates, ended, leastKnown, Lockstep, summary } from "../src/lockstep.ts";
import { type LockstepProgress, type LockstepWire, PROTOCOL_VERSION, type SideWire } from "../src/protocol.ts";
import { Session } from "../src/session.ts";
import { progressText } from "../src/views/playground_compare.ts";
import { recordedTrace, FakeSource, payload, shortRun, snapshot } from "./support.ts";

const text = (id: number): string => `t${id}`;

function token(id: number, share: number, ...others: [number, number][]): SideWire {
  const all: [number, number][] = [[id, share], ...others];
  return [id, Math.log(share), all.map(([other, p]) => [other, Math.log(p)])];
}

const HEAD: LockstepWire["head"] = {
  sides: [
    { name: "int4", kind: "this", model: "m" },
    { name: "float32", kind: "copy", model: "m" },
  ],
  max_tokens: 3,
  prompts: [
    ["One", "r1"],
    ["Two", "r2"],
  ],
};

const PARTING: LockstepWire["rows"] = [
  [0, token(1, 0.9), token(1, 0.8)],
  [1, token(7, 0.5), token(7, 0.5)],
  [0, token(2, 0.41, [3, 0.38]), token(3, 0.39, [4, 0.2], [5, 0.1])],
  [0, token(6, 0.004), token(2, 0.9)],
];

test("rows that come in pieces tell where each prompt's answers part", () => {
  const lockstep = new Lockstep();
  lockstep.apply({ run: "a", start: 0, rows: PARTING.slice(0, 2), head: HEAD });
  const [one, two] = lockstep.duels;
  assert.equal(summary(one!, text), "equal so far, 1 token");
  lockstep.apply({ run: "a", start: 2, rows: PARTING.slice(2) });
  assert.equal(one!.partsAt, 1);
  assert.equal(one!.places.length, 3);
  assert.equal(summary(one!, text), "equal for 1 of 3 tokens; first differs at token 2: 't2' 0.41 against 't3' 0.39");
  assert.equal(two!.partsAt, null);
  assert.ok(!ended(two!));
  lockstep.apply({ run: "a", start: 4, rows: [[1, "stop", "stop"]] });
  assert.ok(ended(two!));
  assert.equal(summary(two!, text), "equal in its 1 token");
  assert.equal(two!.places.length, 1, "an end is no place");
});

test("an answer that ends before the other one parts there", () => {
  const lockstep = new Lockstep();
  const rows: LockstepWire["rows"] = [
    [0, token(1, 0.9), token(1, 0.9)],
    [0, "stop", token(2, 0.003)],
    [0, "stop", "length"],
  ];
  lockstep.apply({ run: "a", start: 0, rows, head: HEAD });
  const [duel] = lockstep.duels;
  assert.deepEqual([duel!.partsAt, duel!.endings, duel!.places.length], [1, ["stop", "length"], 2]);
  assert.equal(summary(duel!, text), "equal for 1 of 2 tokens; first differs at token 2: the end against 't2' < 0.01");
});

test("another run begins anew, and rows of a run that is gone change nothing", () => {
  const lockstep = new Lockstep();
  lockstep.apply({ run: "a", start: 0, rows: PARTING, head: HEAD });
  lockstep.apply({ run: "b", start: 0, rows: [], head: HEAD });
  assert.equal(lockstep.duels[0]!.places.length, 0);
  lockstep.apply({ run: "a", start: 4, rows: PARTING });
  assert.equal(lockstep.duels[0]!.places.length, 0);
});

test("both sides' probabilities stand beside each other, those that were taken first", () => {
  const lockstep = new Lockstep();
  lockstep.apply({ run: "a", start: 0, rows: PARTING, head: HEAD });
  const place = lockstep.duels[0]!.places[1]!;
  const rows = candidates(place, 3).map(({ id, shares, taken }) => [
    id,
    shares.map((share) => (share === null ? null : share.toFixed(2))),
    taken,
  ]);
  assert.deepEqual(rows, [
    [2, ["0.41", null], [true, false]],
    [3, ["0.38", "0.39"], [false, true]],
    [4, [null, "0.20"], [false, false]],
  ]);
  assert.equal(leastKnown(place[0])!.toFixed(2), "0.38");
  assert.equal(leastKnown(null), null);
});

test("a session hands the rows of a frame to its comparison", () => {
  const session = new Session("e1");
  const source = new FakeSource();
  const leave = session.attach(source);
  source.handlers!.hello(recordedTrace().engine, PROTOCOL_VERSION);
  const frame = payload(shortRun(), snapshot());
  source.handlers!.frame({ ...frame, lockstep: { run: "a", start: 0, rows: PARTING, head: HEAD } }, true);
  assert.equal(session.lockstep.duels[0]!.partsAt, 1);
  leave();
});

test("each state of a comparison is told in words", () => {
  const job: LockstepProgress = {
    state: "running",
    run: "a",
    stopping: false,
    paused: null,
    done: 12,
    total: 96,
    message: null,
  };
  const told = (changes: Partial<LockstepProgress>): string => progressText({ ...job, ...changes });
  assert.equal(told({}), "12 of at most 96 tokens");
  assert.match(told({ paused: 0 }), /This engine is paused/);
  assert.match(told({ paused: 1 }), /The other engine is paused/);
  assert.match(told({ state: "loading" }), /Loading the copy/);
  assert.match(told({ state: "loading", stopping: true }), /Stopping, once/);
  assert.match(told({ state: "stopped", message: "r2 was cancelled" }), /^Stopped: r2 was cancelled\./);
  assert.equal(told({ state: "done" }), "");
});
