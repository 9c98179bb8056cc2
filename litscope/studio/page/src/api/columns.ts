/** The binary form of bulk numbers: a JSON header, then typed arrays, each at a multiple of eight bytes. */

export type ColumnArray = Float32Array | Float64Array | Uint32Array | Int32Array | Uint8Array;

export interface Columns {
  facts: Record<string, unknown>;
  columns: Record<string, ColumnArray>;
}

interface Header {
  columns: { name: string; dtype: string; length: number; offset: number }[];
  facts: Record<string, unknown>;
}

const MAGIC = "LSC1";

export function decodeColumns(buffer: ArrayBuffer): Columns {
  const bytes = new Uint8Array(buffer);
  if (bytes.length < 8 || String.fromCharCode(...bytes.subarray(0, 4)) !== MAGIC) {
    throw new Error("the answer is no block of columns");
  }
  const length = new DataView(buffer).getUint32(4, true);
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + length))) as Header;
  const data = Math.ceil((8 + length) / 8) * 8;
  const columns: Record<string, ColumnArray> = {};
  for (const column of header.columns) {
    columns[column.name] = typed(buffer, data + column.offset, column.dtype, column.length);
  }
  return { facts: header.facts, columns };
}

function typed(buffer: ArrayBuffer, offset: number, dtype: string, length: number): ColumnArray {
  switch (dtype) {
    case "float32":
      return new Float32Array(buffer, offset, length);
    case "float64":
      return new Float64Array(buffer, offset, length);
    case "uint32":
      return new Uint32Array(buffer, offset, length);
    case "int32":
      return new Int32Array(buffer, offset, length);
    case "uint8":
      return new Uint8Array(buffer, offset, length);
    default:
      throw new Error(`a column of ${dtype} is not known`);
  }
}
