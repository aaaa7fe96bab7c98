import assert from "node:assert/strict";
import { test } from "node:test";

import { FreeList } from "../src/free_list.ts";

test("keeps reuse order through removal from the middle and both kinds of return", () => {
  const list = FreeList.of(5, [3, 0, 4]);
  list.remove(0);
  list.pushFront(1);
  list.pushBack(0);
  assert.deepEqual([...list], [1, 3, 4, 0]);
  assert.equal(list.size, 4);
});

test("refuses a block that is there already, or is not", () => {
  const list = FreeList.of(2, [0]);
  assert.throws(() => list.pushBack(0), /free already/);
  assert.throws(() => list.remove(1), /not free/);
});

test("a clone goes its own way", () => {
  const list = FreeList.of(3, [0, 1, 2]);
  const copy = list.clone();
  copy.remove(1);
  assert.deepEqual([...list], [0, 1, 2]);
  assert.deepEqual([...copy], [0, 2]);
});
