/** What the map's colours and forms mean, and the map as a table for those who do not see it. */
import { useSignal } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { ask, runPath } from "../api/http.ts";
import type { MapFacts } from "../api/types.ts";
import { both } from "../logic/filters.ts";
import { count, number } from "../logic/format.ts";
import { useAsked } from "../state/asking.ts";
import { openSamples } from "../state/navigation.ts";
import { isDark } from "./colours.ts";
import { drawForm, mapColour, rampColour } from "./mapdraw.ts";
import { Skeleton } from "./states.tsx";

export function Key({ facts }: { facts: MapFacts }): JSX.Element | null {
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
export function Regions({ facts, run, filter }: { facts: MapFacts; run: string; filter: string }): JSX.Element {
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
