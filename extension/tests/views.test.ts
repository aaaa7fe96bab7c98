import assert from "node:assert/strict";
import { test } from "node:test";

import { decodeSnapshot } from "../src/generated.ts";
import { EngineState } from "../src/replay.ts";
import { quantile, Series } from "../src/series.ts";
import { TraceStore } from "../src/store.ts";
import { fill, ownersOf, ownersOfAll, tokensIn } from "../src/views/block_facts.ts";
import { blockAt, layoutBlocks } from "../src/views/block_layout.ts";
import { binCard, histogram, logTicks, placeOf, valueAt } from "../src/views/histogram.ts";
import type { Theme } from "../src/ui/theme.ts";
import { pointCard, type RoofPoint } from "../src/views/roofline_chart.ts";
import { millis, percent } from "../src/format.ts";
import { endToEnd, goodput, readLimit } from "../src/views/latency_goodput.ts";
import type { DeviceReading } from "../src/protocol.ts";
import { deviceFacts, paceFacts } from "../src/views/device_facts.ts";
import { batchOf, kernelParts } from "../src/views/kernel_rows.ts";
import { ledger } from "../src/views/memory_rows.ts";
import { nextPowerOfTwo, wasteRows } from "../src/views/waste_rows.ts";
import { type Group, RequestMotion } from "../src/views/request_motion.ts";
import { requestRows, sortRows } from "../src/views/request_rows.ts";
import { tellStory } from "../src/views/request_story.ts";
import { branchAt, choicesAt, sharedBlocks } from "../src/views/playground_branch.ts";
import { readParams } from "../src/views/sampling_form.ts";
import { positionOf, SLIDER_MAX, speedAt } from "../src/views/speed.ts";
import { ticks, TimelineAxis } from "../src/views/timeline_axis.ts";
import { layoutRows } from "../src/views/timeline_rows.ts";
import { admitted, decode, payload, record, recordedTrace, shortRun, snapshot, waits } from "./support.ts";

function filled(): TraceStore {
  const store = new TraceStore();
  store.applyFrame(payload(shortRun(), snapshot()));
  return store;
}

for (const count of [1, 8, 72, 1000, 20_000, 100_000]) {
  test(`${count} blocks fit and each can be hit`, () => {
    const [width, height] = [1200, 620];
    const layout = layoutBlocks(count, width, height, 1);
    assert.ok(layout.columns * layout.pitch <= width && layout.rows * layout.pitch <= height);
    assert.ok(layout.columns * layout.rows >= count);
    for (const block of [0, Math.floor(count / 2), count - 1]) {
      const x = layout.left + (block % layout.columns) * layout.pitch;
      const y = layout.top + Math.floor(block / layout.columns) * layout.pitch;
      assert.equal(blockAt(layout, count, x, y), block);
    }
    assert.equal(blockAt(layout, count, -1, 0), null);
  });
}

test("owners, fill and tokens of a block", () => {
  const store = filled();
  const state = store.stateAt(0)!;
  assert.deepEqual(ownersOf(state, 1), ["r1"]);
  assert.equal(ownersOfAll(state)[1], "r1");
  assert.equal(fill(state, "r1", 0), 1);
  assert.equal(fill(state, "r1", 1), 0.5);
  assert.deepEqual(tokensIn(store, state, 0), [1, 2, 3, 4]);
  assert.deepEqual(tokensIn(store, state, 1), [5, 6]);
  assert.equal(tokensIn(store, state, 5), null);
});

test("a free block with cached content still tells its tokens", () => {
  const store = filled();
  const state = store.stateAt(2)!;
  assert.equal(state.refCounts[1], 0);
  assert.deepEqual(tokensIn(store, state, 1), [5, 6, 10, 11]);
});

test("a block whose owner is unknown has no tokens", () => {
  const state = EngineState.fromSnapshot(decodeSnapshot(snapshot(4, { block_hashes: ["aa", "", "", ""] })));
  assert.equal(tokensIn(new TraceStore(), state, 0), null);
});

