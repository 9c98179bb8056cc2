/** The grid of samples: an ARIA grid over a million positions, by pointer and by keys. */
import type { Signal } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import type { Column, RunDetail } from "../api/types.ts";
import { useKeys } from "../state/keys.ts";
import { clicked, inRectangle, merged, moved, type Selection, toggled } from "../state/selecting.ts";
import type { SampleWindows } from "../state/windows.ts";
import { described, PictureCell, TableCell } from "./cells.tsx";
import { useVirtual } from "./virtual.ts";

const CAPTION = 40;
const GAP = 8;
const LINE = 34;
const WIDTHS: Record<string, string> = {
  picture: "46px",
  history: "72px",
  key: "minmax(150px, 2fr)",
  split: "44px",
  current_name: "minmax(120px, 1.4fr)",
  tags: "110px",
};
/** The least that a column of a table takes on average; a narrower grid scrolls sideways. */
const COLUMN = 96;

export type TableColumn = Column | "picture" | "history";

interface GridProps {
  known: RunDetail;
  windows: SampleWindows;
  /** Pictures of this size, or these columns of a table. */
  size: number;
  columns: TableColumn[] | null;
  /** The value under a picture. */
  shown: string;
  sort: string;
  sortBy: (column: string) => void;
  selection: Signal<Selection>;
  /** The keyboard went to another position, or a sample is to be opened. */
  focused: (position: number) => void;
  open: (position: number) => void;
}

export function Grid(props: GridProps): JSX.Element {
  const { known, windows, size, columns, shown, selection, open } = props;
  const total = windows.head.value?.total ?? 0;
  const isTable = columns !== null;
  const virtual = useVirtual(total, isTable ? null : size + GAP + 4, isTable ? LINE : size + CAPTION + GAP + 4);
  const { grid, rows, box } = virtual;
  const { numColumns } = grid;
  // Every window that arrives is a reason to draw.
  void windows.arrived.value;
  useEffect(
    () => windows.want(rows[0] * numColumns, Math.min(total, rows[1] * numColumns)),
    [windows, rows[0], rows[1], numColumns, total],
  );

  const drag = useDrag(box, virtual, size, isTable, total, selection);
  const move = (by: number, isGrowing: boolean) => {
    const position = Math.max(0, Math.min(total - 1, selection.value.focus + by));
    if (total === 0) return;
    selection.value = moved(selection.value, position, isGrowing);
    virtual.show(Math.floor(position / numColumns));
    props.focused(position);
  };
  const arrows: [string, string, number, string][] = [
    ["arrowright", "→", 1, "next"],
    ["arrowleft", "←", -1, "previous"],
    ["arrowdown", "↓", numColumns, "down"],
    ["arrowup", "↑", -numColumns, "up"],
    ["pagedown", "Page ↓", numColumns * virtual.rowsPerScreen, "a screen down"],
    ["pageup", "Page ↑", -numColumns * virtual.rowsPerScreen, "a screen up"],
    ["home", "Home", -total, "the first"],
    ["end", "End", total, "the last"],
  ];
  useKeys("Grid", [
    ...arrows.map(([name, key, by, meaning]) => ({
      keys: [name, `shift+${name}`],
      shown: key,
      meaning: `${meaning}${key === "→" ? " (with Shift: select)" : ""}`,
      run: (event: KeyboardEvent) => move(by, event.shiftKey),
    })),
    { keys: [" "], shown: "Space", meaning: "select, or not", run: () => (selection.value = toggled(selection.value)) },
    { keys: ["enter"], shown: "Enter", meaning: "open the sample", run: () => open(selection.value.focus) },
  ]);

  const cells = (row: number) => {
    const first = row * numColumns;
    return Array.from({ length: Math.min(numColumns, total - first) }, (_, index) => first + index);
  };
  const pressed = (event: MouseEvent, position: number) => {
    if (drag.wasDragged()) return;
    selection.value = clicked(selection.value, position, event.ctrlKey || event.metaKey, event.shiftKey);
    props.focused(position);
  };
  const template = (columns ?? [])
    .map((column) => WIDTHS[typeof column === "string" ? column : column.name] ?? "minmax(80px, 1fr)")
    .join(" ");
  const numHead = isTable ? 1 : 0;

  return (
    <div
      ref={box}
      class={isTable ? "grid grid-table" : "grid"}
      role="grid"
      tabIndex={0}
      aria-label="Samples"
      aria-multiselectable="true"
      aria-rowcount={grid.numRows + numHead}
      aria-colcount={isTable ? columns.length : numColumns}
      aria-activedescendant={total > 0 ? `sample-at-${selection.value.focus}` : undefined}
      onPointerDown={drag.down}
    >
      {isTable && <TableHead {...props} columns={columns} template={template} />}
      <div
        class="grid-space"
        role="presentation"
        style={{ height: `${grid.height}px`, minWidth: isTable ? `${columns.length * COLUMN}px` : undefined }}
      >
        {Array.from({ length: rows[1] - rows[0] }, (_, index) => rows[0] + index).map((row) => (
          <div
            key={row}
            class="grid-row"
            role="row"
            aria-rowindex={row + 1 + numHead}
            aria-selected={isTable ? selection.value.ranges.has(row) : undefined}
            style={{
              transform: `translateY(${virtual.topOf(row)}px)`,
              height: `${grid.rowHeight}px`,
              gridTemplateColumns: template,
            }}
          >
            {cells(row).map((position) => (
              <Cell
                key={position}
                position={position}
                index={position % numColumns}
                known={known}
                windows={windows}
                size={size}
                shown={shown}
                columns={columns}
                isSelected={selection.value.ranges.has(position)}
                isFocused={selection.value.focus === position}
                press={pressed}
                open={open}
              />
            ))}
          </div>
        ))}
        {drag.rectangle !== null && <div class="marquee" style={drag.rectangle} />}
      </div>
    </div>
  );
}

