/** Two or more runs beside each other: curves on one plot, the settings that differ, the samples whose fate differs. */
import type { JSX } from "preact";
import { ask, runPath } from "../api/http.ts";
import type { Comparison, Curves, RunLine } from "../api/types.ts";
import { cell, counted, number } from "../logic/format.ts";
import { grouped } from "../logic/series.ts";
import { StateMark } from "../parts/marks.tsx";
import { Plot } from "../parts/plot.tsx";
import { Empty, Skeleton, Trouble } from "../parts/states.tsx";
import { Thumb } from "../parts/thumb.tsx";
import { useAsked } from "../state/asking.ts";
import { follow, href, openRun, route, setParams } from "../state/navigation.ts";
import { runs as known } from "../state/store.ts";

const FATES: Record<string, string> = {
  learned_only_in_first: "learned only in the first",
  learned_only_in_second: "learned only in the second",
  right_only_in_first: "right only in the first",
  right_only_in_second: "right only in the second",
};

export function CompareView({ ids }: { ids: string[] }): JSX.Element {
  const x = route.value.params.x === "step" || route.value.params.x === "time" ? route.value.params.x : "epoch";
  // Those that still train: anew with each epoch.
  const lines = (known.value ?? []).filter((line) => ids.includes(line.id));
  const news = lines.reduce((sum, line) => sum + (line.epoch ?? 0), 0);
  const compared = useAsked(
    ids.join(","),
    (signal) => ask<Comparison>("compare", { runs: ids.join(",") }, signal),
    news,
  );
  const curves = useAsked(
    `${ids.join(",")} ${x}`,
    (signal) => Promise.all(ids.map((id) => ask<Curves>(runPath(id, "/curves"), { x, max_points: 1000 }, signal))),
    news,
  );
  const problem = compared.problem ?? curves.problem;
  if (problem) return <Trouble problem={problem} />;
  if (compared.value === null) return <Skeleton lines={10} height={30} />;
  const { runs, settings, metrics, fates, num_common } = compared.value;
  const names = [...new Set((curves.value ?? []).flatMap((one) => Object.keys(one.series)))];
  return (
    <div class="view">
      <div class="tools">
        <h1>Compare {counted(runs.length, "run")}</h1>
        <label>
          x
          <select value={x} onChange={(event) => setParams({ x: event.currentTarget.value })}>
            <option value="epoch">epoch</option>
            <option value="step">step</option>
            <option value="time">wall time</option>
          </select>
        </label>
      </div>
      <div class="beside">
        <Differing
          title="Settings that differ"
          runs={runs}
          rows={settings
            .filter((setting) => !setting.name.startsWith("chosen."))
            .map(({ name, values }) => ({ name, values: values.map(asText) }))}
        />
        <Differing
          title="Metrics"
          runs={runs}
          rows={metrics.map(({ name, values }) => ({ name, values: values.map((value) => number(value)) }))}
        />
      </div>
      {curves.value === null ? (
        <Skeleton lines={6} height={40} />
      ) : (
        <div class="plots">
          {grouped(names, runs[0]?.metric ?? null).flatMap((group) =>
            group.names.map((name) => (
              <Plot
                key={name}
                title={name}
                xLabel={x === "time" ? "seconds" : x}
                sync="compare"
                lines={(curves.value ?? []).flatMap((one, index) => {
                  const series = one.series[name];
                  return series ? [{ name: runs[index]?.name ?? "", x: series.x, y: series.y, style: index }] : [];
                })}
              />
            )),
          )}
        </div>
      )}
      <h2>Samples whose fate differs</h2>
      {fates === null ? (
        <p class="quiet">This needs exactly two runs that have scores of the same samples.</p>
      ) : (
        <>
          <p class="quiet">{counted(num_common ?? 0, "sample is", "samples are")} in both.</p>
          {Object.entries(fates).map(([name, fate]) => {
            const which = name.endsWith("second") ? 1 : 0;
            const run = runs[which]?.id ?? "";
            return (
              <section key={name}>
                <h3>
                  {FATES[name] ?? name}: {fate.num_samples}
                </h3>
                {fate.samples.length === 0 && <Empty title="None">{""}</Empty>}
                <ul class="strip">
                  {fate.samples.slice(0, 24).map((sample) => {
                    const id = which === 0 ? sample.sample_id_first : sample.sample_id_second;
                    return (
                      <li key={sample.key}>
                        <button
                          type="button"
                          class="bare"
                          title={sample.key}
                          onClick={() => openRun(run, "samples", { filter: `sample_id = ${id}` })}
                        >
                          <Thumb run={run} sampleId={id} size={64} label={sample.key} />
                          <span>{sample.label_first}</span>
                        </button>
                      </li>
                    );
                  })}
                </ul>
              </section>
            );
          })}
        </>
      )}
    </div>
  );
}

/** A table with a column for each run. */
function Differing({
  title,
  runs,
  rows,
}: {
  title: string;
  runs: RunLine[];
  rows: { name: string; values: string[] }[];
}): JSX.Element {
  return (
    <section class="scroll-x">
      <h2>{title}</h2>
      {rows.length === 0 && <p class="quiet">None.</p>}
      {rows.length > 0 && (
        <table>
          <thead>
            <tr>
              <th>name</th>
              {runs.map((line) => (
                <th key={line.id}>
                  <a
                    href={href({ run: line.id, compare: [], params: {} })}
                    onClick={(event) => follow(event, { run: line.id, compare: [], params: {} })}
                  >
                    {line.name}
                  </a>{" "}
                  <StateMark line={line} isShort />
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {rows.map((row) => (
              <tr key={row.name}>
                <th scope="row">{row.name}</th>
                {row.values.map((value, index) => (
                  <td key={runs[index]?.id}>{value}</td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </section>
  );
}

function asText(value: unknown): string {
  return typeof value === "object" && value !== null ? JSON.stringify(value) : cell(value as string);
}