test("request rows follow the time cursor", () => {
  const store = filled();
  const at = (step: number): string[] =>
    requestRows(store, step).map((r) => `${r.info.id} ${r.state} ${r.outputTokens}`);
  assert.deepEqual(at(0), ["r1 prefill 1", "r2 waiting 0"]);
  assert.deepEqual(at(1), ["r1 running 2", "r2 waiting 0"]);
  assert.deepEqual(at(3), ["r1 finished 3", "r2 prefill 1"]);
  const [r1, r2] = requestRows(store, 3);
  assert.equal(r1!.ttft, 0.75);
  assert.equal(r1!.itl, 1);
  assert.equal(r2!.waited, 3.25);
  assert.equal(r2!.blocks, 1);
  assert.equal(requestRows(store, 1)[1]!.waited, 1.75);
});

test("a request's story says where its time went, up to the cursor", () => {
  const store = filled();
  const r2 = store.requests.get("r2")!;
  const whole = tellStory(r2, Number.POSITIVE_INFINITY, 3.5);
  assert.deepEqual(
    whole.parts.map((p) => [p.action, p.reason, p.seconds]),
    [
      ["wait", "no_blocks", 2.25],
      ["wait", "behind", 1],
      ["prefill", "admitted", 0.5],
    ],
  );
  const said = whole.sentences.join(" ").replace(/\u00a0/g, " ");
  assert.equal(
    said,
    "Waited 3.25 s: for KV blocks 2.25 s, for its turn 1.00 s. Prefill took 500 ms in 1 step: 2 prompt tokens.",
  );
  assert.equal(tellStory(r2, 1, 1.5).parts.length, 1);
  const r1 = tellStory(store.requests.get("r1")!, Number.POSITIVE_INFINITY, 9).sentences.at(-1);
  assert.match(r1!, /2 tokens, 750\sms each/);
});

test("rows sort with live ones first and unknown values last", () => {
  const rows = requestRows(filled(), 3);
  assert.deepEqual(
    sortRows(rows, "ttft", false).map((r) => r.info.id),
    ["r2", "r1"],
  );
  const early = requestRows(filled(), 1);
  assert.deepEqual(
    sortRows(early, "ttft", true).map((r) => r.info.id),
    ["r1", "r2"],
  );
});

test("the usual order: running, then the queue in its order, then ended ones with the newest first", () => {
  const store = filled();
  assert.deepEqual(
    sortRows(requestRows(store, 1), "state", false).map((r) => r.info.id),
    ["r1", "r2"],
  );
  assert.deepEqual(
    sortRows(requestRows(store, 3), "state", false).map((r) => r.info.id),
    ["r2", "r1"],
  );
});

test("by state, waiting requests stand in the engine's own queue order, preempted ones among them", () => {
  const store = new TraceStore();
  const arrive = (id: string): unknown => [id, 0, [1, 2], 4, 0, id, ""];
  const steps = [
    record(0, {
      arrivals: ["r1", "r2", "r3", "r4"].map(arrive) as never,
      decisions: [admitted("r1", 2), admitted("r2", 2), waits("r3", "no_blocks"), waits("r4", "behind")],
    }),
    // r4 was moved to the front, and r2 has lost its blocks and waits before those that never ran.
    record(1, {
      decisions: [
        decode("r1", 2),
        ["r2", "preempt", "no_blocks", 0, 0, 0, 1, 0, "r1"],
        waits("r4", "behind"),
        waits("r3", "behind"),
      ] as never,
    }),
  ];
  store.applyFrame(payload(steps, snapshot()));
  const names = (step: number): string[] =>
    sortRows(requestRows(store, step), "state", false).map((r) => `${r.info.id} ${r.state}`);
  assert.deepEqual(names(0), ["r1 prefill", "r2 prefill", "r3 waiting", "r4 waiting"]);
  assert.deepEqual(names(1), ["r1 running", "r2 preempted", "r4 waiting", "r3 waiting"]);
  assert.deepEqual(store.stateAt(1)!.waiting, ["r2", "r4", "r3"]);
});

