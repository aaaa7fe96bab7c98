import assert from "node:assert/strict";
import { mock, test } from "node:test";

import { seconds } from "../src/format.ts";
import { PROTOCOL_VERSION, type PreviewResult } from "../src/protocol.ts";
import { Session } from "../src/session.ts";
import { TraceStore } from "../src/store.ts";
import { compareRows, verdict, waterfallsOf } from "../src/views/compare_rows.ts";
import { recipeOf, stemCard, stems } from "../src/views/traffic_recipe.ts";
import { FakeSource, payload, record, recordedTrace, shortRun, snapshot, waits, decode } from "./support.ts";

test("a stall is a step that passes over somebody who runs, or takes far longer than usual", () => {
  const store = new TraceStore();
  const records = shortRun();
  for (let step = 4; step < 60; step++) {
    const slow = step === 50;
    const times: [number, number, number, number, number] = [0.1, 0.1, slow ? 9 : 0.2, 0.05, 0.05];
    records.push(record(step, { decisions: [decode("r2", step)], num_scheduled_tokens: 1, times }));
  }
  records.push(
    record(60, { decisions: [waits("r2", "token_budget", 1, 0, "x"), decode("x", 3)], num_scheduled_tokens: 1 }),
  );
  store.applyFrame(payload(records, snapshot()));
  assert.deepEqual(
    store.events.filter((e) => e.kind === "stalled").map((e) => e.step),
    [50, 60],
  );
  assert.equal(store.nextEvent(0, 1, "stalled")?.step, 50);
  assert.equal(store.nextEvent(60, -1, "finished")?.step, 2);
  assert.equal(store.nextEvent(0, 1, "preempted"), null);
});

test("playing moves the cursor to the newest step and stops there, or where somebody else moves it", () => {
  mock.timers.enable({ apis: ["setTimeout", "setInterval"] });
  const session = new Session("e1");
  const source = new FakeSource();
  session.attach(source);
  source.handlers!.hello(recordedTrace().engine, PROTOCOL_VERSION);
  source.handlers!.frame(payload(shortRun(), snapshot()), true);
  session.playback.toggle();
  assert.deepEqual([session.cursor, session.playback.playing], [0, true]);
  mock.timers.tick(140);
  assert.equal(session.cursor, 2);
  mock.timers.tick(500);
  assert.deepEqual([session.cursor, session.playback.playing], [3, false]);
  session.setCursor(0);
  session.playback.toggle();
  mock.timers.tick(70);
  session.setCursor("live");
  mock.timers.tick(70);
  assert.deepEqual([session.cursor, session.playback.playing], ["live", false]);
  mock.timers.reset();
});

test("why a policy was taken off is kept until another one is put in force", () => {
  const store = new TraceStore();
  const told = "policy 'mine' was taken off, 'fcfs' is back: ValueError: oh no";
  store.applyFrame(payload([record(0, { changes: [["scheduling_policy", told, ""]] })], snapshot()));
  assert.equal(store.policyNotice, told);
  store.applyFrame(payload([record(1, { changes: [["scheduling_policy", "sjf", ""]] })]));
  assert.equal(store.policyNotice, null);
});

test("rows of a comparison: gains by the chosen measure, and Python's verdicts", () => {
  const data = recordedTrace().comparison;
  for (const measure of ["e2e", "ttft"] as const) {
    const gains = compareRows(data, measure, "change").map((row) => row.gain);
    assert.deepEqual(
      gains,
      [...gains].sort((a, b) => b - a),
    );
  }
  const verdicts = compareRows(data, "e2e", "arrival").map(verdict);
  const times = (kind: string): number => verdicts.filter((v) => v === kind).length;
  assert.deepEqual([times("gained"), times("lost"), times("same")], [data.num_gained, data.num_lost, data.num_same]);
  const [first] = data.requests;
  const found = waterfallsOf(data, first![0])!;
  for (const [i, ttft] of [first![1], first![2]].entries()) {
    const sum = found[i]!.reduce((s, segment) => s + segment.seconds, 0);
    assert.ok(Math.abs(sum - ttft!) < 1e-9);
  }
  assert.equal(waterfallsOf(data, "nobody"), null);
});

test("a recipe has the fields of its arrivals and no others", () => {
  const values = new Map([
    ["shared", 50],
    ["urgent", 20],
  ]);
  const recipe = recipeOf("closed_loop", "lognormal", (name) => values.get(name) ?? 7);
  assert.deepEqual(recipe, {
    arrivals: "closed_loop",
    lengths: "lognormal",
    prompt_len: [7, 7],
    output_len: [7, 7],
    shared_fraction: 0.5,
    prefix_len: 7,
    urgent_fraction: 0.2,
    seed: 7,
    num_users: 7,
    requests_per_user: 7,
    think_time: 7,
  });
});

test("the stem under the pointer tells its request's own numbers, with units", () => {
  const rows = [
    [0, null, 3, 4, 0],
    [0.5, null, 5, 1, -1],
  ] as const;
  assert.deepEqual(stemCard(rows, 0.1), {
    title: "Request 1 of 2",
    lines: [
      ["arrives", `${seconds(0)} after the start`],
      ["prompt", "3 tokens"],
      ["output", "4 tokens"],
    ],
  });
  assert.deepEqual(stemCard(rows, 0.8).lines, [
    ["arrives", `${seconds(0.5)} after the start`],
    ["prompt", "5 tokens"],
    ["output", "1 token"],
    ["priority", "-1, urgent"],
  ]);
  assert.equal(stemCard([rows[0], [0.5, 0, 5, 6, 0]], 1).lines[0]![1], `${seconds(0.5)} after the end of number 1`);
});

test("the preview has a stem for each request, at its arrival or, where that is unknown, in order", () => {
  const { requests }: PreviewResult = recordedTrace().preview;
  const drawn = stems(requests);
  const last = Math.max(...requests.map(([time]) => time));
  assert.deepEqual(
    drawn.map((s) => s.x),
    requests.map(([time]) => time / last),
  );
  assert.ok(drawn.some((s) => s.urgent));
  assert.deepEqual(
    stems([
      [0, null, 3, 4, 0],
      [0.5, 0, 5, 6, 0],
    ]).map((s) => [s.x, s.prompt, s.output]),
    [
      [0, 3, 4],
      [1, 5, 6],
    ],
  );
});
