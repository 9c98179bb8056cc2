import assert from "node:assert/strict";
import { test } from "node:test";
import { layout, MAX_HEIGHT, offsetShowing, toFull, toScroll, visibleRows } from "./scroll.ts";

test("a million samples stay below the height that browsers allow, and the last row is reached", () => {
  const grid = layout(1_331_167, 330, 110, 130);
  assert.equal(grid.numColumns, 3);
  assert.equal(grid.height, MAX_HEIGHT);
  const end = toFull(MAX_HEIGHT - 700, 700, grid);
  assert.equal(end, grid.fullHeight - 700);
  const [, last] = visibleRows(end, 700, grid);
  assert.equal(last, grid.numRows);
});

test("a small grid scrolls pixel by pixel", () => {
  const grid = layout(1000, 1000, 100, 100);
  assert.equal(grid.height, 10_000);
  assert.equal(toFull(1234, 500, grid), 1234);
  assert.equal(toScroll(1234, 500, grid), 1234);
});

test("offsets and scroll positions are each other's inverse", () => {
  const grid = layout(5_000_000, 900, 100, 120);
  for (const full of [0, 1, 119, 50_000, grid.fullHeight - 800]) {
    assert.ok(Math.abs(toFull(toScroll(full, 800, grid), 800, grid) - full) < 1e-3);
  }
});

test("an empty grid has no rows, one narrower than a cell has one column", () => {
  assert.deepEqual(visibleRows(0, 500, layout(0, 900, 100, 100)), [0, 0]);
  assert.equal(layout(10, 50, 100, 100).numColumns, 1);
});

test("showing a row moves as little as it can", () => {
  const grid = layout(1000, 100, 100, 100);
  assert.equal(offsetShowing(3, 200, 500, grid), 200);
  assert.equal(offsetShowing(1, 200, 500, grid), 100);
  assert.equal(offsetShowing(9, 200, 500, grid), 500);
});
