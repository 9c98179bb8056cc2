/** Curves as plots need them: on one x, grouped by what they measure, with a summary in words. */
import type { Series } from "../api/types.ts";
import { number } from "./format.ts";

export interface Line {
  name: string;
  x: readonly number[];
  y: readonly (number | null)[];
}

/** One ascending x for all lines, and the values of each there; null where a line has none. */
export function joined(lines: readonly Line[]): { x: number[]; y: (number | null)[][] } {
  const all = new Set<number>();
  for (const line of lines) for (const x of line.x) all.add(x);
  const x = [...all].sort((a, b) => a - b);
  const place = new Map(x.map((value, index) => [value, index]));
  const y = lines.map((line) => {
    const values: (number | null)[] = new Array(x.length).fill(null);
    line.x.forEach((value, index) => {
      values[place.get(value) as number] = line.y[index] ?? null;
    });
    return values;
  });
  return { x, y };
}

const PHASES = ["train", "val", "test"];

/** Names that measure the same share a plot: `train/loss` and `val/loss`. Loss, accuracy and what is monitored come first. */
export function grouped(names: readonly string[], monitored: string | null): { title: string; names: string[] }[] {
  const groups = new Map<string, string[]>();
  for (const name of names) {
    const slash = name.indexOf("/");
    const title = slash > 0 ? name.slice(slash + 1) : name;
    groups.set(title, [...(groups.get(title) ?? []), name]);
  }
  const rank = (title: string) => {
    const first = ["loss", "accuracy"].indexOf(title);
    if (first >= 0) return first;
    const members = groups.get(title) ?? [];
    if (monitored !== null && members.includes(monitored)) return 2;
    return members.some((name) => name.includes("/")) ? 3 : 4;
  };
  const phase = (name: string) => (PHASES.indexOf(name.split("/")[0] ?? "") + PHASES.length + 1) % (PHASES.length + 1);
  return [...groups]
    .map(([title, members]) => ({ title, names: members.sort((a, b) => phase(a) - phase(b) || a.localeCompare(b)) }))
    .sort((a, b) => rank(a.title) - rank(b.title) || a.title.localeCompare(b.title));
}

/** What a curve does, in a sentence. */
export function summary(name: string, series: Line): string {
  const known = series.y
    .map((y, index) => ({ x: series.x[index] as number, y }))
    .filter((point): point is { x: number; y: number } => point.y !== null && Number.isFinite(point.y));
  const first = known[0];
  const last = known[known.length - 1];
  if (first === undefined || last === undefined) return `${name}: no values yet.`;
  let low = first;
  let high = first;
  for (const point of known) {
    if (point.y < low.y) low = point;
    if (point.y > high.y) high = point;
  }
  const range = `lowest ${number(low.y)} at ${number(low.x)}, highest ${number(high.y)} at ${number(high.x)}`;
  return `${name}: from ${number(first.y)} to ${number(last.y)}; ${range}.`;
}

/** The training step that belongs to a place on x, by the nearest point of a curve. */
export function stepAt(x: number, series: readonly Series[]): number {
  let best = 0;
  let distance = Number.POSITIVE_INFINITY;
  for (const one of series) {
    one.x.forEach((value, index) => {
      const gap = Math.abs(value - x);
      if (gap < distance) {
        distance = gap;
        best = one.step[index] ?? 0;
      }
    });
  }
  return best;
}

/** What is in a table beside a plot: at most `most` lines, evenly taken, the last one always. */
export function tabled(x: readonly number[], most: number): number[] {
  if (x.length <= most) return x.map((_, index) => index);
  return Array.from({ length: most }, (_, index) => Math.round((index * (x.length - 1)) / (most - 1)));
}
