/** The map: two scores of every sample; the lasso opens what it holds, the pointer shows what is under it. */
import { useSignal } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { ask, askColumns, runPath } from "../api/http.ts";
import type { MapFacts, RunDetail } from "../api/types.ts";
import { both, inside, thinned } from "../logic/filters.ts";
import { count, counted, number } from "../logic/format.ts";
import {
  formatWindow,
  middle,
  parseWindow,
  type Screen,
  shifted,
  toValue,
  type Window,
  zoomed,
} from "../logic/plane.ts";
import { isDark } from "../parts/colours.ts";
import { Drawer } from "../parts/drawer.tsx";
import { drawForm, drawMap, MARGIN, mapColour, rampColour } from "../parts/mapdraw.ts";
import { Empty, Skeleton, Trouble } from "../parts/states.tsx";
import { Thumb } from "../parts/thumb.tsx";
import { useAsked } from "../state/asking.ts";
import { go, openSamples, route, setParams } from "../state/navigation.ts";
import { samplesNews } from "../state/store.ts";

const BIN = 5;
const REACH = 14;
const MOST_CORNERS = 160;

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
  return { x0: facts.x.low, x1: facts.x.high, y0: facts.y.low, y1: facts.y.high };
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

interface PlaneProps {
  run: string;
  known: RunDetail;
  filter: string;
  columns: Parameters<typeof drawMap>[1];
  facts: MapFacts;
  window: Window;
  screen: Screen;
  setScreen: (screen: Screen) => void;
}

