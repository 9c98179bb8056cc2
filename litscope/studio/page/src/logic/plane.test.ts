import assert from "node:assert/strict";
import { test } from "node:test";
import { formatWindow, parseWindow, ticks, toPixel, toValue, zoomed } from "./plane.ts";

const window = { x0: -1, x1: 3, y0: 0, y1: 10 };
const screen = { width: 400, height: 200 };

test("pixels and values are each other's inverse, y points up", () => {
  assert.deepEqual(toPixel(-1, 0, window, screen), [0, 200]);
  assert.deepEqual(toPixel(3, 10, window, screen), [400, 0]);
  const [x, y] = toValue(...toPixel(0.3, 7.1, window, screen), window, screen);
  assert.ok(Math.abs(x - 0.3) < 1e-12 && Math.abs(y - 7.1) < 1e-12);
});

test("zooming leaves the place under the pointer", () => {
  const near = zoomed(window, 0.5, [1, 2]);
  assert.deepEqual(toPixel(1, 2, near, screen), toPixel(1, 2, window, screen));
  assert.equal(near.x1 - near.x0, 2);
});

test("ticks are round, few, and within", () => {
  assert.deepEqual(ticks(0, 1), [0, 0.2, 0.4, 0.6000000000000001, 0.8, 1]);
  for (const [low, high] of [
    [-3.2, 17],
    [0, 1e-7],
    [1e6, 1.5e6],
  ] as const) {
    const all = ticks(low, high);
    assert.ok(all.length >= 2 && all.length <= 7, `${low} ${high} ${all}`);
    assert.ok(all.every((value) => value >= low - 1e-12 && value <= high * (1 + 1e-9)));
  }
  assert.deepEqual(ticks(2, 2), [2]);
});

test("the window stands in the address; what is no window is none", () => {
  assert.deepEqual(parseWindow(formatWindow(window)), window);
  for (const text of [undefined, "", "1,2,3", "1,1,0,2", "a,b,c,d", "2,1,0,1"]) assert.equal(parseWindow(text), null);
});