interface CellProps {
  position: number;
  index: number;
  known: RunDetail;
  windows: SampleWindows;
  size: number;
  shown: string;
  columns: TableColumn[] | null;
  isSelected: boolean;
  isFocused: boolean;
  press: (event: MouseEvent, position: number) => void;
  open: (position: number) => void;
}

function Cell(props: CellProps): JSX.Element {
  const { position, index, known, windows, size, shown, columns, isSelected, isFocused, press, open } = props;
  const row = windows.row(position);
  const mark = `${isSelected ? " is-selected" : ""}${isFocused ? " is-focused" : ""}${row?.is_discarded ? " is-discarded" : ""}`;
  const run = known.line.id;
  if (columns === null) {
    return (
      <div
        id={`sample-at-${position}`}
        class={`cell${mark}`}
        role="gridcell"
        aria-colindex={index + 1}
        aria-selected={isSelected}
        title={row ? described(row) : undefined}
        style={{ width: `${size + 4}px` }}
        onClick={(event) => press(event, position)}
        onDblClick={() => open(position)}
      >
        {row ? (
          <>
            <span class="unseen">{described(row)}</span>
            <PictureCell run={run} row={row} size={size} shown={shown} />
          </>
        ) : (
          <span class="skeleton" style={{ width: `${size}px`, height: `${size}px` }} />
        )}
      </div>
    );
  }
  return (
    <>
      {columns.map((column, place) => {
        const name = typeof column === "string" ? column : column.name;
        const isNumber = typeof column !== "string" && (column.kind === "number" || column.kind === "integer");
        return (
          <div
            key={name}
            id={place === 0 ? `sample-at-${position}` : undefined}
            class={`line-cell${mark}${isNumber ? " num" : ""}`}
            role="gridcell"
            aria-colindex={place + 1}
            aria-selected={isSelected}
            onClick={(event) => press(event, position)}
            onDblClick={() => open(position)}
          >
            {row ? <TableCell run={run} row={row} column={column} /> : <span class="skeleton skeleton-line" />}
            {place === 0 && row && <span class="unseen">{described(row)}</span>}
          </div>
        );
      })}
    </>
  );
}

