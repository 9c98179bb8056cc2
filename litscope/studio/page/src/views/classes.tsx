/** A row for each class, with bars; the worst first. */
import { useSignal } from "@preact/signals";
import type { JSX } from "preact";
import { ask, runPath } from "../api/http.ts";
import type { ClassRow } from "../api/types.ts";
import { equals } from "../logic/filters.ts";
import { cell, count } from "../logic/format.ts";
import { openCell, SplitTools, splitOf, type ViewProps, Waiting } from "../parts/splits.tsx";
import { Empty } from "../parts/states.tsx";
import { useAsked } from "../state/asking.ts";
import { openSamples } from "../state/navigation.ts";
import { samplesNews } from "../state/store.ts";

type ClassColumn = Exclude<keyof ClassRow, "label">;

const CLASS_COLUMNS: { name: ClassColumn; title: string; bar: boolean }[] = [
  { name: "name", title: "class", bar: false },
  { name: "num_samples", title: "samples", bar: true },
  { name: "num_train", title: "in training", bar: true },
  { name: "recall", title: "recall", bar: true },
  { name: "precision", title: "precision", bar: true },
  { name: "f1", title: "F1", bar: true },
  { name: "mean_loss", title: "mean loss", bar: true },
  { name: "mean_suspicion", title: "suspicion", bar: true },
  { name: "most_taken_for", title: "taken for", bar: false },
  { name: "num_discarded", title: "discarded", bar: false },
  { name: "num_relabelled", title: "relabelled", bar: false },
];

const SHARES = new Set<ClassColumn>(["recall", "precision", "f1", "mean_suspicion"]);

export function ClassesView({ run, known }: ViewProps): JSX.Element {
  const split = splitOf(known);
  const asked = useAsked(
    `${run} ${split}`,
    (signal) => ask<{ split: string; rows: ClassRow[] }>(runPath(run, "/classes"), { split }, signal),
    samplesNews.value,
  );
  const order = useSignal<{ by: ClassColumn; isDown: boolean }>({ by: "recall", isDown: false });
  const rows = sorted(asked.value?.rows ?? [], order.value.by, order.value.isDown);
  const reach = (name: ClassColumn) =>
    SHARES.has(name) ? 1 : Math.max(1e-9, ...rows.map((row) => Number(row[name] ?? 0)));
  return (
    <div class="view">
      <SplitTools known={known} />
      {asked.value === null ? (
        <Waiting asked={asked} />
      ) : (
        <div class="scroll-x">
          <table class="classes">
            <thead>
              <tr>
                {CLASS_COLUMNS.map(({ name, title }) => {
                  const isBy = order.value.by === name;
                  return (
                    <th key={name} aria-sort={isBy ? (order.value.isDown ? "descending" : "ascending") : "none"}>
                      <button
                        type="button"
                        class="bare"
                        onClick={() => (order.value = { by: name, isDown: isBy ? !order.value.isDown : false })}
                      >
                        {title} {isBy ? (order.value.isDown ? "↓" : "↑") : ""}
                      </button>
                    </th>
                  );
                })}
              </tr>
            </thead>
            <tbody>
              {rows.map((row) => (
                <tr key={row.label}>
                  {CLASS_COLUMNS.map(({ name, bar }) => (
                    <td key={name}>
                      {name === "name" ? (
                        <button
                          type="button"
                          class="link"
                          onClick={() => openSamples(`split = ${split} and ${equals("current_name", row.name)}`)}
                        >
                          {row.name}
                        </button>
                      ) : name === "most_taken_for" && row.most_taken_for !== null ? (
                        <button
                          type="button"
                          class="link"
                          onClick={() => openCell(split, row.name, row.most_taken_for ?? "")}
                        >
                          {row.most_taken_for} ({count(row.num_taken_for ?? 0)})
                        </button>
                      ) : (
                        <span class="barred">
                          {bar && (
                            <span class="bar-box">
                              <span style={{ width: `${(100 * Number(row[name] ?? 0)) / reach(name)}%` }} />
                            </span>
                          )}
                          {cell(row[name])}
                        </span>
                      )}
                    </td>
                  ))}
                </tr>
              ))}
            </tbody>
          </table>
          {rows.length === 0 && <Empty title="No classes to show yet">{""}</Empty>}
        </div>
      )}
    </div>
  );
}

function sorted(rows: ClassRow[], by: ClassColumn, isDown: boolean): ClassRow[] {
  const turned = isDown ? -1 : 1;
  return [...rows].sort((a, b) => {
    const [first, second] = [a[by], b[by]];
    if (first === null || second === null) return Number(first === null) - Number(second === null);
    if (typeof first === "string") return turned * first.localeCompare(String(second), undefined, { numeric: true });
    return turned * (first - Number(second));
  });
}
