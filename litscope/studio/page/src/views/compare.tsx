/** Two or more runs beside each other: curves on one plot, the settings that differ, the samples whose fate differs. */
import { useSignal } from "@preact/signals";
import type { JSX } from "preact";
import { ask, runPath } from "../api/http.ts";
import type { Comparison, Curves } from "../api/types.ts";
import { cell, counted, number } from "../logic/format.ts";
import { grouped } from "../logic/series.ts";
import { StateMark } from "../parts/marks.tsx";
import { Plot } from "../parts/plot.tsx";
import { Empty, Skeleton, Trouble } from "../parts/states.tsx";
import { Thumb } from "../parts/thumb.tsx";
import { useAsked } from "../state/asking.ts";
import { follow, href, openRun } from "../state/navigation.ts";

const FATES: Record<string, string> = {
  learned_only_in_first: "learned only in the first",
  learned_only_in_second: "learned only in the second",
  right_only_in_first: "right only in the first",
  right_only_in_second: "right only in the second",
};

export function CompareView({ ids }: { ids: string[] }): JSX.Element {
  const x = useSignal<"epoch" | "step" | "time">("epoch");
  const compared = useAsked(ids.join(","), (signal) => ask<Comparison>("compare", { runs: ids.join(",") }, signal));
  const curves = useAsked(`${ids.join(",")} ${x.value}`, (signal) =>
    Promise.all(ids.map((id) => ask<Curves>(runPath(id, "/curves"), { x: x.value, max_points: 1000 }, signal))),
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
          <select
            value={x.value}
            onChange={(event) => (x.value = event.currentTarget.value as "epoch" | "step" | "time")}
          >
            <option value="epoch">epoch</option>
            <option value="step">step</option>
            <option value="time">wall time</option>
          </select>
        </label>
      </div>
      <div class="scroll-x">
        <table>
          <thead>
            <tr>
              <th>what differs</th>
              {runs.map((line) => (
                <th key={line.id}>
                  <a
                    href={href({ run: line.id, compare: [] })}
                    onClick={(event) => follow(event, { run: line.id, compare: [] })}
                  >
                    {line.name}
                  </a>{" "}
                  <StateMark line={line} isShort />
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {metrics.map((metric) => (
              <tr key={metric.name}>
                <th scope="row">{metric.name}</th>
                {metric.values.map((value, index) => (
                  <td key={runs[index]?.id}>{number(value)}</td>
                ))}
              </tr>
            ))}
            {settings.map((setting) => (
              <tr key={setting.name}>
                <th scope="row">{setting.name}</th>
                {setting.values.map((value, index) => (
                  <td key={runs[index]?.id}>
                    {typeof value === "object" && value !== null ? JSON.stringify(value) : cell(value as string)}
                  </td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {settings.length === 0 && <p class="quiet">All settings are the same.</p>}
      {curves.value === null ? (
        <Skeleton lines={6} height={40} />
      ) : (
        <div class="plots">
          {grouped(names).flatMap((group) =>
            group.names.map((name) => (
              <Plot
                key={name}
                title={name}
                xLabel={x.value === "time" ? "seconds" : x.value}
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
