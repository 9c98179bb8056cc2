import assert from "node:assert/strict";
import { test } from "node:test";
import { clicked, inRectangle, moved, NOTHING, toggled } from "./selecting.ts";

test("a click selects one, Shift a range from there, Ctrl one more and one less", () => {
  const one = clicked(NOTHING, 5, false, false);
  assert.deepEqual(one.ranges.pairs, [[5, 6]]);
  const range = clicked(one, 9, false, true);
  assert.deepEqual(range.ranges.pairs, [[5, 10]]);
  const back = clicked(range, 2, false, true);
  assert.deepEqual(back.ranges.pairs, [[2, 6]]);
  const more = clicked(back, 20, true, false);
  assert.deepEqual(more.ranges.pairs, [
    [2, 6],
    [20, 21],
  ]);
  assert.deepEqual(clicked(more, 20, true, false).ranges.pairs, [[2, 6]]);
});

test("arrows move without selecting, and select with Shift", () => {
  const at = moved(NOTHING, 3, false);
  assert.equal(at.ranges.size, 0);
  assert.deepEqual(moved(moved(at, 4, true), 5, true).ranges.pairs, [[3, 6]]);
  assert.deepEqual(toggled(at).ranges.pairs, [[3, 4]]);
});

test("a rectangle takes its columns in every row, and stops at the last sample", () => {
  const ranges = inRectangle([1, 3], [1, 2], 4, 14);
  assert.deepEqual(ranges.pairs, [
    [5, 7],
    [9, 11],
    [13, 14],
  ]);
  assert.deepEqual(inRectangle([0, 2], [-3, 99], 4, 10).pairs, [[0, 10]]);
});
