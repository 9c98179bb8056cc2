/** Drawing of the map on a canvas: density where there are many samples, single ones by form and colour where few. */
import type { Columns } from "../api/columns.ts";
import type { MapFacts } from "../api/types.ts";
import { tick } from "../logic/format.ts";
import { type Screen, ticks, toPixel, type Window } from "../logic/plane.ts";
import { colour, seriesColour } from "./colours.ts";

export const MARGIN = { left: 46, bottom: 30, top: 20, right: 8 };

/** From low to high; told apart by people with any kind of colour vision (after cividis). */
const RAMP: [number, number, number][] = [
  [0, 68, 136],
  [74, 105, 132],
  [124, 130, 126],
  [176, 164, 104],
  [226, 200, 74],
];

export function rampColour(share: number): string {
  const place = Math.max(0, Math.min(1, share)) * (RAMP.length - 1);
  const low = RAMP[Math.floor(place)] ?? [0, 0, 0];
  const high = RAMP[Math.ceil(place)] ?? low;
  const mix = low.map((value, index) => Math.round(value + ((high[index] ?? value) - value) * (place % 1)));
  return `rgb(${mix.join(" ")})`;
}

export function mapColour(facts: MapFacts, value: number): string {
  const { color } = facts;
  if (Number.isNaN(value)) return colour("line-strong");
  if (color.kind === "category") return seriesColour(value);
  if (color.kind === "number" && color.low !== null && color.high !== null) {
    return rampColour((value - color.low) / Math.max(1e-12, color.high - color.low));
  }
  return colour("accent");
}

export function drawMap(
  context: CanvasRenderingContext2D,
  data: Columns,
  facts: MapFacts,
  window: Window,
  screen: Screen,
): void {
  const scale = devicePixelRatio;
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.clearRect(0, 0, screen.width + MARGIN.left + MARGIN.right, screen.height + MARGIN.top + MARGIN.bottom);
  drawAxes(context, facts, window, screen);
  context.save();
  context.translate(MARGIN.left, MARGIN.top);
  context.beginPath();
  context.rect(0, 0, screen.width, screen.height);
  context.clip();
  if (facts.mode === "bins") drawBins(context, data, facts, window, screen);
  else drawPoints(context, data, facts, window, screen);
  context.restore();
}

function drawAxes(context: CanvasRenderingContext2D, facts: MapFacts, window: Window, screen: Screen): void {
  context.font = "11px system-ui, sans-serif";
  context.lineWidth = 1;
  context.strokeStyle = colour("line");
  context.fillStyle = colour("ink-soft");
  for (const value of ticks(window.x0, window.x1, 6)) {
    const x = Math.round(toPixel(value, 0, window, screen)[0] + MARGIN.left) + 0.5;
    line(context, x, MARGIN.top, x, MARGIN.top + screen.height);
    context.textAlign = "center";
    context.fillText(tick(Number(value.toPrecision(6))), x, screen.height + MARGIN.top + 14);
  }
  for (const value of ticks(window.y0, window.y1, 6)) {
    const y = Math.round(toPixel(0, value, window, screen)[1] + MARGIN.top) + 0.5;
    line(context, MARGIN.left, y, MARGIN.left + screen.width, y);
    context.textAlign = "right";
    context.fillText(tick(Number(value.toPrecision(6))), MARGIN.left - 6, y + 4);
  }
  context.textAlign = "right";
  context.fillText(facts.x.name, MARGIN.left + screen.width, screen.height + MARGIN.top + 27);
  context.textAlign = "left";
  context.fillText(facts.y.name, MARGIN.left, MARGIN.top - 7);
}

function line(context: CanvasRenderingContext2D, x0: number, y0: number, x1: number, y1: number): void {
  context.beginPath();
  context.moveTo(x0, y0);
  context.lineTo(x1, y1);
  context.stroke();
}

