/** The part of a plane that is in sight, and the way between its values and the pixels of a canvas. */

export interface Window {
  x0: number;
  x1: number;
  y0: number;
  y1: number;
}

export interface Screen {
  width: number;
  height: number;
}

export function toPixel(x: number, y: number, window: Window, screen: Screen): [number, number] {
  return [
    ((x - window.x0) / (window.x1 - window.x0)) * screen.width,
    (1 - (y - window.y0) / (window.y1 - window.y0)) * screen.height,
  ];
}

export function toValue(px: number, py: number, window: Window, screen: Screen): [number, number] {
  return [
    window.x0 + (px / screen.width) * (window.x1 - window.x0),
    window.y0 + (1 - py / screen.height) * (window.y1 - window.y0),
  ];
}

/** Nearer or farther around a place that stays where it is. */
export function zoomed(window: Window, factor: number, at: readonly [number, number]): Window {
  const [x, y] = at;
  return {
    x0: x + (window.x0 - x) * factor,
    x1: x + (window.x1 - x) * factor,
    y0: y + (window.y0 - y) * factor,
    y1: y + (window.y1 - y) * factor,
  };
}

export function shifted(window: Window, dx: number, dy: number): Window {
  return { x0: window.x0 + dx, x1: window.x1 + dx, y0: window.y0 + dy, y1: window.y1 + dy };
}

export function middle(window: Window): [number, number] {
  return [(window.x0 + window.x1) / 2, (window.y0 + window.y1) / 2];
}

/** Round numbers for an axis, some five of them. */
export function ticks(low: number, high: number, about = 5): number[] {
  const span = high - low;
  if (!(span > 0)) return [low];
  const power = 10 ** Math.floor(Math.log10(span / about));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => span / size <= about + 1) ?? power;
  const first = Math.ceil(low / step);
  const last = Math.floor(high / step + 1e-9);
  return Array.from({ length: Math.max(0, last - first + 1) }, (_, index) => (first + index) * step);
}

export function parseWindow(text: string | undefined): Window | null {
  const parts = (text ?? "").split(",").map(Number);
  const [x0, x1, y0, y1] = parts;
  if (parts.length !== 4 || parts.some((part) => !Number.isFinite(part))) return null;
  if (x0 === undefined || x1 === undefined || y0 === undefined || y1 === undefined || x1 <= x0 || y1 <= y0) return null;
  return { x0, x1, y0, y1 };
}

export function formatWindow(window: Window): string {
  return [window.x0, window.x1, window.y0, window.y1].map((value) => Number(value.toPrecision(6))).join(",");
}
