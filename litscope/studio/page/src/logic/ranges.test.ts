import assert from "node:assert/strict";
import { test } from "node:test";
import { Ranges } from "./ranges.ts";

test("ranges that touch become one", () => {
  const ranges = new Ranges().with(0, 3).with(5, 8).with(3, 5);
  assert.deepEqual(ranges.pairs, [[0, 8]]);
  assert.equal(ranges.size, 8);
});

test("a range taken out of the middle leaves two", () => {
  const ranges = new Ranges().with(0, 1_000_000).without(10, 20);
  assert.deepEqual(ranges.pairs, [
    [0, 10],
    [20, 1_000_000],
  ]);
  assert.equal(ranges.has(9), true);
  assert.equal(ranges.has(10), false);
  assert.equal(ranges.has(19), false);
  assert.equal(ranges.has(20), true);
  assert.equal(ranges.has(1_000_000), false);
});

test("toggling twice changes nothing, in any order", () => {
  let ranges = new Ranges();
  const seen = new Set<number>();
  for (let turn = 0; turn < 2000; turn += 1) {
    const position = (turn * 7919) % 97;
    ranges = ranges.toggled(position);
    if (!seen.delete(position)) seen.add(position);
    assert.equal(ranges.size, seen.size);
  }
  for (let position = -1; position < 98; position += 1) assert.equal(ranges.has(position), seen.has(position));
});
