/** The map: two scores of every sample; the lasso opens what it holds, the pointer shows what is under it. */
import type { JSX } from "preact";
import { useRef, useState } from "preact/hooks";
import { askColumns, runPath } from "../api/http.ts";
import type { MapFacts, RunDetail } from "../api/types.ts";
import { parseWindow, type Screen, type Window } from "../logic/plane.ts";
import { Drawer } from "../parts/drawer.tsx";
import { Plane } from "../parts/mapplane.tsx";
import { Empty, Skeleton, Trouble } from "../parts/states.tsx";
import { useAsked } from "../state/asking.ts";
import { route, setParams } from "../state/navigation.ts";
import { samplesNews } from "../state/store.ts";

/** Side of a bin of the density, in pixels. */
const BIN = 5;
/** Room around what is there, as a share of it: so that no sample is cut by the edge. */
const EDGE = 0.02;

export function MapView({ run, known }: { run: string; known: RunDetail }): JSX.Element {
  const { params, sample } = route.value;
  const numbers = known.columns
    .filter((column) => column.kind === "number" || column.kind === "integer")
    .filter((column) => column.name !== "sample_id");
  const has = (name: string) => numbers.some((column) => column.name === name);
  const x = has(params.x ?? "") ? (params.x as string) : has("variability") ? "variability" : (numbers[0]?.name ?? "");
  const y = has(params.y ?? "")
    ? (params.y as string)
    : has("confidence")
      ? "confidence"
      : (numbers[1]?.name ?? numbers[0]?.name ?? "");
  const color = params.color ?? "is_right";
  const filter = params.filter ?? "";
  const window = parseWindow(params.box);
  const [screen, setScreen] = useState<Screen>({ width: 640, height: 440 });
  const bins = {
    width: Math.max(16, Math.round(screen.width / BIN)),
    height: Math.max(16, Math.round(screen.height / BIN)),
  };
  const key =
    numbers.length === 0
      ? null
      : `${run} ${x} ${y} ${color} ${filter} ${params.box ?? ""} ${bins.width} ${bins.height}`;
  const asked = useAsked(
    key,
    async (signal) => {
      const columns = await askColumns(
        runPath(run, "/map"),
        { x, y, color, filter, ...(window ?? {}), ...bins, max_points: 10000 },
        signal,
      );
      return { columns, facts: columns.facts as unknown as MapFacts };
    },
    samplesNews.value,
  );
  // While another part is asked for, the one before stays.
  const last = useRef(asked.value);
  if (asked.value !== null) last.current = asked.value;
  const shown = asked.value ?? last.current;
  if (numbers.length === 0) {
    return (
      <Empty title="No scores to map yet">
        <p>Scores come with the first complete epoch.</p>
      </Empty>
    );
  }
  const groups: [string, string][] = [
    ["is_right", "right or wrong"],
    ["current_name", "label"],
    ["pred_name", "prediction"],
    ["split", "split"],
    ["is_discarded", "discarded"],
    ...Object.keys(known.tags).map((tag): [string, string] => [`tag:${tag}`, `tag: ${tag}`]),
    ...numbers.map((column): [string, string] => [column.name, column.title]),
  ];
  return (
    <div class={sample !== null ? "view samples has-drawer" : "view samples"}>
      <div class="map-main">
        <div class="tools">
          <Choice name="x" value={x} options={numbers.map((column) => [column.name, column.title])} />
          <Choice name="y" value={y} options={numbers.map((column) => [column.name, column.title])} />
          <Choice name="color" value={color} options={groups} />
          {window !== null && (
            <button type="button" onClick={() => setParams({ box: "" })}>
              Show all
            </button>
          )}
          <span class="quiet">Draw around samples to open them; wheel zooms, Shift and drag moves.</span>
        </div>
        {asked.problem && <Trouble problem={asked.problem} />}
        {shown === null && asked.problem === null && <Skeleton lines={10} height={40} />}
        {shown !== null && (
          <Plane
            run={run}
            known={known}
            filter={filter}
            columns={shown.columns}
            facts={shown.facts}
            window={window ?? wholeOf(shown.facts)}
            screen={screen}
            setScreen={setScreen}
          />
        )}
      </div>
      {sample !== null && <Drawer run={run} known={known} sampleId={sample} isQuiet={false} />}
    </div>
  );
}

function wholeOf(facts: MapFacts): Window {
  const [wide, tall] = [EDGE * (facts.x.high - facts.x.low), EDGE * (facts.y.high - facts.y.low)];
  return { x0: facts.x.low - wide, x1: facts.x.high + wide, y0: facts.y.low - tall, y1: facts.y.high + tall };
}

function Choice({ name, value, options }: { name: string; value: string; options: [string, string][] }): JSX.Element {
  return (
    <label>
      {name === "color" ? "colour" : name}
      <select
        value={value}
        onChange={(event) => setParams({ [name]: event.currentTarget.value, ...(name === "color" ? {} : { box: "" }) })}
      >
        {options.map(([option, title]) => (
          <option key={option} value={option}>
            {title}
          </option>
        ))}
      </select>
    </label>
  );
}
