import assert from "node:assert/strict";
import { test } from "node:test";

import { TraceStore } from "../src/store.ts";
import { guestsAt, progressAt } from "../src/views/playground_guests.ts";
import { recordedTrace } from "./support.ts";

function recorded(): TraceStore {
  const store = new TraceStore();
  store.applyFrame(recordedTrace().payload);
  return store;
}

const nobody = { own: new Set<string>(), selected: null, before: [] };

test("at every step a request is told as far as the records say that it was", () => {
  const store = recorded();
  const tokens = new Map<string, number>();
  const ended = new Map<string, string>();
  const seen = { "to come": 0, waiting: 0, writing: 0, ended: 0 };
  for (const { record } of store.steps) {
    for (const { request_id } of record.sampled) tokens.set(request_id, (tokens.get(request_id) ?? 0) + 1);
    for (const { request_id, finish_reason } of record.finished) ended.set(request_id, finish_reason);
    const state = store.stateAt(record.step)!;
    for (const request of store.requests.values()) {
      const told = progressAt(request, record.step).replaceAll("\u00a0", " ");
      const written = tokens.get(request.id) ?? 0;
      if (ended.has(request.id)) {
        seen.ended += 1;
        assert.match(told, new RegExp(`^${written} tokens? · ${ended.get(request.id)}$`));
      } else if (!state.requests.has(request.id)) {
        seen["to come"] += 1;
        assert.equal(told, `arrives in step ${request.arrivalStep}`);
        assert.ok(request.arrivalStep > record.step);
      } else if (written === 0) {
        seen.waiting += 1;
        assert.equal(told, "no token yet");
      } else {
        seen.writing += 1;
        assert.equal(told, `${written} of ${request.maxTokens} tokens`);
      }
    }
  }
  assert.ok(Object.values(seen).every((n) => n > 0));
});

test("requests from elsewhere are those that write at the cursor", () => {
  const store = recorded();
  const shownAt = new Set<string>();
  for (const { record } of store.steps) {
    const state = store.stateAt(record.step)!;
    const writes = (id: string): boolean => /^\d+ of /.test(progressAt(store.requests.get(id)!, record.step));
    const writing = [...state.requests.keys()].filter(writes);
    const shown = guestsAt(store, record.step, nobody);
    assert.ok(shown.length <= 4);
    if (writing.length > 0) assert.ok(shown.every((id) => writing.includes(id)));
    else assert.ok(shown.every((id) => state.requests.has(id)) || state.requests.size === 0);
    shownAt.add(shown.join(" "));
  }
  assert.ok(shownAt.size > 10);
});

test("a playground's own are no guests, the picked one always is, and who stays keeps the place", () => {
  const store = recorded();
  const step = store.steps.find(({ record }) => guestsAt(store, record.step, nobody).length === 4)!.record.step;
  const [first, second, third, fourth] = guestsAt(store, step, nobody) as [string, string, string, string];
  assert.ok(!guestsAt(store, step, { ...nobody, own: new Set([third]) }).includes(third));
  const later = [...store.requests.keys()].at(-1)!;
  assert.equal(guestsAt(store, step, { ...nobody, selected: later })[0], later);
  const before = [fourth, first, "gone", second];
  assert.deepEqual(guestsAt(store, step, { ...nobody, before }), [fourth, first, third, second]);
  const picked = guestsAt(store, step, { own: new Set(), selected: later, before: [first, second, third, fourth] });
  assert.deepEqual(picked, [later, second, third, fourth]);
});
