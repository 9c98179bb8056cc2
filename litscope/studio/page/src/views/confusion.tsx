/** The confusion matrix; each cell opens its samples. */
import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { ask, runPath } from "../api/http.ts";
import type { Confusion } from "../api/types.ts";
import { count, counted, number, percent } from "../logic/format.ts";
import { openCell, SplitTools, splitOf, type ViewProps, Waiting } from "../parts/splits.tsx";
import { Empty } from "../parts/states.tsx";
import { useAsked } from "../state/asking.ts";
import { route, setParams } from "../state/navigation.ts";
import { samplesNews } from "../state/store.ts";

/** With more, a matrix cannot be read. */
/** So few classes have wide cells, and room for their names. */
const WIDE = 12;
const MOST_CLASSES = 40;

export function ConfusionView({ run, known }: ViewProps): JSX.Element {
  const split = splitOf(known);
  const asked = useAsked(
    `${run} ${split}`,
    (signal) => ask<Confusion>(runPath(run, "/confusion"), { split }, signal),
    samplesNews.value,
  );
  const isCounts = route.value.params.as !== "share";
  const { value } = asked;
  return (
    <div class="view">
      <SplitTools known={known}>
        <label>
          cells
          <select
            value={isCounts ? "count" : "share"}
            onChange={(event) => setParams({ as: event.currentTarget.value })}
          >
            <option value="count">samples</option>
            <option value="share">share of the label</option>
          </select>
        </label>
        {value !== null && (
          <span class="quiet">
            {counted(value.num_samples, "sample")}, accuracy {number(value.accuracy)}
          </span>
        )}
      </SplitTools>
      {value === null ? <Waiting asked={asked} /> : <ConfusionBody confusion={value} isCounts={isCounts} />}
    </div>
  );
}

function ConfusionBody({ confusion, isCounts }: { confusion: Confusion; isCounts: boolean }): JSX.Element {
  const { split, classes, cells } = confusion;
  if (confusion.num_samples === 0) {
    return (
      <Empty title={`No predictions of ${split} yet`}>
        <p>They are there after the first epoch in which it was evaluated.</p>
      </Empty>
    );
  }
  const name = (label: number) => classes[label] ?? String(label);
  const mistakes = cells.filter(([label, pred]) => label !== pred).sort((a, b) => b[2] - a[2]);
  return (
    <div class="confusion">
      {classes.length <= MOST_CLASSES ? (
        <Matrix confusion={confusion} isCounts={isCounts} />
      ) : (
        <p class="quiet">
          With {count(classes.length)} classes a matrix cannot be read; these are the most frequent mistakes.
        </p>
      )}
      <section>
        <h2>Most confused</h2>
        {mistakes.length === 0 && <p>No mistakes in {split}.</p>}
        <ol class="mistakes">
          {mistakes.slice(0, classes.length <= MOST_CLASSES ? 12 : 60).map(([label, pred, num]) => (
            <li key={`${label} ${pred}`}>
              <button type="button" class="link" onClick={() => openCell(split, name(label), name(pred))}>
                {name(label)} taken for {name(pred)}
              </button>{" "}
              {count(num)}
            </li>
          ))}
        </ol>
      </section>
    </div>
  );
}

function Matrix({ confusion, isCounts }: { confusion: Confusion; isCounts: boolean }): JSX.Element {
  const { split, classes, cells } = confusion;
  const [at, setAt] = useState<[number, number]>([0, 0]);
  const size = classes.length;
  const counts = Array.from({ length: size }, () => new Array<number>(size).fill(0));
  for (const [label, pred, num] of cells) {
    const row = counts[label];
    if (row !== undefined && pred < size) row[pred] = num;
  }
  const totals = counts.map((row) => row.reduce((sum, num) => sum + num, 0));
  const mistakes = Math.max(1, ...cells.filter(([label, pred]) => label !== pred).map((one) => one[2]));
  const largest = Math.max(1, ...cells.map((one) => one[2]));
  const moves: Record<string, [number, number]> = {
    ArrowRight: [0, 1],
    ArrowLeft: [0, -1],
    ArrowDown: [1, 0],
    ArrowUp: [-1, 0],
  };
  const keyed = (event: KeyboardEvent) => {
    const move = moves[event.key];
    if (move === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    const next: [number, number] = [
      Math.max(0, Math.min(size - 1, at[0] + move[0])),
      Math.max(0, Math.min(size - 1, at[1] + move[1])),
    ];
    setAt(next);
    document.getElementById(`cell-${next[0]}-${next[1]}`)?.focus();
  };
  return (
    <div class="scroll-x">
      <table
        class={size <= WIDE ? "matrix matrix-wide" : "matrix"}
        aria-label="Confusion matrix: rows are labels, columns predictions"
        onKeyDown={keyed}
      >
        <thead>
          <tr>
            <th class="matrix-corner">label ↓ prediction →</th>
            {classes.map((pred) => (
              <th key={pred} scope="col" class="matrix-column">
                <span class="clip">{pred}</span>
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {classes.map((label, row) => (
            <tr key={label}>
              <th scope="row" class="clip">
                {label}
              </th>
              {classes.map((pred, column) => {
                const num = counts[row]?.[column] ?? 0;
                const share = num / Math.max(1, totals[row] ?? 0);
                const isRight = row === column;
                const depth = num === 0 ? 0 : 0.06 + 0.44 * Math.sqrt(num / (isRight ? largest : mistakes));
                return (
                  <td key={pred}>
                    <button
                      type="button"
                      id={`cell-${row}-${column}`}
                      class={isRight ? "matrix-cell is-right" : "matrix-cell"}
                      tabIndex={at[0] === row && at[1] === column ? 0 : -1}
                      style={{ "--depth": `${Math.round(100 * depth)}%` }}
                      title={`${label} taken for ${pred}: ${counted(num, "sample")}, ${percent(share)} of ${label}`}
                      aria-label={`${label} predicted as ${pred}: ${counted(num, "sample")}`}
                      onFocus={() => setAt([row, column])}
                      onClick={() => openCell(split, label, pred)}
                    >
                      {num === 0 ? "" : isCounts ? count(num) : `${Math.round(100 * share)}%`}
                    </button>
                  </td>
                );
              })}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
