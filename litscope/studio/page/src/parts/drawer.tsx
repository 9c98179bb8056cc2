/** The drawer: one sample with its picture, what is done with it, its history, and what its scores mean. */
import type { JSX } from "preact";
import { ask, runPath } from "../api/http.ts";
import type { RunDetail, Sample, Score } from "../api/types.ts";
import { cell, count, number, percent, tail } from "../logic/format.ts";
import { useAsked } from "../state/asking.ts";
import { useKeys } from "../state/keys.ts";
import { go } from "../state/navigation.ts";
import { metricsNews, samplesNews } from "../state/store.ts";
import { Entry } from "../views/journal.tsx";
import { Badges } from "./cells.tsx";
import { Edits } from "./edits.tsx";
import { Icon } from "./icons.tsx";
import { Plot, type PlotLine } from "./plot.tsx";
import { Skeleton, Trouble } from "./states.tsx";
import { Thumb } from "./thumb.tsx";
import { Zoom } from "./zoom.tsx";

interface DrawerProps {
  run: string;
  known: RunDetail;
  sampleId: number;
  /** Whether another part of the page has the keys of actions: the grid acts on its selection. */
  isQuiet: boolean;
  next?: (by: number) => void;
}

export function Drawer({ run, known, sampleId, isQuiet, next }: DrawerProps): JSX.Element {
  const { value, problem } = useAsked(
    `${run} ${sampleId}`,
    (signal) => ask<Sample>(runPath(run, `/samples/${sampleId}`), {}, signal),
    samplesNews.value + metricsNews.value,
  );
  const close = () => go({ sample: null });
  useKeys("Sample", [{ keys: ["escape"], shown: "Esc", meaning: "close the sample", run: close }]);
  return (
    <aside class="drawer" aria-label="Sample">
      <div class="drawer-head">
        <h2 class="clip" title={value?.sample.key}>
          {value === null ? `sample ${sampleId}` : tail(value.sample.key, 34)}
        </h2>
        {next && (
          <>
            <button type="button" class="bare" aria-label="Previous sample" onClick={() => next(-1)}>
              ←
            </button>
            <button type="button" class="bare" aria-label="Next sample" onClick={() => next(1)}>
              →
            </button>
          </>
        )}
        <button type="button" class="bare" aria-label="Close the sample" onClick={close}>
          <Icon name="cross" />
        </button>
      </div>
      {problem && value === null && <Trouble problem={problem} />}
      {value === null && problem === null && <Skeleton lines={8} height={24} />}
      {value !== null && <Body run={run} known={known} sample={value} isQuiet={isQuiet} />}
    </aside>
  );
}

function Body(props: { run: string; known: RunDetail; sample: Sample; isQuiet: boolean }): JSX.Element {
  const { run, known, sample, isQuiet } = props;
  const row = sample.sample;
  return (
    <div class="drawer-body">
      {sample.image?.has_image && (
        <Zoom
          run={run}
          sampleId={row.sample_id}
          label={row.key}
          width={sample.image.width}
          height={sample.image.height}
        />
      )}
      <dl class="facts">
        <Fact
          name="label"
          value={row.current_name ?? "–"}
          more={row.label_name === row.current_name ? "" : `was ${row.label_name ?? "none"}`}
        />
        <Fact
          name="prediction"
          value={row.pred_name ?? "–"}
          more={row.is_right === null ? "" : row.is_right ? "right" : "wrong"}
        />
        {row.believed_name !== null && <Fact name="believed" value={row.believed_name} more="" />}
        <Fact name="split" value={row.split} more={row.is_discarded ? "discarded" : ""} />
      </dl>
      <Badges row={row} />
      {!isQuiet && (
        <Edits
          known={known}
          target={() => ({ samples: { ids: [row.sample_id] }, num: 1 })}
          num={1}
          done={() => undefined}
          keysOf="Sample"
        />
      )}
      <History sample={sample} />
      <h3>Scores</h3>
      {sample.scores.length === 0 && <p class="quiet">Scores come with the first complete epoch.</p>}
      <ul class="scores">
        {sample.scores.map((score) => (
          <ScoreLine key={score.name} score={score} />
        ))}
      </ul>
      {sample.features !== null && sample.features.length > 0 && <Features features={sample.features} />}
      {sample.neighbours !== null && sample.neighbours.length > 0 && (
        <>
          <h3>Most alike</h3>
          <ul class="strip">
            {sample.neighbours.map((one) => (
              <li key={one.sample_id}>
                <button type="button" class="bare" title={one.key} onClick={() => go({ sample: one.sample_id }, true)}>
                  <Thumb run={run} sampleId={one.sample_id} size={64} label={one.key} />
                  <span>{one.label_name}</span>
                </button>
              </li>
            ))}
          </ul>
        </>
      )}
      {sample.actions.length > 0 && (
        <>
          <h3>What was done with it</h3>
          <ol class="journal-list">
            {sample.actions.map((action) => (
              <Entry key={action.id} action={action} />
            ))}
          </ol>
        </>
      )}
    </div>
  );
}

