import assert from "node:assert/strict";
import { test } from "node:test";
import { decodeColumns } from "./columns.ts";

function block(header: string, data: Uint8Array): ArrayBuffer {
  const text = new TextEncoder().encode(header);
  const start = Math.ceil((8 + text.length) / 8) * 8;
  const bytes = new Uint8Array(start + data.length);
  bytes.set(new TextEncoder().encode("LSC1"));
  new DataView(bytes.buffer).setUint32(4, text.length, true);
  bytes.set(text, 8);
  bytes.set(data, start);
  return bytes.buffer;
}

test("typed arrays come back at their offsets, after a header of any length", () => {
  for (const name of ["a", "äö", "a longer name"]) {
    const columns = [
      { name, dtype: "float64", length: 2, offset: 0 },
      { name: "count", dtype: "uint8", length: 3, offset: 16 },
    ];
    const data = new Uint8Array(24);
    data.set(new Uint8Array(new Float64Array([2 ** 40 + 1, Number.NaN]).buffer));
    data.set([1, 2, 255], 16);
    const read = decodeColumns(block(JSON.stringify({ columns, facts: { total: 2 } }), data));
    assert.deepEqual([...(read.columns[name] ?? [])], [2 ** 40 + 1, Number.NaN]);
    assert.deepEqual([...(read.columns.count ?? [])], [1, 2, 255]);
    assert.equal(read.facts.total, 2);
  }
});

test("what is no block is refused", () => {
  assert.throws(() => decodeColumns(new TextEncoder().encode('{"error": 1}').buffer as ArrayBuffer), /no block/);
  assert.throws(() => decodeColumns(new ArrayBuffer(0)), /no block/);
});
