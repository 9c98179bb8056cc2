/** The state of a run, by form and word as well as by colour; its progress; a curve of 64 by 16 pixels. */
import type { JSX } from "preact";
import type { RunLine, RunState } from "../api/types.ts";
import { percent } from "../logic/format.ts";

const FORMS: Record<RunState, string> = {
  waiting: "M8 2a6 6 0 100 12A6 6 0 008 2M8 5v3l2 2",
  running: "M5 3l8 5-8 5z",
  paused: "M5 3v10M11 3v10",
  finished: "M3 8.5l3.2 3.2L13 5",
  interrupted: "M4 4h8v8H4z",
  crashed: "M4 4l8 8M12 4l-8 8",
  elsewhere: "M3 8h10M9 4l4 4-4 4",
  unreadable: "M5.5 6a2.5 2.5 0 113.5 2.3c-.7.4-1 .8-1 1.7M8 12.5v.2",
};

export function StateMark({ line, isShort = false }: { line: RunLine; isShort?: boolean }): JSX.Element {
  return (
    <span class={`state state-${line.state}`} title={line.state_detail || line.state}>
      <svg class="icon" viewBox="0 0 16 16" aria-hidden="true">
        <path d={FORMS[line.state]} />
      </svg>
      <span class={isShort ? "unseen" : ""}>{line.state}</span>
    </span>
  );
}

export function Progress({ line }: { line: RunLine }): JSX.Element | null {
  if (line.progress === null) return null;
  const told = `${percent(line.progress, 0)} of the training`;
  return (
    <span class="progress" role="img" aria-label={told} title={told}>
      <span style={{ width: `${100 * Math.min(1, Math.max(0, line.progress))}%` }} />
    </span>
  );
}

interface SparklineProps {
  values: readonly (number | null)[] | null;
  label: string;
  width?: number;
  height?: number;
  /** The range of the values, where it is known: curves beside each other then compare. */
  low?: number;
  high?: number;
}

/** The path of a curve through what is there; a gap where a value is missing. */
export function sparkPath(
  values: readonly (number | null)[],
  width: number,
  height: number,
  low?: number,
  high?: number,
): string {
  const known = values.filter((value): value is number => value !== null && Number.isFinite(value));
  if (known.length === 0) return "";
  const bottom = low ?? Math.min(...known);
  const reach = (high ?? Math.max(...known)) - bottom;
  const step = values.length > 1 ? (width - 2) / (values.length - 1) : 0;
  let path = "";
  let isDown = false;
  values.forEach((value, index) => {
    if (value === null || !Number.isFinite(value)) {
      isDown = false;
      return;
    }
    const share = reach > 0 ? (value - bottom) / reach : 0.5;
    const point = `${(1 + index * step).toFixed(1)} ${(height - 1 - share * (height - 2)).toFixed(1)}`;
    path += `${isDown ? "L" : "M"}${point}`;
    if (values.length === 1) path += "h2";
    isDown = true;
  });
  return path;
}

export function Sparkline({ values, label, width = 64, height = 16, low, high }: SparklineProps): JSX.Element {
  const path = values === null ? "" : sparkPath(values, width, height, low, high);
  if (path === "") return <span class="spark-none" style={{ width: `${width}px` }} />;
  return (
    <svg
      class="spark"
      width={width}
      height={height}
      viewBox={`0 0 ${width} ${height}`}
      aria-hidden={label === ""}
      role={label === "" ? undefined : "img"}
      aria-label={label === "" ? undefined : label}
    >
      <path d={path} />
    </svg>
  );
}
