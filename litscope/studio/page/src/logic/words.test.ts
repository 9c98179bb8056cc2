import assert from "node:assert/strict";
import { test } from "node:test";
import { both, equals, inside, ofSteps, quoted, thinned } from "./filters.ts";
import { ago, cell, duration, number, percent, tail } from "./format.ts";
import { grouped, joined, stepAt, summary, tabled } from "./series.ts";
import { smoothed } from "./smooth.ts";

test("names with quotes, spaces and brackets are quoted whole", () => {
  assert.equal(quoted('a "b" or c'), '"a ""b"" or c"');
  assert.equal(equals("current_name", "x) or (1=1"), 'current_name = "x) or (1=1"');
});

test("two conditions hold together, whatever they are made of", () => {
  assert.equal(both("", " a = 1 "), "a = 1");
  assert.equal(both("a = 1 or b = 2", "c = 3"), "(a = 1 or b = 2) and c = 3");
  assert.deepEqual(ofSteps(10.4, 19.2), { filter: "steps(10, 20)", sort: "-step_loss" });
});

test("a lasso's corners are short numbers, and few", () => {
  const corners: [number, number][] = Array.from({ length: 5000 }, (_, index) => [index / 3, 1e-9]);
  const few = thinned(corners, 200);
  assert.equal(few.length, 200);
  assert.ok(inside("variability", "confidence", few).length < 20_000);
  assert.equal(inside("x", "y", [[1 / 3, 2]]), "inside(x, y, 0.333333 2)");
});

test("numbers as a person reads them", () => {
  const cases: [number | null, string][] = [
    [null, "–"],
    [Number.NaN, "NaN"],
    [-Infinity, "−∞"],
    [0, "0"],
    [1234567, "1,234,567"],
    [0.123456, "0.1235"],
    [2.34567, "2.346"],
    [-0.5, "−0.5000"],
    [0.00001234, "1.23e−5"],
    [98.76543, "98.77"],
  ];
  for (const [value, text] of cases) assert.equal(number(value), text);
});

test("times and shares", () => {
  assert.equal(duration(59.6), "1 min 0 s");
  assert.equal(duration(7260), "2 h 1 min");
  assert.equal(duration(null), "–");
  assert.equal(ago(1000, 1010), "just now");
  assert.equal(ago(0, 7200), "2 h ago");
  assert.equal(percent(0.12345), "12.3 %");
  assert.equal(cell(["a", "b"]), "a, b");
  assert.equal(tail("a/very/long/path/to/some/file.png", 10), "…/file.png");
});

test("curves of different steps share one x", () => {
  const { x, y } = joined([
    { name: "a", x: [1, 3], y: [10, 30] },
    { name: "b", x: [2, 3], y: [null, 5] },
  ]);
  assert.deepEqual(x, [1, 2, 3]);
  assert.deepEqual(y, [
    [10, null, 30],
    [null, null, 5],
  ]);
});

test("what measures the same shares a plot; the loss and what is monitored come first", () => {
  const groups = grouped(["lr", "val/accuracy", "train/loss", "val/loss", "val/f1", "val/sharpness"], "val/sharpness");
  assert.deepEqual(
    groups.map((group) => group.title),
    ["loss", "accuracy", "sharpness", "f1", "lr"],
  );
  assert.deepEqual(groups[0]?.names, ["train/loss", "val/loss"]);
});

test("a curve in words", () => {
  assert.equal(summary("train/loss", { name: "", x: [], y: [] }), "train/loss: no values yet.");
  const told = summary("train/loss", { name: "", x: [0, 1, 2, 3], y: [2, null, 0.5, 1] });
  assert.equal(told, "train/loss: from 2 to 1; lowest 0.5000 at 2, highest 2 at 0.");
});

test("the step of a place on x is that of the nearest point", () => {
  assert.equal(stepAt(0.9, [{ x: [0, 1, 2], y: [1, 1, 1], step: [0, 100, 200] }]), 100);
  assert.equal(stepAt(5, []), 0);
});

test("a long table keeps its first and last line", () => {
  const rows = tabled(
    Array.from({ length: 1000 }, (_, index) => index),
    60,
  );
  assert.equal(rows.length, 60);
  assert.equal(rows[0], 0);
  assert.equal(rows[59], 999);
});

test("smoothing has no bias at its start, keeps gaps, and leaves a constant alone", () => {
  assert.deepEqual(smoothed([5, null, 5], 0.9), [5, null, 5]);
  const [first, second] = smoothed([1, 0], 0.5) as [number, number];
  assert.equal(first, 1);
  assert.ok(Math.abs(second - 1 / 3) < 1e-12);
  assert.deepEqual(smoothed([1, 2], 0), [1, 2]);
});
