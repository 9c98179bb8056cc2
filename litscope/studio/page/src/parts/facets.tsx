/** What the samples of a filter are made of; a click narrows it. */
import type { JSX } from "preact";
import { ask, runPath } from "../api/http.ts";
import type { Facets, RunDetail } from "../api/types.ts";
import { both, equals } from "../logic/filters.ts";
import { count } from "../logic/format.ts";
import { useAsked } from "../state/asking.ts";
import { samplesNews } from "../state/store.ts";
import { Skeleton } from "./states.tsx";

const GROUPS: [string, string][] = [
  ["split", "split"],
  ["is_right", "prediction is right"],
  ["is_discarded", "discarded"],
  ["tags", "tags"],
  ["current_name", "label"],
  ["pred_name", "prediction"],
];

/** The condition for a value of a facet: flags stand alone. */
export function facetFilter(by: string, value: string): string {
  if (by === "is_right" || by === "is_discarded") return ["true", "yes", "True"].includes(value) ? by : `not ${by}`;
  return equals(by, value);
}

export function FacetPanel({
  run,
  known,
  filter,
  choose,
}: {
  run: string;
  known: RunDetail;
  filter: string;
  choose: (filter: string) => void;
}): JSX.Element {
  return (
    <aside class="facets" aria-label="What these samples are">
      {GROUPS.filter(([by]) => by !== "tags" || Object.keys(known.tags).length > 0).map(([by, title]) => (
        <Facet key={by} run={run} by={by} title={title} filter={filter} choose={choose} />
      ))}
    </aside>
  );
}

interface FacetProps {
  run: string;
  by: string;
  title: string;
  filter: string;
  choose: (filter: string) => void;
}

function Facet({ run, by, title, filter, choose }: FacetProps): JSX.Element | null {
  const { value, problem } = useAsked(
    `${run} ${by} ${filter}`,
    (signal) => ask<Facets>(runPath(run, "/facets"), { by, filter }, signal),
    samplesNews.value,
  );
  if (problem && value === null) return null;
  if (value === null) return <Skeleton lines={3} height={12} />;
  const most = Math.max(1, ...value.values.map((one) => one.num_samples));
  return (
    <section>
      <h2 class="minor">{title}</h2>
      <ul>
        {value.values.slice(0, 30).map((one) => (
          <li key={one.value}>
            <button type="button" class="bare facet" onClick={() => choose(both(filter, facetFilter(by, one.value)))}>
              <span class="facet-bar" style={{ width: `${(100 * one.num_samples) / most}%` }} />
              <span class="clip">{one.value === "" ? "(none)" : one.value}</span>
              <span>{count(one.num_samples)}</span>
            </button>
          </li>
        ))}
      </ul>
      {value.values.length > 30 && <p class="quiet">and {value.values.length - 30 + value.num_others} more</p>}
    </section>
  );
}
