/**
 * Which rows of a tall grid are in sight. Browsers cap the height of an element at some ten to thirty million pixels; a
 * taller grid is laid out in `MAX_HEIGHT`, and a place on the scroll bar stands for a proportionally larger offset.
 */

export const MAX_HEIGHT = 8_000_000;

export interface Layout {
  numColumns: number;
  numRows: number;
  rowHeight: number;
  /** Of the content, as laid out. */
  height: number;
  /** Of the content, if it had no limit. */
  fullHeight: number;
}

export function layout(total: number, width: number, cellWidth: number, rowHeight: number): Layout {
  const numColumns = Math.max(1, Math.floor(width / cellWidth));
  const numRows = Math.ceil(total / numColumns);
  const fullHeight = numRows * rowHeight;
  return { numColumns, numRows, rowHeight, fullHeight, height: Math.min(fullHeight, MAX_HEIGHT) };
}

/** Full offset for a position of the scroll bar. */
export function toFull(scrollTop: number, viewport: number, grid: Layout): number {
  const reach = grid.height - viewport;
  if (reach <= 0) return 0;
  return (scrollTop / reach) * Math.max(0, grid.fullHeight - viewport);
}

/** Position of the scroll bar for a full offset. */
export function toScroll(full: number, viewport: number, grid: Layout): number {
  const reach = grid.fullHeight - viewport;
  if (reach <= 0) return 0;
  return (full / reach) * Math.max(0, grid.height - viewport);
}

/** Rows [first, last) in sight of an offset, and `extra` ones on both sides. */
export function visibleRows(full: number, viewport: number, grid: Layout, extra = 2): [number, number] {
  const first = Math.max(0, Math.floor(full / grid.rowHeight) - extra);
  const last = Math.min(grid.numRows, Math.ceil((full + viewport) / grid.rowHeight) + extra);
  return [first, Math.max(first, last)];
}

/** The offset that brings a row into sight with the smallest move. */
export function offsetShowing(row: number, full: number, viewport: number, grid: Layout): number {
  const top = row * grid.rowHeight;
  if (top < full) return top;
  if (top + grid.rowHeight > full + viewport) return top + grid.rowHeight - viewport;
  return full;
}