function TableHead(props: GridProps & { columns: TableColumn[]; template: string }): JSX.Element {
  const { columns, template, sort, sortBy } = props;
  return (
    <div
      class="grid-head"
      role="row"
      aria-rowindex={1}
      style={{ gridTemplateColumns: template, minWidth: `${columns.length * COLUMN}px` }}
    >
      {columns.map((column, index) => {
        const name = typeof column === "string" ? column : column.name;
        const title = typeof column === "string" ? column : column.title;
        const isUp = sort.split(",")[0] === name;
        const isDown = sort.split(",")[0] === `-${name}`;
        const isNumber = typeof column !== "string" && (column.kind === "number" || column.kind === "integer");
        return (
          <div
            key={name}
            role="columnheader"
            aria-colindex={index + 1}
            aria-sort={isUp ? "ascending" : isDown ? "descending" : "none"}
            class={isNumber ? "num" : ""}
          >
            {typeof column === "string" || !column.is_sortable ? (
              <span>{title}</span>
            ) : (
              <button
                type="button"
                class="bare"
                title={column.meaning}
                onClick={() => sortBy(isDown ? name : `-${name}`)}
              >
                {title} {isUp ? "↑" : isDown ? "↓" : ""}
              </button>
            )}
          </div>
        );
      })}
    </div>
  );
}

interface Drag {
  down: (event: PointerEvent) => void;
  rectangle: Record<string, string> | null;
  wasDragged: () => boolean;
}

/** A rectangle drawn with the pointer selects what it touches; with Ctrl in addition to what is selected. */
function useDrag(
  box: { current: HTMLDivElement | null },
  virtual: ReturnType<typeof useVirtual>,
  size: number,
  isTable: boolean,
  total: number,
  selection: Signal<Selection>,
): Drag {
  const [rectangle, setRectangle] = useState<Record<string, string> | null>(null);
  const latest = useRef(virtual);
  latest.current = virtual;
  const dragged = useRef(false);
  const down = (event: PointerEvent) => {
    dragged.current = false;
    const element = box.current;
    if (event.button !== 0 || event.pointerType === "touch" || event.shiftKey || element === null) return;
    if (event.target instanceof HTMLElement && event.target.closest("button")) return;
    const bounds = element.getBoundingClientRect();
    if (event.clientX > bounds.left + element.clientWidth) return;
    const before = event.ctrlKey || event.metaKey ? selection.value.ranges : null;
    const place = (one: PointerEvent) => ({
      x: one.clientX - bounds.left,
      y: one.clientY - bounds.top + element.scrollTop - (isTable ? LINE : 0),
    });
    const start = place(event);
    const move = (one: PointerEvent) => {
      const end = place(one);
      if (!dragged.current && Math.hypot(end.x - start.x, end.y - start.y) < 6) return;
      dragged.current = true;
      const [left, right] = [Math.min(start.x, end.x), Math.max(start.x, end.x)];
      const [top, bottom] = [Math.min(start.y, end.y), Math.max(start.y, end.y)];
      setRectangle({ left: `${left}px`, top: `${top}px`, width: `${right - left}px`, height: `${bottom - top}px` });
      const { grid, topOf } = latest.current;
      const row = (y: number) => Math.max(0, Math.min(grid.numRows - 1, Math.floor((y - topOf(0)) / grid.rowHeight)));
      const width = isTable ? Number.POSITIVE_INFINITY : size + GAP + 4;
      const touched = inRectangle(
        [row(top), row(bottom)],
        [Math.floor(left / width), Math.floor(right / width)],
        grid.numColumns,
        total,
      );
      selection.value = { ...selection.value, ranges: before === null ? touched : merged(before, touched) };
    };
    const up = () => {
      removeEventListener("pointermove", move);
      removeEventListener("pointerup", up);
      removeEventListener("pointercancel", up);
      setRectangle(null);
    };
    addEventListener("pointermove", move);
    addEventListener("pointerup", up);
    addEventListener("pointercancel", up);
  };
  return { down, rectangle, wasDragged: () => dragged.current };
}
