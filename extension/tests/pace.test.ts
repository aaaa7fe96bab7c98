import assert from "node:assert/strict";
import { test } from "node:test";

import { Session } from "../src/session.ts";
import { Pace } from "../src/ui/pace.ts";
import { FakeSource, payload, record, snapshot } from "./support.ts";

/** A session that has just seen so many steps a second, and a pace whose drawings take 20 ms. */
function drawn(stepsPerSecond: number, state: "running" | "paused" = "running") {
  const session = new Session("paced");
  const source = new FakeSource();
  const leave = session.attach(source);
  const records = Array.from({ length: 60 }, (_, i) =>
    record(i, { time: i / stepsPerSecond, times: [0, 0, 1 / stepsPerSecond, 0, 0] }),
  );
  source.handlers!.frame(payload(records, snapshot(), { state }), true);
  const clock = { ms: 1000 };
  const pace = new Pace(session, () => clock.ms);
  pace.begin();
  clock.ms += 20;
  pace.end();
  const done = (): void => {
    pace.destroy();
    leave();
  };
  return { session, pace, clock, done };
}

test("steps that can be followed are drawn as they come", () => {
  const { pace, done } = drawn(20);
  assert.equal(pace.rest(), 0);
  assert.equal(pace.skims(), false);
  done();
});

test("where steps are too quick, drawing takes a twentieth of a processor", () => {
  const { pace, clock, done } = drawn(200);
  assert.equal(pace.rest(), 380);
  clock.ms += 350;
  assert.equal(pace.rest(), 30);
  clock.ms += 350;
  assert.equal(pace.rest(), 0);
  done();
});

test("a slow drawing puts off the next one by half a second and no more", () => {
  const { pace, clock, done } = drawn(200);
  for (let i = 0; i < 20; i++) {
    pace.begin();
    clock.ms += 400;
    pace.end();
  }
  pace.begin();
  assert.equal(pace.rest(), 500);
  done();
});

test("what the reader does, and a pause, are shown at once", () => {
  const { session, pace, done } = drawn(200);
  session.select({ request: "r1" });
  assert.equal(pace.rest(), 0);
  pace.begin();
  assert.ok(pace.rest() > 0);
  assert.equal(pace.skims(), true);
  session.hover("r2");
  assert.equal(pace.skims(), false);
  assert.equal(pace.rest(), 0);
  pace.begin();
  session.setCursor(30);
  assert.equal(pace.rest(), 0);
  done();
  const paused = drawn(200, "paused");
  assert.equal(paused.pace.rest(), 0);
  paused.done();
});