function Plane(props: PlaneProps): JSX.Element {
  const { run, known, filter, columns, facts, window, screen, setScreen } = props;
  const canvas = useRef<HTMLCanvasElement>(null);
  const box = useRef<HTMLDivElement>(null);
  const [lasso, setLasso] = useState<[number, number][] | null>(null);
  const isDrawing = useRef<"lasso" | "move" | null>(null);
  const hovered = useSignal<number[]>([]);
  const polygon = lasso !== null && isDrawing.current === null && lasso.length > 2 ? lasso : null;
  const chosen =
    polygon === null
      ? null
      : both(
          filter,
          inside(
            facts.x.name,
            facts.y.name,
            thinned(polygon, MOST_CORNERS).map(([px, py]) => toValue(px, py, window, screen)),
          ),
        );
  const numInside = useAsked(chosen === null ? null : `${run} ${chosen}`, (signal) =>
    ask<{ total: number }>(runPath(run, "/samples/count"), { filter: chosen ?? "" }, signal),
  );

  useLayoutEffect(() => {
    const element = box.current;
    if (element === null) return;
    const observer = new ResizeObserver(() => {
      setScreen({
        width: Math.max(200, element.clientWidth - MARGIN.left - MARGIN.right),
        height: Math.max(200, element.clientHeight - MARGIN.top - MARGIN.bottom),
      });
    });
    observer.observe(element);
    return () => observer.disconnect();
  }, []);

  useEffect(() => {
    const element = canvas.current;
    const context = element?.getContext("2d");
    if (!element || !context) return;
    const scale = devicePixelRatio;
    element.width = (screen.width + MARGIN.left + MARGIN.right) * scale;
    element.height = (screen.height + MARGIN.top + MARGIN.bottom) * scale;
    drawMap(context, columns, facts, window, screen);
  }, [columns, facts, formatWindow(window), screen, isDark.value]);

  const show = (next: Window) => {
    setLasso(null);
    setParams({ box: formatWindow(next) });
  };
  const latest = useRef({ window, screen, show });
  latest.current = { window, screen, show };
  useEffect(() => {
    const element = canvas.current;
    const wheeled = (event: WheelEvent) => {
      event.preventDefault();
      const now = latest.current;
      const at = toValue(event.offsetX - MARGIN.left, event.offsetY - MARGIN.top, now.window, now.screen);
      now.show(zoomed(now.window, event.deltaY < 0 ? 0.8 : 1.25, at));
    };
    element?.addEventListener("wheel", wheeled, { passive: false });
    return () => element?.removeEventListener("wheel", wheeled);
  }, []);

  const near = useNear(run, facts, filter, (ids) => (hovered.value = ids));
  const place = (event: PointerEvent): [number, number] => [event.offsetX - MARGIN.left, event.offsetY - MARGIN.top];
  const down = (event: PointerEvent) => {
    if (event.button !== 0) return;
    (event.currentTarget as HTMLElement).setPointerCapture(event.pointerId);
    isDrawing.current = event.shiftKey ? "move" : "lasso";
    setLasso(event.shiftKey ? null : [place(event)]);
  };
  const move = (event: PointerEvent) => {
    if (isDrawing.current === "move") {
      show(
        shifted(
          window,
          (-event.movementX / screen.width) * (window.x1 - window.x0),
          (event.movementY / screen.height) * (window.y1 - window.y0),
        ),
      );
    } else if (isDrawing.current === "lasso") {
      setLasso((old) => [...(old ?? []), place(event)]);
    } else {
      near(
        toValue(...place(event), window, screen),
        (REACH / screen.width) * (window.x1 - window.x0),
        (REACH / screen.height) * (window.y1 - window.y0),
      );
    }
  };
  const up = () => {
    const wasLasso = isDrawing.current === "lasso";
    isDrawing.current = null;
    const isClick = (lasso?.length ?? 0) < 4;
    setLasso(wasLasso && !isClick ? [...(lasso ?? [])] : null);
    const first = hovered.value[0];
    if (wasLasso && isClick && first !== undefined) go({ sample: first });
  };
  const keyed = (event: KeyboardEvent) => {
    const [wide, tall] = [window.x1 - window.x0, window.y1 - window.y0];
    const moves: Record<string, Window | undefined> = {
      "+": zoomed(window, 0.8, middle(window)),
      "=": zoomed(window, 0.8, middle(window)),
      "-": zoomed(window, 1.25, middle(window)),
      ArrowRight: shifted(window, 0.15 * wide, 0),
      ArrowLeft: shifted(window, -0.15 * wide, 0),
      ArrowUp: shifted(window, 0, 0.15 * tall),
      ArrowDown: shifted(window, 0, -0.15 * tall),
    };
    const next = moves[event.key];
    if (next === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    show(next);
  };
  const words = `${counted(facts.num_in_view, "sample")} of ${count(facts.total)} in view: ${facts.x.name} from ${number(window.x0)} to ${number(window.x1)}, ${facts.y.name} from ${number(window.y0)} to ${number(window.y1)}.${facts.num_missing > 0 ? ` ${counted(facts.num_missing, "sample has", "samples have")} no value here.` : ""}`;
  const inView = both(
    filter,
    `${facts.x.name} between ${window.x0} and ${window.x1} and ${facts.y.name} between ${window.y0} and ${window.y1}`,
  );

  return (
    <>
      <div class="map-body">
        <div class="map-box" ref={box}>
          <canvas
            ref={canvas}
            tabIndex={0}
            role="img"
            aria-label={`Map. ${words} Plus and minus zoom, arrows move.`}
            style={{
              width: `${screen.width + MARGIN.left + MARGIN.right}px`,
              height: `${screen.height + MARGIN.top + MARGIN.bottom}px`,
            }}
            onPointerDown={down}
            onPointerMove={move}
            onPointerUp={up}
            onDblClick={() => setParams({ box: "" })}
            onKeyDown={keyed}
          />
          {lasso !== null && (
            <svg
              class="lasso"
              style={{ left: `${MARGIN.left}px`, top: `${MARGIN.top}px` }}
              width={screen.width}
              height={screen.height}
              aria-hidden="true"
            >
              <polygon points={lasso.map((corner) => corner.join(",")).join(" ")} />
            </svg>
          )}
          {chosen !== null && (
            <div class="floating" role="status">
              <span>{numInside.value === null ? "…" : counted(numInside.value.total, "sample")} inside</span>
              <button type="button" class="primary" onClick={() => openSamples(chosen)}>
                Open them
              </button>
              <button type="button" onClick={() => setLasso(null)}>
                Close
              </button>
            </div>
          )}
        </div>
        <aside class="map-side">
          <Key facts={facts} />
          <h2 class="minor">Under the pointer</h2>
          <div class="map-near">
            {hovered.value.length === 0 && <p class="quiet">Move over the map.</p>}
            {hovered.value.map((id) => (
              <button
                key={id}
                type="button"
                class="bare"
                aria-label={`open sample ${id}`}
                onClick={() => go({ sample: id })}
              >
                <Thumb run={run} sampleId={id} size={64} label="" hasImage={known.has_images} />
                {!known.has_images && <span>{id}</span>}
              </button>
            ))}
          </div>
        </aside>
      </div>
      <p class="quiet map-words">
        {words}{" "}
        <button type="button" class="link" onClick={() => openSamples(inView)}>
          Open what is in view
        </button>
      </p>
      <Regions facts={facts} run={run} filter={filter} />
    </>
  );
}

/** Ask for the samples near a place, not more often than answers come. */
function useNear(run: string, facts: MapFacts, filter: string, found: (ids: number[]) => void) {
  const controller = useRef<AbortController | null>(null);
  const timer = useRef(0);
  useEffect(
    () => () => {
      clearTimeout(timer.current);
      controller.current?.abort();
    },
    [],
  );
  return (at: [number, number], radiusX: number, radiusY: number) => {
    clearTimeout(timer.current);
    timer.current = window.setTimeout(() => {
      controller.current?.abort();
      const mine = new AbortController();
      controller.current = mine;
      const values = {
        x: facts.x.name,
        y: facts.y.name,
        at_x: at[0],
        at_y: at[1],
        radius_x: radiusX,
        radius_y: radiusY,
        count: 6,
        filter,
      };
      ask<{ sample_ids: number[] }>(runPath(run, "/map/near"), values, mine.signal).then(
        (answer) => {
          if (answer.sample_ids.length > 0) found(answer.sample_ids);
        },
        () => undefined, // a preview that does not come is no trouble; the map says so itself when the service is gone
      );
    }, 60);
  };
}

function Key({ facts }: { facts: MapFacts }): JSX.Element | null {
  const { color } = facts;
  if (color.kind === "none") return null;
  if (color.kind === "number") {
    return (
      <div class="map-key">
        <h2 class="minor">Colour</h2>
        <span
          class="ramp"
          style={{ background: `linear-gradient(90deg, ${[0, 0.25, 0.5, 0.75, 1].map(rampColour).join(", ")})` }}
        />
        <span class="ramp-ends">
          <span>{number(color.low)}</span>
          <span>{number(color.high)}</span>
        </span>
      </div>
    );
  }
  return (
    <div class="map-key">
      <h2 class="minor">Colour</h2>
      <ul>
        {color.names.slice(0, 24).map((name, index) => (
          <li key={name}>
            <Form facts={facts} kind={index} /> <span class="clip">{name}</span>
          </li>
        ))}
      </ul>
    </div>
  );
}

function Form({ facts, kind }: { facts: MapFacts; kind: number }): JSX.Element {
  const canvas = useRef<HTMLCanvasElement>(null);
  useEffect(() => {
    const context = canvas.current?.getContext("2d");
    if (!context) return;
    context.setTransform(2, 0, 0, 2, 0, 0);
    context.clearRect(0, 0, 12, 12);
    context.fillStyle = mapColour(facts, kind);
    context.strokeStyle = context.fillStyle;
    drawForm(context, kind, 6, 6, 4);
  }, [facts, kind, isDark.value]);
  return <canvas ref={canvas} width="24" height="24" class="map-form" />;
}

/** The map as a table of nine regions, for those who do not see it; each leads to its samples. */
function Regions({ facts, run, filter }: { facts: MapFacts; run: string; filter: string }): JSX.Element {
  const isOpen = useSignal(false);
  const names = ["low", "middle", "high"];
  const cut = (low: number, high: number, index: number) => low + ((high - low) * index) / 3;
  const region = (row: number, column: number) =>
    both(
      filter,
      `${facts.x.name} between ${cut(facts.x.domain_low, facts.x.domain_high, column)} and ${cut(facts.x.domain_low, facts.x.domain_high, column + 1)} and ${facts.y.name} between ${cut(facts.y.domain_low, facts.y.domain_high, row)} and ${cut(facts.y.domain_low, facts.y.domain_high, row + 1)}`,
    );
  const asked = useAsked(isOpen.value ? `${run} ${facts.x.name} ${facts.y.name} ${filter}` : null, (signal) =>
    Promise.all(
      [2, 1, 0].map((row) =>
        Promise.all(
          [0, 1, 2].map(
            async (column) =>
              (await ask<{ total: number }>(runPath(run, "/samples/count"), { filter: region(row, column) }, signal))
                .total,
          ),
        ),
      ),
    ),
  );
  return (
    <details class="plot-table" onToggle={(event) => (isOpen.value = event.currentTarget.open)}>
      <summary>Table</summary>
      {!isOpen.value ? null : asked.value === null ? (
        <Skeleton lines={3} />
      ) : (
        <table class="regions">
          <thead>
            <tr>
              <th>{facts.y.name}</th>
              {names.map((name) => (
                <th key={name} class="num">
                  {name} {facts.x.name}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {asked.value.map((row, index) => (
              <tr key={names[2 - index]}>
                <th scope="row">{names[2 - index]}</th>
                {row.map((num, column) => (
                  <td key={names[column]} class="num">
                    <button type="button" class="link" onClick={() => openSamples(region(2 - index, column))}>
                      {count(num)}
                    </button>
                  </td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </details>
  );
}