test("only requests that cross between queue and batch move, and only as time goes on", () => {
  const groups = (...pairs: [string, Group][]): Map<string, Group> => new Map(pairs);
  const motion = new RequestMotion();
  const first = groups(["r1", "batch"], ["r2", "queue"], ["r3", "queue"]);
  const then = groups(["r1", "queue"], ["r2", "batch"], ["r3", "queue"], ["r4", "batch"]);
  assert.deepEqual(motion.shown(7, first, false, true), [], "nothing moves for the first state that is seen");
  const both = [
    { id: "r1", to: "queue" },
    { id: "r2", to: "batch" },
  ];
  assert.deepEqual(motion.shown(8, then, false, true), both);
  assert.deepEqual(motion.shown(8, then, false, true), [], "the same step again does not begin anew");
  assert.deepEqual(motion.shown(7, first, false, true), [], "not back in time");
  assert.deepEqual(motion.shown(9, then, false, true), [], "not after a jump");
  assert.deepEqual(
    motion.shown(14, first, true, true),
    [...both].map(({ id }) => ({ id, to: id === "r1" ? "batch" : "queue" })),
    "live, the steps between two draws count as one",
  );
  assert.deepEqual(motion.shown(15, then, true, false), [], "not where the reader asked for no motion");
  assert.deepEqual(
    motion.shown(16, groups(["r1", "ended"], ["r2", "ended"]), true, true),
    [],
    "an ending is no crossing",
  );
});

test("a long queue does not push the running requests out of the timeline", () => {
  const store = new TraceStore();
  const ids = Array.from({ length: 40 }, (_, i) => `r${i}`);
  store.applyFrame(
    payload(
      [
        record(0, {
          arrivals: ids.map((id) => [id, 0, [1, 2], 4, 0, id, ""]),
          decisions: ids.map((id, i) => (i < 4 ? admitted(id, 2) : waits(id, "max_num_seqs", 5, 4))),
        }),
      ],
      snapshot(),
    ),
  );
  const axis = new TimelineAxis();
  axis.track(store);
  const rows = layoutRows(store, axis, 0, 110, 0);
  assert.equal(rows.requests.length, 10);
  assert.deepEqual(
    rows.requests.slice(0, 5).map((r) => r.id),
    ["r0", "r1", "r2", "r3", "r4"],
  );
  assert.equal(rows.below, 30);
  assert.equal(layoutRows(store, axis, 0, 110, -100).below, 0);
});

test("the ledger's rows add up, with the KV cache split at the cursor", () => {
  const store = new TraceStore();
  store.info = recordedTrace().engine;
  const memory = [
    { name: "Weights", kind: "weights" as const, bytes: 5000 },
    { name: "used", kind: "kv_used" as const, bytes: 1 },
    { name: "cached", kind: "kv_cached" as const, bytes: 1 },
    { name: "free", kind: "kv_free" as const, bytes: 798 },
  ];
  store.applyFrame(payload(shortRun(), snapshot(), { memory }));
  assert.deepEqual(
    ledger(store, 0).rows.map((r) => r.bytes),
    [5000, 200, 0, 600],
  );
  assert.deepEqual(
    ledger(store, 2).rows.map((r) => r.bytes),
    [5000, 0, 200, 600],
  );
  assert.equal(ledger(store, 2).total, 5800);
});

test("an 8-bit cache's scales are a row of their own, and no row where the cache has none", () => {
  const store = new TraceStore();
  store.info = recordedTrace().engine;
  const memory = [
    { name: "used", kind: "kv_used" as const, bytes: 1 },
    { name: "scales", kind: "kv_scales" as const, bytes: 160 },
    { name: "free", kind: "kv_free" as const, bytes: 1 },
  ];
  const start = snapshot();
  const eightBit: typeof start.pool = [8, 4, "int8", 100];
  const steps = shortRun().map((record) => ({ ...record, pool: eightBit }));
  store.applyFrame(payload(steps, { ...start, pool: eightBit }, { memory }));
  const scales = (cursor: number): number[] => ledger(store, cursor).rows.map((row) => row.bytes);
  assert.deepEqual(scales(0), [160, 160, 480]);
  assert.deepEqual(scales(2), [0, 160, 480]);

  const plain = new TraceStore();
  plain.info = store.info;
  plain.applyFrame(payload(shortRun(), start, { memory }));
  assert.deepEqual(
    ledger(plain, 0).rows.map((row) => [row.name, row.bytes]),
    [
      ["used", 200],
      ["free", 600],
    ],
  );
});

