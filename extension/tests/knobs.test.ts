import assert from "node:assert/strict";
import { test } from "node:test";

import type { Change, Knobs, PoolFigures } from "../src/protocol.ts";
import {
  bytesOfField,
  changeRows,
  changesOf,
  mebibytesField,
  positionOfScaled,
  preemptedText,
  scaledAt,
  settingsText,
  SLIDER_MAX,
} from "../src/views/knobs_model.ts";

const KNOBS: Knobs = {
  max_num_seqs: [64, 64],
  max_num_batched_tokens: [null, 512],
  enable_prefix_caching: [true, true],
  gpu_memory_utilization: [0.9, 0.9],
  kv_cache_memory_bytes: [null, 6_291_456],
  num_gpu_blocks_override: [null, 96],
  kv_cache_dtype: ["auto", "float32"],
  block_size: [16, 16],
  quantization: [null, null],
};

const FIGURES: PoolFigures = {
  num_blocks: 96,
  block_size: 16,
  kv_cache_dtype: "float32",
  kv_cache_bytes: 6_291_456,
  num_tokens: 1536,
  max_concurrency: 1.5,
  num_preempted: 0,
  num_evicted: 0,
  weight_bytes: 18_874_368,
};

test("only what differs from what is in force is asked for", () => {
  assert.deepEqual(changesOf({ max_num_seqs: 64, block_size: 16, kv_cache_memory_bytes: 6_291_456 }, KNOBS), {});
  assert.deepEqual(changesOf({ max_num_seqs: 8, kv_cache_dtype: "int8" }, KNOBS), {
    max_num_seqs: 8,
    kv_cache_dtype: "int8",
  });
  // "auto" stands for float32 here: choosing it again is no change, naming another is.
  assert.deepEqual(changesOf({ kv_cache_dtype: "auto" }, KNOBS), {});
  assert.deepEqual(changesOf({ quantization: null }, { ...KNOBS, quantization: ["int8", "int8"] }), {
    quantization: null,
  });
});

test("a setting that the engine does not offer is not asked for", () => {
  const others = Object.fromEntries(Object.entries(KNOBS).filter(([name]) => name !== "quantization"));
  assert.deepEqual(changesOf({ quantization: "int8", max_num_seqs: 2 }, others), { max_num_seqs: 2 });
});

test("the same share again is a change where a size had taken its place", () => {
  assert.deepEqual(changesOf({ gpu_memory_utilization: 0.9 }, KNOBS), {});
  for (const name of ["kv_cache_memory_bytes", "num_gpu_blocks_override"]) {
    const sized = { ...KNOBS, [name]: [1000, 1000] as [number, number] };
    assert.deepEqual(changesOf({ gpu_memory_utilization: 0.9 }, sized), { gpu_memory_utilization: 0.9 });
  }
});

test("the slider has the present size in its middle and 16 times as much at its end", () => {
  assert.equal(scaledAt(SLIDER_MAX / 2, 6_291_456), 6_291_456);
  assert.equal(scaledAt(SLIDER_MAX, 3), 48);
  assert.equal(scaledAt(0, 32), 2);
  for (const position of [0, 1, 37, 50, 99, 100]) {
    assert.equal(positionOfScaled(scaledAt(position, 640), 640), position);
  }
  assert.equal(positionOfScaled(1e12, 1), SLIDER_MAX);
  assert.equal(positionOfScaled(0, 8), 0);
});

test("MiB in a field are bytes for the engine", () => {
  assert.equal(mebibytesField(6_291_456), "6");
  assert.equal(bytesOfField("6"), 6_291_456);
  assert.equal(bytesOfField("0.5"), 524_288);
  for (const text of ["", " ", "much", "0", "-3"]) assert.equal(bytesOfField(text), null);
});

test("a change in rows: now, predicted, measured", () => {
  const change: Change = {
    requested: { kv_cache_memory_bytes: "3145728", max_num_seqs: "8", enable_prefix_caching: "False" },
    resolved: { max_num_seqs: "8", enable_prefix_caching: "False" },
    before: FIGURES,
    predicted: { ...FIGURES, num_blocks: 48, kv_cache_bytes: 3_145_728, num_preempted: 2 },
    measured: null,
    preempted: ["r1", "r4"],
    refused: null,
    instead: null,
    calls: [],
    seconds: null,
    step: null,
    notes: [],
  };
  const told = (measured: PoolFigures | null, after: Knobs): unknown =>
    changeRows({ ...change, measured }, KNOBS, after)
      .filter((row) => row.differs)
      .map((row) => [row.label, row.now, row.predicted, row.measured]);
  assert.deepEqual(told(null, KNOBS), [
    ["KV pool", "6.0\u00a0MiB", "3.0\u00a0MiB", null],
    ["Blocks", "96 of 16 tokens", "48 of 16 tokens", null],
    ["Requests preempted, computed again", "0", "2", null],
    ["max_num_seqs", "64", "8", null],
    ["enable_prefix_caching", "True", "False", null],
  ]);
  assert.equal(preemptedText(change), "r1, r4 would be preempted.");
  assert.equal(preemptedText({ ...change, measured: FIGURES, preempted: ["r4"] }), "r4 was preempted.");
  assert.equal(preemptedText({ ...change, preempted: [] }), "");
  assert.equal(
    settingsText({ kv_cache_memory_bytes: 3_145_728, kv_cache_dtype: "int8", enable_prefix_caching: false }),
    "kv_cache_memory_bytes=3145728 (3.0\u00a0MiB), kv_cache_dtype='int8', enable_prefix_caching=False",
  );
  // What was measured stands beside what was predicted, equal or not.
  const after: Knobs = { ...KNOBS, max_num_seqs: [8, 8], enable_prefix_caching: [false, false] };
  assert.deepEqual(told({ ...change.predicted, num_preempted: 3 }, after), [
    ["KV pool", "6.0\u00a0MiB", "3.0\u00a0MiB", "3.0\u00a0MiB"],
    ["Blocks", "96 of 16 tokens", "48 of 16 tokens", "48 of 16 tokens"],
    ["Requests preempted, computed again", "0", "2", "3"],
    ["max_num_seqs", "64", "8", "8"],
    ["enable_prefix_caching", "True", "False", "False"],
  ]);
});
