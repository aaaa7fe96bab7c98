import assert from "node:assert/strict";
import { test } from "node:test";

import type { BlockEvent } from "../src/generated.ts";
import { TraceStore } from "../src/store.ts";
import { tellBlock } from "../src/views/block_card.ts";
import { BlockColours, type BlockMode } from "../src/views/block_colours.ts";
import { changedBlocks, hashChain, reuseRank } from "../src/views/block_facts.ts";
import {
  blockAt,
  type Box,
  type Camera,
  layoutBlocks,
  lookAt,
  panBy,
  place,
  reveal,
  sizeInWords,
  visibleCells,
  zoomAt,
} from "../src/views/block_layout.ts";
import { BlockMotion, effectsOf, MOTION_MS, ringAt } from "../src/views/block_motion.ts";
import { ringCounts } from "../src/views/block_step_legend.ts";
import { payload, recordedTrace, shortRun, snapshot } from "./support.ts";

const BOX: Box = { width: 1200, height: 400, scale: 1 };

function recorded(): TraceStore {
  const trace = recordedTrace();
  const store = new TraceStore();
  store.info = trace.engine;
  store.applyFrame(trace.payload);
  return store;
}

for (const mode of ["owner", "state", "refs", "age", "next"] satisfies BlockMode[]) {
  test(`colours by ${mode} kept from step to step equal those made anew, forward and back`, () => {
    const store = recorded();
    const kept = new BlockColours();
    const last = store.lastStep!;
    let partial = 0;
    for (const step of [0, 1, 2, 3, 10, 60, 61, 62, 40, 39, 120, last, 5]) {
      const state = store.stateAt(step)!;
      const before = Uint8Array.from(kept.index);
      const changed = kept.update(store, state, mode);
      const fresh = new BlockColours();
      assert.equal(fresh.update(store, state, mode), null);
      assert.deepEqual(kept.index, fresh.index, `colours after step ${step}`);
      assert.deepEqual(kept.owner, fresh.owner, `owners after step ${step}`);
      if (changed === null) continue;
      partial += 1;
      // What is not named as changed must be as it was: only that is written to the canvas again.
      const named = new Set(changed);
      before.forEach((place, b) => assert.ok(named.has(b) || place === kept.index[b], `block ${b}, step ${step}`));
    }
    assert.equal(partial > 0, mode !== "age" && mode !== "next");
  });
}

test("steps that are not all known change everything", () => {
  const store = recorded();
  assert.equal(changedBlocks(store, -500, 3), null);
  assert.ok(changedBlocks(store, 3, 9)!.length > 0);
  assert.deepEqual(changedBlocks(store, 9, 3), changedBlocks(store, 3, 9));
});

for (const count of [1, 72, 100_000, 1_000_000]) {
  test(`${count} blocks: all fit, zoom keeps the place under the pointer, and zooming out ends at all of them`, () => {
    const fit = layoutBlocks(count, BOX.width, BOX.height, 1);
    assert.ok(fit.columns * fit.rows >= count);
    assert.ok(fit.columns * fit.pitch <= BOX.width + 1 && fit.rows * fit.pitch <= BOX.height + 1);
    const [x, y] = [700, 210];
    let camera: Camera | null = null;
    let layout = fit;
    for (let i = 0; i < 12; i++) {
      const under = blockAt(layout, count, x, y);
      camera = zoomAt(fit, layout, BOX, 1.5, x, y);
      layout = place(fit, camera, BOX);
      const whole = layout.columns * layout.pitch <= BOX.width || layout.rows * layout.pitch <= BOX.height;
      // Only where the map is larger than the box can the place be kept on both axes.
      if (under !== null && !whole && fit.pitch >= 1) assert.equal(blockAt(layout, count, x, y), under);
    }
    for (let i = 0; i < 30; i++) {
      camera = zoomAt(fit, layout, BOX, 1 / 1.5, x, y);
      layout = place(fit, camera, BOX);
    }
    assert.equal(camera, null);
    assert.deepEqual(layout, fit);
  });
}

test("a million blocks are more than the pixels, and the hint says how many share one", () => {
  const fit = layoutBlocks(1_000_000, BOX.width, BOX.height, 1);
  assert.ok(fit.pitch < 1);
  assert.match(sizeInWords(fit.pitch, 1), /^2(\.\d)? blocks a px$/);
  assert.equal(sizeInWords(24, 2), "12 px a block");
});