test("waste is what Python counts: by hand, in blocks and in one piece", () => {
  const store = new TraceStore();
  store.info = recordedTrace().engine;
  store.applyFrame(payload(shortRun(), snapshot()));
  const rows = wasteRows(store.stateAt(0)!, () => 3, 100).map((row) => [row.label, row.held, row.used]);
  const state = store.stateAt(0)!;
  const [id] = state.running;
  const request = state.requests.get(id!)!;
  assert.equal(state.running.length, 1);
  assert.deepEqual(rows, [
    ["in blocks", state.numUsed * state.blockSize, request.numComputed],
    ["next power of two", request.numPrompt + 4, request.numComputed],
    ["max_model_len", 100, request.numComputed],
  ]);
  assert.deepEqual(
    wasteRows(store.stateAt(2)!, () => 3, 100),
    [],
  );
  assert.deepEqual([1, 2, 3, 4, 5, 8, 9].map(nextPowerOfTwo), [1, 2, 4, 4, 8, 8, 16]);
});

test("a device in one line, or why there is none", () => {
  const reading: DeviceReading = {
    name: "Test GPU",
    source: "NVML",
    total_bytes: 80 * 2 ** 30,
    used_bytes: 2 ** 30,
    own_bytes: null,
    utilization: 0.37,
    power_watts: 251.4,
    power_limit_watts: 700,
    clock_mhz: 1980,
    memory_clock_mhz: null,
    temperature_celsius: 41,
    processes: [1, 2, 3, 4, 5, 6].map((pid) => [pid, pid === 1 ? null : 2 ** 20]),
    problem: null,
  };
  const text = deviceFacts(reading).replaceAll("\u00a0", " ");
  assert.match(
    text,
    /^Test GPU · 1,024 MiB of 81,920 MiB in use by all processes · 37.* busy · 251 of 700 W · 1,980 MHz/,
  );
  assert.match(text, /41 °C · process 1 · process 2 1.0 MiB · .* · 2 more processes$/);
  assert.equal(deviceFacts({ ...reading, problem: "it is not there" }), "Test GPU: no figures, as it is not there");
  assert.equal(deviceFacts(null), "");
  const pace = paceFacts(reading).replaceAll("\u00a0", " ");
  assert.match(pace, /^Test GPU · 37.* busy · 251 of 700 W · 1,980 MHz · 41 °C$/);
  assert.equal(paceFacts({ ...reading, problem: "it is not there" }), "Test GPU: no figures, as it is not there");
  assert.equal(paceFacts({ ...reading, source: "psutil" }), "");
});

test("a bar under the pointer tells its range, its samples and how many are no longer", () => {
  const data = histogram([0.001, 0.001, 0.002, 0.004], 4);
  const kind = { name: "ITL", sample: "gap" };
  const edge = data.hi / 4;
  const card = binCard(data, 0.3, kind)!;
  assert.equal(card.title, `ITL ${millis(edge)} to ${millis(2 * edge)}`);
  const within = [0.001, 0.001, 0.002, 0.004].filter((v) => v >= edge && v < 2 * edge).length;
  const below = [0.001, 0.001, 0.002, 0.004].filter((v) => v < 2 * edge).length;
  assert.equal(card.lines[0]![1], `${within} gap${within === 1 ? "" : "s"}, ${percent(within / 4)}`);
  assert.equal(card.lines[1]![1], percent(below / 4));
  assert.equal(binCard(data, 1.2, kind), null);
  assert.equal(binCard(histogram([], 4), 0.3, kind), null);
  const long = histogram([...new Array<number>(199).fill(0.01), 5], 10);
  assert.ok(binCard(long, 0.99, kind)!.title.endsWith("and more"));
});

test("percentiles between neighbours, and a histogram that says what lies beyond it", () => {
  assert.equal(quantile([1, 2, 3, 4], 0.5), 2.5);
  assert.ok(Number.isNaN(quantile([], 0.5)));
  const values = [...new Array<number>(199).fill(0.01), 5];
  const data = histogram(values, 10);
  assert.equal(data.count, 200);
  assert.equal(data.p50, 0.01);
  assert.equal(data.beyond, 1);
  assert.equal(
    data.bins.reduce((a, b) => a + b, 0),
    200,
  );
});

