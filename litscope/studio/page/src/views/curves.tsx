/** The open run: its curves, with what people did to it marked on them, and the journal. */
import { useSignal } from "@preact/signals";
import type { JSX } from "preact";
import { ask, runPath } from "../api/http.ts";
import type { Curves, RunDetail } from "../api/types.ts";
import { ofSteps } from "../logic/filters.ts";
import { number } from "../logic/format.ts";
import { grouped, stepAt } from "../logic/series.ts";
import { smoothed } from "../logic/smooth.ts";
import { Plot, type PlotLine } from "../parts/plot.tsx";
import { Empty, Note, Skeleton, Trouble } from "../parts/states.tsx";
import { useAsked } from "../state/asking.ts";
import { openSamples, route, setParams } from "../state/navigation.ts";
import { metricsNews } from "../state/store.ts";
import { JournalPanel } from "./journal.tsx";

const X_NAMES = { step: "step", epoch: "epoch", time: "seconds" } as const;
type X = keyof typeof X_NAMES;

/** Phases have a fixed colour and dash everywhere. */
const STYLES: Record<string, number> = { train: 0, val: 1, test: 2 };

export function CurvesView({ run, known }: { run: string; known: RunDetail }): JSX.Element {
  const { params } = route.value;
  const x: X = params.x === "epoch" || params.x === "time" ? params.x : "step";
  const weight = Math.min(0.99, Math.max(0, Number(params.smooth ?? 0) || 0));
  const isLog = params.log === "1";
  const brushed = useSignal<[number, number] | null>(null);
  const { value: curves, problem } = useAsked(
    `${run} ${x}`,
    (signal) => ask<Curves>(runPath(run, "/curves"), { x, max_points: 2000 }, signal),
    metricsNews.value,
  );
  return (
    <div class="view run-view">
      <div class="run-plots">
        {known.edited_evaluation.warning !== null && <Note kind="warning">{known.edited_evaluation.warning}</Note>}
        {known.notes.map((note) => (
          <Note key={note}>{note}</Note>
        ))}
        <div class="tools" role="group" aria-label="How the curves are drawn">
          <label>
            x
            <select value={x} onChange={(event) => setParams({ x: event.currentTarget.value })}>
              <option value="step">step</option>
              <option value="epoch">epoch</option>
              <option value="time">wall time</option>
            </select>
          </label>
          <label>
            smoothing
            <input
              type="range"
              min="0"
              max="0.98"
              step="0.02"
              value={weight}
              onInput={(event) =>
                setParams({ smooth: event.currentTarget.value === "0" ? "" : event.currentTarget.value })
              }
            />
            <output>{weight.toFixed(2)}</output>
          </label>
          <label>
            <input
              type="checkbox"
              checked={isLog}
              onChange={(event) => setParams({ log: event.currentTarget.checked ? "1" : "" })}
            />
            log scale
          </label>
          <StepRange />
        </div>
        {problem && curves === null && <Trouble problem={problem} />}
        {curves === null && problem === null && <Skeleton lines={8} height={40} />}
        {curves !== null && Object.keys(curves.series).length === 0 && (
          <Empty title="No curves yet">
            <p>They appear when the first steps are done.</p>
          </Empty>
        )}
        {curves !== null && (
          <div class="plots">
            {grouped(Object.keys(curves.series), known.line.metric).map((group) => (
              <Plot
                key={group.title}
                title={group.title}
                lines={linesOf(curves, group.names, weight)}
                xLabel={X_NAMES[x]}
                isLog={isLog && group.names.every((name) => isPositive(curves, name))}
                sync={run}
                marks={curves.marks
                  .filter((mark) => mark.x !== null)
                  .map((mark) => ({ x: mark.x, text: mark.text, isRefused: mark.status === "refused" }))}
                editsFrom={
                  group.names.some((name) => !name.startsWith("train/")) ? (curves.edits_from_x[0] ?? null) : null
                }
                brushed={(range) => (brushed.value = range)}
              />
            ))}
          </div>
        )}
        {brushed.value !== null && curves !== null && (
          <Brushed range={brushed.value} curves={curves} x={x} close={() => (brushed.value = null)} />
        )}
      </div>
      <JournalPanel run={run} known={known} />
    </div>
  );
}

function isPositive(curves: Curves, name: string): boolean {
  return (curves.series[name]?.y ?? []).every((value) => value === null || value > 0);
}

function linesOf(curves: Curves, names: string[], weight: number): PlotLine[] {
  return names.flatMap((name, index) => {
    const series = curves.series[name];
    if (series === undefined) return [];
    const style = STYLES[name.split("/")[0] ?? ""] ?? (names.length === 1 ? 0 : index);
    const line: PlotLine = { name, x: series.x, y: series.y, style };
    if (weight === 0 || series.x.length < 40) return [line];
    return [
      { ...line, y: smoothed(series.y, weight) },
      { ...line, isFaint: true },
    ];
  });
}

function Brushed(props: { range: [number, number]; curves: Curves; x: X; close: () => void }): JSX.Element {
  const { range, curves, x, close } = props;
  const series = Object.values(curves.series);
  const [first, last] = x === "step" ? range : [stepAt(range[0], series), stepAt(range[1], series)];
  const open = () => {
    const { filter, sort } = ofSteps(first, last);
    openSamples(filter, sort);
  };
  return (
    <div class="floating" role="status">
      <span>
        steps {number(Math.floor(first))} to {number(Math.ceil(last))}
      </span>
      <button type="button" class="primary" onClick={open}>
        Open their samples
      </button>
      <button type="button" onClick={close}>
        Close
      </button>
    </div>
  );
}

/** The same as brushing, for those who have no pointer. */
function StepRange(): JSX.Element {
  const first = useSignal("");
  const last = useSignal("");
  return (
    <form
      class="inline"
      onSubmit={(event) => {
        event.preventDefault();
        if (first.value === "" || last.value === "") return;
        const { filter, sort } = ofSteps(Number(first.value), Number(last.value));
        openSamples(filter, sort);
      }}
    >
      <span>samples of steps</span>
      <input
        type="number"
        min="0"
        class="narrow"
        aria-label="first step"
        value={first.value}
        onInput={(event) => (first.value = event.currentTarget.value)}
      />
      <span>to</span>
      <input
        type="number"
        min="0"
        class="narrow"
        aria-label="last step"
        value={last.value}
        onInput={(event) => (last.value = event.currentTarget.value)}
      />
      <button type="submit">Open</button>
    </form>
  );
}