test("panning stops at the edges, and a block out of sight is brought into it", () => {
  const fit = layoutBlocks(100_000, BOX.width, BOX.height, 1);
  let camera = zoomAt(fit, fit, BOX, 20, 600, 200);
  let layout = place(fit, camera, BOX);
  camera = panBy(layout, camera, BOX, 1e6, 1e6);
  layout = place(fit, camera, BOX);
  assert.deepEqual([layout.left, layout.top], [0, 0]);
  const last = 99_999;
  camera = reveal(layout, camera, BOX, last);
  layout = place(fit, camera, BOX);
  const cells = visibleCells(layout, BOX);
  const [column, row] = [last % layout.columns, Math.floor(last / layout.columns)];
  assert.ok(column >= cells.firstColumn && column <= cells.lastColumn && row <= cells.lastRow && row >= cells.firstRow);
  const middle = lookAt(layout, BOX, fit.columns / 2, fit.rows / 2);
  assert.deepEqual([middle.x, middle.y], [fit.columns / 2, fit.rows / 2]);
});

test("effects: one a block, only for the step that follows, and over after their time", () => {
  const events: BlockEvent[] = [
    { kind: "evict", block: 3, request_id: "", other: "" },
    { kind: "allocate", block: 3, request_id: "r1", other: "" },
    { kind: "copy", block: 5, request_id: "r1", other: "2" },
    { kind: "cache", block: 1, request_id: "", other: "aa" },
  ];
  assert.deepEqual(effectsOf(events), [
    { block: 3, kind: "evict", from: null },
    { block: 5, kind: "copy", from: 2 },
  ]);
  const motion = new BlockMotion();
  motion.shown(7, events, true, 0);
  assert.equal(motion.at(1), null, "nothing moves for the first state that is seen");
  motion.shown(8, events, true, 100);
  assert.equal(motion.at(100 + MOTION_MS / 2)!.share, 0.5);
  motion.shown(8, events, true, 300);
  assert.equal(motion.at(100 + MOTION_MS / 2)!.share, 0.5, "the same step again does not begin anew");
  assert.equal(motion.at(100 + MOTION_MS), null);
  motion.shown(9, events, false, 600);
  assert.equal(motion.at(601), null, "not at high speed, nor when reduced motion is asked for");
  motion.shown(12, events, true, 700);
  assert.equal(motion.at(701), null, "a jump in time is no motion");
  assert.deepEqual(ringAt("allocate", 1), { size: 1, alpha: 0 });
});

test("a block's story: its tokens as text, its owners, its hash chain, its last use", () => {
  const store = new TraceStore();
  store.applyFrame(payload(shortRun(), snapshot()));
  const cached = store.stateAt(2)!;
  const block = cached.hashes.findIndex((hash, b) => hash !== "" && cached.contentIndex[b] === 1);
  assert.ok(block >= 0);
  assert.equal(hashChain(cached, block).length, 2);
  const story = tellBlock(store, cached, block);
  const lines = new Map(story.lines);
  assert.equal(lines.get("state"), "free, content kept for a prefix hit");
  assert.match(lines.get("hash chain")!, /^\w+ ← \w+ ← start$/);
  assert.equal(lines.get("reused"), `after ${reuseRank(cached, block)} other blocks`);
  assert.equal(story.text, "⟨5⟩⟨6⟩⟨10⟩⟨11⟩");
  assert.deepEqual(tellBlock(store, store.stateAt(0)!, 1).owners, ["r1"]);
});

test("the rings of a step are counted by what happened, in one order", () => {
  const event = (kind: BlockEvent["kind"], block: number, other = ""): BlockEvent =>
    ({ kind, block, request_id: "r0", other }) as BlockEvent;
  const events = [event("evict", 3), event("allocate", 3), event("share", 1), event("allocate", 4), event("cache", 1)];
  assert.deepEqual(ringCounts(effectsOf(events)), [
    ["allocate", 1],
    ["share", 1],
    ["evict", 1],
  ]);
  assert.deepEqual(ringCounts([]), []);
});