test("a series keeps its newest samples", () => {
  const series = new Series(100);
  for (let i = 0; i < 130; i++) series.push(i, i);
  assert.equal(series.upTo(null).at(-1), 129);
  assert.ok(series.upTo(null).length <= 125);
  assert.deepEqual(series.upTo(20), []);
});

test("the speed slider's ends are slow motion and no limit, and positions map back", () => {
  assert.equal(speedAt(0), 0.5);
  assert.equal(speedAt(SLIDER_MAX), null);
  for (const position of [10, 40, 80, 99]) assert.ok(Math.abs(positionOf(speedAt(position)) - position) <= 1);
});

test("sampling fields: empty ones are left to the engine, bad ones are named", () => {
  assert.deepEqual(readParams({ max_tokens: " 32", temperature: "0.7", seed: "" }, true), {
    max_tokens: 32,
    temperature: 0.7,
    logprobs: 5,
  });
  assert.throws(() => readParams({ top_k: "1.5" }, false), /Top-k must be a whole number/);
  assert.throws(() => readParams({ temperature: "hot" }, false), /Temp must be a number, not “hot”/);
});

function longRun(steps: number): TraceStore {
  const store = new TraceStore();
  const records = Array.from({ length: steps }, (_, i) => record(i));
  store.applyFrame(payload(records, snapshot()));
  return store;
}

test("the timeline follows the newest step until the reader pans away, and reveals a cursor", () => {
  const store = longRun(1000);
  const axis = new TimelineAxis();
  [axis.left, axis.right] = [100, 1060];
  axis.track(store);
  assert.deepEqual([axis.lo, axis.hi], [760, 1000]);
  axis.pan(-400, store);
  assert.equal(axis.follow, false);
  assert.equal(axis.lo, 660);
  axis.reveal(20);
  assert.ok(axis.lo < 20 && axis.hi > 20);
  assert.equal(axis.indexAt(axis.x(20.5), store), 20);
  assert.equal(axis.indexAt(axis.left - 5, store), -1);
});

test("zoom keeps the step under the pointer, and a short run fills the view", () => {
  const store = longRun(1000);
  const axis = new TimelineAxis();
  [axis.left, axis.right] = [0, 960];
  axis.track(store);
  axis.pan(-960, store);
  const before = axis.value(480);
  axis.zoom(0.5, 480, store);
  assert.ok(Math.abs(axis.value(480) - before) < 1e-9);
  const short = new TimelineAxis();
  short.track(longRun(100));
  assert.deepEqual([short.lo, short.hi], [0, 100]);
});

test("ticks are round and whole where steps are counted", () => {
  assert.deepEqual(ticks(0, 10, 4, true), [0, 5, 10]);
  assert.deepEqual(ticks(3, 5.2, 8, true), [3, 4, 5]);
});

test("latencies, their bins and the goodput equal what Python makes of the same run", () => {
  const trace = recordedTrace();
  const store = new TraceStore();
  store.applyFrame(trace.payload);
  const near = (a: number, b: number): void => assert.ok(Math.abs(a - b) < 1e-9, `${a} is not ${b}`);
  const samples = { ttft: store.ttft.upTo(null), itl: store.itl.upTo(null), e2e: endToEnd(store, 1e9) };
  for (const name of ["ttft", "itl", "e2e"] as const) {
    const { percentiles, edge, bins } = trace.latency.samples[name];
    const data = histogram(samples[name], bins.length);
    [data.p50, data.p95, data.p99].forEach((value, i) => near(value, percentiles[i]!));
    near(data.hi, edge);
    assert.deepEqual(data.bins, bins);
  }
  const found = goodput(store, "live", trace.latency.slo);
  assert.deepEqual([found.met, found.ended], [trace.latency.met, trace.latency.ended]);
  near(found.perSecond, trace.latency.per_second);
  assert.ok(found.met > 0 && found.met < found.ended, "limits that some keep and some do not");
  assert.equal(goodput(store, "live", { ttft: null, itl: null, e2e: null }).met, found.ended);
  assert.equal(goodput(store, 0, trace.latency.slo).ended, 0);
});

test("a limit is typed in ms", () => {
  assert.equal(readLimit(" 250 "), 0.25);
  assert.equal(readLimit(""), null);
  for (const bad of ["fast", "0", "-3"]) assert.throws(() => readLimit(bad), /number of ms above 0/);
});

