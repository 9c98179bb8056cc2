import assert from "node:assert/strict";
import { test } from "node:test";
import { formatRoute, parseRoute, type Route } from "./route.ts";

test("what stands in the address comes back from it", () => {
  const route: Route = {
    run: "größe & co-1a2b3c",
    compare: [],
    view: "samples",
    sample: 12,
    params: { filter: 'key ~ "a+b&c=d" and loss > 1', sort: "-suspicion" },
  };
  assert.deepEqual(parseRoute(formatRoute(route)), route);
});

test("nothing in the address is the list of runs", () => {
  assert.deepEqual(parseRoute(""), { run: null, compare: [], view: "curves", sample: null, params: {} });
  assert.equal(formatRoute(parseRoute("")), "?");
});

test("what is not known is not believed", () => {
  const route = parseRoute("?run=a&view=admin&sample=-1&compare=,b,");
  assert.equal(route.view, "curves");
  assert.equal(route.sample, null);
  assert.deepEqual(route.compare, ["b"]);
});
