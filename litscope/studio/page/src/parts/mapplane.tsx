/** The plane of the map: a canvas that zooms, moves, and takes a lasso; beside it what is under the pointer. */
import { useSignal } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { ask, runPath } from "../api/http.ts";
import type { MapFacts, RunDetail } from "../api/types.ts";
import { both, inside, thinned } from "../logic/filters.ts";
import { count, counted, number } from "../logic/format.ts";
import { formatWindow, middle, type Screen, shifted, toValue, type Window, zoomed } from "../logic/plane.ts";
import { useAsked } from "../state/asking.ts";
import { go, openSamples, setParams } from "../state/navigation.ts";
import { isDark } from "./colours.ts";
import { drawMap, MARGIN } from "./mapdraw.ts";
import { Key, Regions } from "./mapkey.tsx";
import { Thumb } from "./thumb.tsx";

/** How far from the pointer a sample is still under it, in pixels. */
const REACH = 14;
const MOST_CORNERS = 160;

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

export function Plane(props: PlaneProps): JSX.Element {
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