test("a branch keeps the prompt and the tokens up to the picked one, or puts another in its place", () => {
  const store = filled();
  const r1 = store.requests.get("r1")!;
  assert.deepEqual(branchAt(r1, 1, 11), {
    parent: "r1",
    index: 1,
    replaced: false,
    promptTokenIds: [1, 2, 3, 4, 5, 6, 10, 11],
  });
  const other = branchAt(r1, 0, 99);
  assert.deepEqual([other.replaced, other.promptTokenIds], [true, [1, 2, 3, 4, 5, 6, 99]]);
  assert.deepEqual(choicesAt(r1, 0, 4), [{ id: 10, logprob: -0.5, taken: true }]);
  assert.deepEqual(choicesAt(r1, 9, 4), []);
  assert.equal(sharedBlocks(store.stateAt(0)!, "r1", "r1"), 2);
  assert.equal(sharedBlocks(store.stateAt(3)!, "r1", "r2"), 0);
});

test("the kernel view's bytes, operations and limits are those of llm.roofline()", () => {
  const { payload: recorded, kernels } = recordedTrace();
  const store = new TraceStore();
  store.applyFrame(recorded);
  const { work, limits } = store.status!;
  assert.ok(kernels.length > 5);
  for (const [step, wanted, reached] of kernels) {
    const { record } = store.stepAt(step)!;
    const parts = kernelParts(record, work!, limits!);
    assert.deepEqual(
      parts.map((part) => [part.name, part.bytes, part.flops, part.limit, part.bound]),
      wanted,
    );
    assert.equal(parts.at(-1)!.limit! / record.times.forward, reached);
    assert.equal(batchOf(record).tokens, record.num_scheduled_tokens);
    assert.deepEqual(
      kernelParts(record, work!, null).map((part) => [part.limit, part.bound]),
      wanted.map(() => [null, null]),
    );
  }
});

test("a step in which nobody computed has no parts", () => {
  const { payload: recorded } = recordedTrace();
  const store = new TraceStore();
  store.applyFrame(recorded);
  const { record } = store.steps.find((step) => step.record.num_scheduled_tokens === 0)!;
  assert.deepEqual(kernelParts(record, store.status!.work!, store.status!.limits!), []);
  assert.deepEqual(batchOf(record), { tokens: 0, requests: 0 });
});

test("the roofline tells of the point nearest to the pointer, and of none that is far", () => {
  const points: RoofPoint[] = [
    { x: 100, y: 50, name: "attention", intensity: 2, limit: 5e9, done: null },
    { x: 120, y: 60, name: "forward", intensity: 4, limit: 1e10, done: 2.5e9 },
  ];
  const theme = { phases: { forward: "#00f" }, request: () => "#f00" } as unknown as Theme;
  assert.equal(pointCard(points, 102, 52, theme)!.title, "attention: the most it could do");
  const forward = pointCard(points, 121, 61, theme)!;
  assert.deepEqual(forward.lines, [
    ["for each byte read", "4 FLOP"],
    ["limit", "10 GFLOP/s"],
    ["reached", "2.5 GFLOP/s, 25\u00a0%"],
  ]);
  assert.equal(pointCard(points, 300, 50, theme), null);
  assert.equal(pointCard([], 100, 50, theme), null);
});

test("on a logarithmic scale every sample has its bar, and places are values again", () => {
  const values = [...new Array<number>(199).fill(0.01), 5, 0];
  const data = histogram(values, 10, "log");
  assert.equal(data.beyond, 0);
  assert.equal(
    data.bins.reduce((a, b) => a + b, 0),
    201,
  );
  assert.equal(data.bins.at(-1), 1);
  for (const value of [0.01, 0.3, 5]) assert.ok(Math.abs(valueAt(data, placeOf(data, value)) / value - 1) < 1e-9);
  assert.equal(placeOf(data, 0), 0);
  assert.ok(placeOf(data, 50) > 1);
  assert.match(binCard(data, 0.02, { name: "TTFT", sample: "request" })!.lines[0]![1], /^200 requests/);
  assert.deepEqual(logTicks(3, 60), [5, 10, 20, 50]);
  assert.deepEqual(histogram([], 4, "log").bins, [0, 0, 0, 0]);
});
