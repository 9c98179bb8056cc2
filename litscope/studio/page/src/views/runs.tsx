/** All runs: how they are, how good, and the way to compare some of them. */
import { useSignal } from "@preact/signals";
import type { JSX } from "preact";
import type { RunLine } from "../api/types.ts";
import { ago, count, duration, number } from "../logic/format.ts";
import { Progress, Sparkline, StateMark } from "../parts/marks.tsx";
import { Empty, Skeleton, Trouble } from "../parts/states.tsx";
import { follow, go, href } from "../state/navigation.ts";
import { folders, runs, runsProblem } from "../state/store.ts";

export function RunsView(): JSX.Element {
  const chosen = useSignal<string[]>([]);
  const search = useSignal("");
  const list = runs.value;
  if (runsProblem.value !== null && list === null)
    return <Trouble problem={runsProblem.value} again={() => location.reload()} />;
  if (list === null) return <Skeleton lines={10} height={28} />;
  if (list.length === 0) {
    return (
      <Empty title="No runs here yet">
        <p>A run is a folder that a training has made. Train one, and it appears here by itself:</p>
        <pre>litscope fit digits</pre>
        {folders.value.length > 0 && <p class="quiet">Looked in {folders.value.join(", ")}.</p>}
      </Empty>
    );
  }
  const wanted = search.value.toLowerCase();
  const shown = list.filter((line) =>
    `${line.name} ${line.data} ${line.arch} ${line.state}`.toLowerCase().includes(wanted),
  );
  const compare = () => go({ compare: chosen.value, run: null, params: {} });
  return (
    <div class="view">
      <div class="tools">
        <h1>Runs</h1>
        <input
          type="search"
          placeholder="name, data, model, state"
          aria-label="Search runs"
          value={search.value}
          onInput={(event) => (search.value = event.currentTarget.value)}
        />
        <button
          type="button"
          class={chosen.value.length > 1 ? "primary" : ""}
          disabled={chosen.value.length < 2}
          onClick={compare}
        >
          Compare {chosen.value.length > 1 ? chosen.value.length : ""}
        </button>
        {chosen.value.length === 1 && <span class="quiet">Choose another one to compare them.</span>}
      </div>
      <div class="scroll-x">
        <table class="runs">
          <thead>
            <tr>
              <th>
                <span class="unseen">compare</span>
              </th>
              <th>run</th>
              <th>state</th>
              <th>progress</th>
              <th>best</th>
              <th>curve</th>
              <th>data</th>
              <th>model</th>
              <th class="num">samples</th>
              <th>started</th>
            </tr>
          </thead>
          <tbody>
            {shown.map((line) => (
              <Line
                key={line.id}
                line={line}
                isChosen={chosen.value.includes(line.id)}
                choose={(is) => {
                  chosen.value = is ? [...chosen.value, line.id] : chosen.value.filter((id) => id !== line.id);
                }}
              />
            ))}
          </tbody>
        </table>
      </div>
      {shown.length === 0 && <Empty title="No run matches">{""}</Empty>}
    </div>
  );
}

function Line({
  line,
  isChosen,
  choose,
}: {
  line: RunLine;
  isChosen: boolean;
  choose: (is: boolean) => void;
}): JSX.Element {
  const change = { run: line.id, compare: [], params: {} };
  const total = Object.values(line.num_samples ?? {}).reduce((sum, value) => sum + value, 0);
  return (
    <tr>
      <td>
        <input
          type="checkbox"
          aria-label={`compare ${line.name}`}
          checked={isChosen}
          onChange={(event) => choose(event.currentTarget.checked)}
        />
      </td>
      <td>
        <a href={href(change)} title={line.path} onClick={(event) => follow(event, change)}>
          {line.name}
        </a>
      </td>
      <td>
        <StateMark line={line} />
        {line.state_detail !== "" && <small class="state-detail">{line.state_detail}</small>}
      </td>
      <td class="nowrap">
        <Progress line={line} />{" "}
        {line.epoch !== null && (
          <span>
            {line.epoch}
            {line.num_epochs !== null && `/${line.num_epochs}`} epochs
          </span>
        )}
        {line.state === "running" && line.time_left_s !== null && <small>{duration(line.time_left_s)} left</small>}
      </td>
      <td class="nowrap">
        {line.value !== null && (
          <>
            <b>{number(line.value)}</b> <span class="quiet">{line.metric}</span>
          </>
        )}
      </td>
      <td>
        <Sparkline values={line.sparkline} label={`${line.metric ?? "the loss"} by epoch`} />
      </td>
      <td class="nowrap" title={line.data ?? ""}>
        {line.data?.split("/").pop()}
      </td>
      <td>{line.arch}</td>
      <td class="num">{total === 0 ? "–" : count(total)}</td>
      <td class="nowrap quiet">{ago(line.started_at, Date.now() / 1000)}</td>
    </tr>
  );
}
