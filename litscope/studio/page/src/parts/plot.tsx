/** A plot of curves (uPlot), with a summary in words and a table for those who do not see it. */
import type { JSX } from "preact";
import { useEffect, useId, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { number, tick } from "../logic/format.ts";
import { joined, type Line, summary, tabled } from "../logic/series.ts";
import { colour, DASHES, isDark, seriesColour } from "./colours.ts";

/** How far from the pointer a mark is still under it, in pixels. */
const NEAR = 5;

export interface PlotMark {
  x: number;
  text: string;
  isRefused: boolean;
}

export interface PlotLine extends Line {
  /** Which colour and dash. */
  style: number;
  /** Drawn faintly behind: the values themselves, where the line is smoothed. */
  isFaint?: boolean;
}

interface PlotProps {
  title: string;
  lines: PlotLine[];
  xLabel: string;
  height?: number;
  isLog?: boolean;
  marks?: PlotMark[];
  /** From here on the values are affected by edits of evaluation samples. */
  editsFrom?: number | null;
  /** Plots of one name move their cursors together. */
  sync?: string;
  yRange?: [number, number];
  /** A range of x was marked with the pointer, or given up. */
  brushed?: (range: [number, number] | null) => void;
}

export function Plot(props: PlotProps): JSX.Element {
  const { title, lines, xLabel, height = 220, isLog = false, sync, marks = [] } = props;
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const latest = useRef(props);
  latest.current = props;
  const heading = useId();
  const [hovered, setHovered] = useState<number | null>(null);
  const [near, setNear] = useState<string | null>(null);
  const form = `${lines.map((line) => `${line.name}:${line.style}:${line.isFaint}`).join("|")}|${isLog}|${isDark.value}|${xLabel}|${height}`;
  const data = joined(lines);

  useEffect(() => {
    const element = box.current;
    if (element === null) return;
    const made = new uPlot(
      options(latest, element.clientWidth, height, isLog, sync, setHovered, setNear),
      [data.x, ...data.y] as uPlot.AlignedData,
      element,
    );
    plot.current = made;
    const observer = new ResizeObserver(() => made.setSize({ width: element.clientWidth, height }));
    observer.observe(element);
    return () => {
      observer.disconnect();
      made.destroy();
      plot.current = null;
    };
  }, [form]);

  useEffect(() => {
    plot.current?.setData([data.x, ...data.y] as uPlot.AlignedData);
  });

  const shown = lines.filter((line) => !line.isFaint);
  const words = shown.map((line) => summary(line.name, line)).join(" ");
  return (
    <figure class="plot" aria-labelledby={heading}>
      <figcaption>
        <h2 class="minor" id={heading}>
          {title}
        </h2>
        <ul class="plot-legend">
          {shown.map((line) => {
            const index = lines.indexOf(line);
            const value = hovered === null ? lastOf(line.y) : (data.y[index]?.[hovered] ?? null);
            return (
              <li key={line.name}>
                <LineKey style={line.style} />
                <span>{line.name}</span> <b>{number(value)}</b>
              </li>
            );
          })}
          {hovered !== null && (
            <li class="quiet">
              {xLabel} {number(data.x[hovered])}
            </li>
          )}
          {near !== null && <li class="plot-mark clip">▼ {near}</li>}
        </ul>
      </figcaption>
      <div ref={box} class="plot-box" style={{ minHeight: `${height}px` }} role="img" aria-label={words} />
      <details class="plot-table">
        <summary>Table</summary>
        <p>{words}</p>
        {marks.length > 0 && <p>{`Marks: ${marks.map((mark) => `${mark.text} at ${number(mark.x)}`).join("; ")}.`}</p>}
        <PlotTable
          xLabel={xLabel}
          lines={shown}
          x={data.x}
          y={shown.map((line) => data.y[lines.indexOf(line)] ?? [])}
        />
      </details>
    </figure>
  );
}

function lastOf(values: readonly (number | null)[]): number | null {
  for (let index = values.length - 1; index >= 0; index -= 1) {
    const value = values[index];
    if (value !== null && value !== undefined) return value;
  }
  return null;
}

export function LineKey({ style }: { style: number }): JSX.Element {
  return (
    <svg class="line-key" width="18" height="8" viewBox="0 0 18 8" aria-hidden="true">
      <path d="M0 4h18" class={`stroke-${style % 8}`} stroke-dasharray={DASHES[style % 8]?.join(" ") || undefined} />
    </svg>
  );
}

interface TableProps {
  xLabel: string;
  lines: PlotLine[];
  x: number[];
  y: (number | null)[][];
}

function PlotTable({ xLabel, lines, x, y }: TableProps): JSX.Element {
  return (
    <div class="scroll-x table-box" tabIndex={0} role="region" aria-label="Values">
      <table>
        <thead>
          <tr>
            <th class="num">{xLabel}</th>
            {lines.map((line) => (
              <th key={line.name} class="num">
                {line.name}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {tabled(x, 60).map((index) => (
            <tr key={index}>
              <td class="num">{number(x[index])}</td>
              {y.map((values, line) => (
                <td key={lines[line]?.name} class="num">
                  {number(values[index])}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function options(
  latest: { current: PlotProps },
  width: number,
  height: number,
  isLog: boolean,
  sync: string | undefined,
  hovered: (index: number | null) => void,
  near: (text: string | null) => void,
): uPlot.Options {
  const { lines, yRange, brushed } = latest.current;
  const ink = colour("ink-soft");
  const axis: uPlot.Axis = {
    stroke: ink,
    font: "11px system-ui, sans-serif",
    grid: { stroke: colour("line"), width: 1 },
    ticks: { stroke: colour("line"), width: 1, size: 4 },
  };
  return {
    width,
    height,
    legend: { show: false },
    padding: [10, 12, 0, 0],
    cursor: {
      ...(sync === undefined ? {} : { sync: { key: sync, setSeries: false, scales: ["x", null] } }),
      drag: { x: brushed !== undefined, y: false, setScale: false, dist: 4 },
      points: { size: 6 },
      y: false,
    },
    scales: {
      x: { time: false },
      y: isLog ? { distr: 3 } : yRange ? { range: yRange } : {},
    },
    axes: [
      { ...axis, size: 28, values: (_, splits) => splits.map((value) => tick(value)) },
      { ...axis, size: 56, values: (_, splits) => splits.map((value) => (value === null ? "" : tick(value))) },
    ],
    series: [
      {},
      ...lines.map(
        (line): uPlot.Series => ({
          label: line.name,
          stroke: seriesColour(line.style),
          width: line.isFaint ? 1 : 1.75,
          alpha: line.isFaint ? 0.25 : 1,
          dash: DASHES[line.style % 8] ?? [],
          spanGaps: true,
          points: { show: !line.isFaint && line.x.length < 40, size: 5 },
        }),
      ),
    ],
    hooks: {
      draw: [(made) => drawMarks(made, latest.current)],
      setCursor: [
        (made) => {
          hovered(made.cursor.idx ?? null);
          near(marksNear(made, latest.current.marks ?? []));
        },
      ],
      setSelect: [
        (made) => {
          const { left, width: wide } = made.select;
          if (wide < 4) latest.current.brushed?.(null);
          else latest.current.brushed?.([made.posToVal(left, "x"), made.posToVal(left + wide, "x")]);
        },
      ],
    },
  };
}

/** What the marks under the pointer say. */
function marksNear(made: uPlot, marks: readonly PlotMark[]): string | null {
  const left = made.cursor.left ?? -1;
  if (left < 0) return null;
  const found = marks.filter((mark) => Math.abs(made.valToPos(mark.x, "x") - left) <= NEAR);
  return found.length === 0 ? null : found.map((mark) => mark.text).join("; ");
}

function drawMarks(made: uPlot, { marks = [], editsFrom = null }: PlotProps): void {
  const { ctx, bbox } = made;
  ctx.save();
  if (editsFrom !== null) {
    const left = Math.max(bbox.left, made.valToPos(editsFrom, "x", true));
    ctx.fillStyle = colour("warn-wash");
    ctx.fillRect(left, bbox.top, bbox.left + bbox.width - left, bbox.height);
  }
  const scale = devicePixelRatio;
  for (const mark of marks) {
    const x = Math.round(made.valToPos(mark.x, "x", true));
    if (x < bbox.left || x > bbox.left + bbox.width) continue;
    ctx.strokeStyle = colour("accent");
    ctx.fillStyle = colour("accent");
    ctx.globalAlpha = 0.8;
    ctx.lineWidth = scale;
    ctx.setLineDash(mark.isRefused ? [2 * scale, 3 * scale] : []);
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
    ctx.beginPath();
    ctx.moveTo(x - 4 * scale, bbox.top - 6 * scale);
    ctx.lineTo(x + 4 * scale, bbox.top - 6 * scale);
    ctx.lineTo(x, bbox.top);
    ctx.closePath();
    if (mark.isRefused) ctx.stroke();
    else ctx.fill();
  }
  ctx.restore();
}