function drawBins(
  context: CanvasRenderingContext2D,
  data: Columns,
  facts: MapFacts,
  window: Window,
  screen: Screen,
): void {
  const { count: counts, color: values } = data.columns;
  if (counts === undefined) return;
  const { width, height } = facts;
  let most = 1;
  for (const num of counts) if (num > most) most = num;
  const [left, bottom] = toPixel(facts.x.low, facts.y.low, window, screen);
  const [right, top] = toPixel(facts.x.high, facts.y.high, window, screen);
  const [wide, tall] = [(right - left) / width, (bottom - top) / height];
  for (let row = 0; row < height; row += 1) {
    for (let column = 0; column < width; column += 1) {
      const index = row * width + column;
      const num = counts[index] ?? 0;
      if (num === 0) continue;
      context.globalAlpha = 0.36 + (0.64 * Math.log1p(num)) / Math.log1p(most);
      context.fillStyle = mapColour(facts, values?.[index] ?? Number.NaN);
      context.fillRect(left + column * wide, bottom - (row + 1) * tall, Math.ceil(wide), Math.ceil(tall));
    }
  }
  context.globalAlpha = 1;
}

function drawPoints(
  context: CanvasRenderingContext2D,
  data: Columns,
  facts: MapFacts,
  window: Window,
  screen: Screen,
): void {
  const { x: xs, y: ys, color: values } = data.columns;
  if (xs === undefined || ys === undefined) return;
  const size = xs.length > 3000 ? 2.2 : 3.2;
  context.globalAlpha = xs.length > 3000 ? 0.65 : 0.8;
  // The rare kinds last, so that the frequent ones do not cover them.
  const order = [...Array(xs.length).keys()];
  if (facts.color.kind === "category" && values !== undefined) {
    const num = new Map<number, number>();
    for (const value of values) num.set(value, (num.get(value) ?? 0) + 1);
    order.sort((a, b) => (num.get(values[b] ?? 0) ?? 0) - (num.get(values[a] ?? 0) ?? 0));
  }
  for (const index of order) {
    const value = values?.[index] ?? Number.NaN;
    const [x, y] = toPixel(xs[index] ?? 0, ys[index] ?? 0, window, screen);
    context.fillStyle = mapColour(facts, value);
    context.strokeStyle = context.fillStyle;
    drawForm(context, facts.color.kind === "category" ? value : 0, x, y, size);
  }
  context.globalAlpha = 1;
}

/** Forms that tell categories apart without colour: dot, cross, square, triangle, ring, bar, diamond, plus. */
export function drawForm(context: CanvasRenderingContext2D, kind: number, x: number, y: number, size: number): void {
  context.lineWidth = size / 2;
  context.beginPath();
  switch (kind % 8) {
    case 1:
      context.moveTo(x - size, y - size);
      context.lineTo(x + size, y + size);
      context.moveTo(x + size, y - size);
      context.lineTo(x - size, y + size);
      context.stroke();
      return;
    case 2:
      context.rect(x - size * 0.8, y - size * 0.8, size * 1.6, size * 1.6);
      context.fill();
      return;
    case 3:
      context.moveTo(x, y - size);
      context.lineTo(x + size, y + size * 0.8);
      context.lineTo(x - size, y + size * 0.8);
      context.fill();
      return;
    case 4:
      context.arc(x, y, size * 0.9, 0, 2 * Math.PI);
      context.stroke();
      return;
    case 5:
      context.rect(x - size, y - size / 3, size * 2, size / 1.5);
      context.fill();
      return;
    case 6:
      context.moveTo(x, y - size);
      context.lineTo(x + size, y);
      context.lineTo(x, y + size);
      context.lineTo(x - size, y);
      context.fill();
      return;
    case 7:
      context.moveTo(x, y - size);
      context.lineTo(x, y + size);
      context.moveTo(x - size, y);
      context.lineTo(x + size, y);
      context.stroke();
      return;
    default:
      context.arc(x, y, size * 0.8, 0, 2 * Math.PI);
      context.fill();
  }
}
