/** Rows of a tall grid, only those in sight in the document. */
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { type Layout, layout, offsetShowing, toFull, toScroll, visibleRows } from "../logic/scroll.ts";

export interface Virtual {
  box: { current: HTMLDivElement | null };
  grid: Layout;
  rows: [number, number];
  /** Where a row stands in the scrolled content, in pixels. */
  topOf: (row: number) => number;
  show: (row: number) => void;
  rowsPerScreen: number;
}

interface Seen {
  scrollTop: number;
  full: number;
}

export function useVirtual(total: number, cellWidth: number | null, rowHeight: number): Virtual {
  const box = useRef<HTMLDivElement | null>(null);
  const [size, setSize] = useState({ width: 0, height: 0 });
  const [seen, setSeen] = useState<Seen>({ scrollTop: 0, full: 0 });
  const grid = layout(total, size.width, cellWidth ?? Math.max(1, size.width), rowHeight);
  const latest = useRef({ grid, size, full: 0 });
  latest.current.grid = grid;
  latest.current.size = size;
  /** A scroll event that only follows from our own setting of scrollTop says nothing new. */
  const isOwn = useRef(false);

  const go = (full: number) => {
    const element = box.current;
    if (element === null) return;
    const { grid: now, size: seenSize } = latest.current;
    const wanted = Math.max(0, Math.min(full, now.fullHeight - seenSize.height));
    const scrollTop = toScroll(wanted, seenSize.height, now);
    latest.current.full = wanted;
    if (Math.abs(element.scrollTop - scrollTop) >= 1) {
      isOwn.current = true;
      element.scrollTop = scrollTop;
    }
    setSeen({ scrollTop: element.scrollTop, full: wanted });
  };

  useLayoutEffect(() => {
    const element = box.current;
    if (element === null) return;
    const observer = new ResizeObserver(() => setSize({ width: element.clientWidth, height: element.clientHeight }));
    observer.observe(element);
    setSize({ width: element.clientWidth, height: element.clientHeight });
    let frame = 0;
    const scrolled = () => {
      if (isOwn.current) {
        isOwn.current = false;
        return;
      }
      cancelAnimationFrame(frame);
      frame = requestAnimationFrame(() => {
        const { grid: now, size: seenSize } = latest.current;
        const full = toFull(element.scrollTop, seenSize.height, now);
        latest.current.full = full;
        setSeen({ scrollTop: element.scrollTop, full });
      });
    };
    const wheeled = (event: WheelEvent) => {
      const { grid: now } = latest.current;
      if (now.fullHeight <= now.height || event.ctrlKey || event.deltaMode !== 0) return;
      event.preventDefault();
      go(latest.current.full + event.deltaY);
    };
    element.addEventListener("scroll", scrolled, { passive: true });
    element.addEventListener("wheel", wheeled, { passive: false });
    return () => {
      observer.disconnect();
      cancelAnimationFrame(frame);
      element.removeEventListener("scroll", scrolled);
      element.removeEventListener("wheel", wheeled);
    };
  }, []);

  // The same row stays on top when the cells get another size.
  const before = useRef(grid);
  useEffect(() => {
    const old = before.current;
    before.current = grid;
    if (old.numColumns === grid.numColumns && old.rowHeight === grid.rowHeight) return;
    if (old.numRows === 0 || latest.current.full === 0) return;
    const top = Math.floor(latest.current.full / old.rowHeight) * old.numColumns;
    go(Math.floor(top / grid.numColumns) * grid.rowHeight);
  }, [grid.numColumns, grid.rowHeight]);

  return {
    box,
    grid,
    rows: visibleRows(seen.full, size.height, grid),
    topOf: (row) => seen.scrollTop + row * grid.rowHeight - seen.full,
    show: (row) => go(offsetShowing(row, latest.current.full, size.height, grid)),
    rowsPerScreen: Math.max(1, Math.floor(size.height / rowHeight) - 1),
  };
}