function Fact({ name, value, more }: { name: string; value: string; more: string }): JSX.Element {
  return (
    <div>
      <dt>{name}</dt>
      <dd>
        {value} {more !== "" && <span class="quiet">{more}</span>}
      </dd>
    </div>
  );
}

function History({ sample }: { sample: Sample }): JSX.Element {
  const { visits, changes, custom } = sample;
  if (visits.step.length === 0 && Object.keys(custom).length === 0) {
    return <p class="quiet">No visit of this sample is on record yet.</p>;
  }
  const lines = (name: string, y: (number | null)[], style: number): PlotLine[] => [{ name, x: visits.step, y, style }];
  return (
    <>
      {visits.step.length > 0 && (
        <>
          <Plot
            title="probability of the label"
            lines={lines("p(label)", visits.p_label, 0)}
            xLabel="step"
            height={130}
            yRange={[0, 1]}
            sync="sample"
          />
          <Plot title="loss" lines={lines("loss", visits.loss, 1)} xLabel="step" height={130} sync="sample" />
        </>
      )}
      {Object.entries(custom).map(([name, one]) => (
        <Plot
          key={name}
          title={name}
          lines={[{ name, x: one.step, y: one.value, style: 2 }]}
          xLabel="step"
          height={130}
          sync="sample"
        />
      ))}
      {changes.length > 0 && (
        <p>
          Prediction: {changes[0]?.was ?? "–"}
          {changes.slice(0, 12).map((change) => (
            <span key={change.step}>
              {" "}
              → {change.now ?? "–"} <span class="quiet">(epoch {change.epoch})</span>
            </span>
          ))}
          {changes.length > 12 && `, and ${changes.length - 12} changes more`}
        </p>
      )}
    </>
  );
}

function ScoreLine({ score }: { score: Score }): JSX.Element {
  return (
    <li>
      <details>
        <summary>
          <span>{score.title}</span>
          <b>{cell(score.value)}</b>
          {score.share_below !== null && (
            <span
              class="share"
              role="img"
              aria-label={`above ${percent(score.share_below, 0)} of the samples`}
              title={`above ${percent(score.share_below, 0)} of the samples`}
            >
              <span style={{ width: `${100 * score.share_below}%` }} />
            </span>
          )}
        </summary>
        <p>
          {score.meaning} {score.source !== "" && <span class="quiet">{score.source}</span>}
        </p>
        {score.rank !== null && <p class="quiet">Rank {count(score.rank)}.</p>}
      </details>
    </li>
  );
}

function Features({ features }: { features: NonNullable<Sample["features"]> }): JSX.Element {
  return (
    <>
      <h3>Features</h3>
      <table>
        <tbody>
          {features.map((feature) => (
            <tr key={feature.name}>
              <th scope="row">{feature.name}</th>
              <td class="num">{typeof feature.value === "number" ? number(feature.value) : feature.value}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </>
  );
}
