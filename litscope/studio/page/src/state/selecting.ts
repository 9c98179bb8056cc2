/** Which samples of a view are selected, and where the keyboard is. Pure: each deed gives another selection. */
import { Ranges } from "../logic/ranges.ts";

export interface Selection {
  ranges: Ranges;
  /** The position that the keyboard is at. */
  focus: number;
  /** Where a range that is being selected began. */
  anchor: number;
}

export const NOTHING: Selection = { ranges: new Ranges(), focus: 0, anchor: 0 };

/** A click: this one alone; with Ctrl one more or one less; with Shift all from the anchor. */
export function clicked(selection: Selection, position: number, isAdding: boolean, isRange: boolean): Selection {
  if (isRange) return upTo(selection, position, isAdding);
  if (isAdding) return { ranges: selection.ranges.toggled(position), focus: position, anchor: position };
  return { ranges: new Ranges([[position, position + 1]]), focus: position, anchor: position };
}

/** Everything from the anchor to a position; what was selected elsewhere stays if `isAdding`. */
export function upTo(selection: Selection, position: number, isAdding = false): Selection {
  const first = Math.min(selection.anchor, position);
  const last = Math.max(selection.anchor, position) + 1;
  const base = isAdding ? selection.ranges : new Ranges();
  return { ranges: base.with(first, last), focus: position, anchor: selection.anchor };
}

/** The keyboard moves; the selection stays, or grows with Shift. */
export function moved(selection: Selection, position: number, isGrowing: boolean): Selection {
  if (isGrowing) return upTo(selection, position);
  return { ...selection, focus: position, anchor: position };
}

export function toggled(selection: Selection): Selection {
  return { ...selection, ranges: selection.ranges.toggled(selection.focus), anchor: selection.focus };
}

/** Positions in a rectangle of the grid, row by row. */
export function inRectangle(
  rows: readonly [number, number],
  columns: readonly [number, number],
  numColumns: number,
  total: number,
): Ranges {
  let ranges = new Ranges();
  for (let row = rows[0]; row <= rows[1]; row += 1) {
    const first = row * numColumns + Math.max(0, columns[0]);
    const last = Math.min(total, row * numColumns + Math.min(numColumns - 1, columns[1]) + 1);
    ranges = ranges.with(first, last);
  }
  return ranges;
}

export function merged(first: Ranges, second: Ranges): Ranges {
  return second.pairs.reduce((all, [start, end]) => all.with(start, end), first);
}
