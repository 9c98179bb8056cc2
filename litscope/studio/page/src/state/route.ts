/** What is looked at, as it stands in the address: so a view can be reloaded, linked and gone back to. */

export const VIEWS = ["curves", "samples", "review", "map", "confusion", "classes", "calibration"] as const;
export type View = (typeof VIEWS)[number];

export interface Route {
  /** The id of the open run, or none: the list of runs. */
  run: string | null;
  /** The runs that are compared, where there are any. */
  compare: string[];
  view: View;
  /** The sample in the drawer. */
  sample: number | null;
  /** What a view remembers of itself: filter, sort, axis, ... */
  params: Record<string, string>;
}

const OWN = new Set(["run", "compare", "view", "sample"]);

export function parseRoute(search: string): Route {
  const query = new URLSearchParams(search);
  const view = query.get("view");
  const sample = query.get("sample");
  const params: Record<string, string> = {};
  for (const [name, value] of query) {
    if (!OWN.has(name)) params[name] = value;
  }
  return {
    run: query.get("run") || null,
    compare: (query.get("compare") ?? "").split(",").filter((id) => id !== ""),
    view: VIEWS.find((known) => known === view) ?? "curves",
    sample: sample !== null && /^\d+$/.test(sample) ? Number(sample) : null,
    params,
  };
}

export function formatRoute(route: Route): string {
  const query = new URLSearchParams();
  if (route.run !== null) query.set("run", route.run);
  if (route.compare.length > 0) query.set("compare", route.compare.join(","));
  if (route.run !== null && route.view !== "curves") query.set("view", route.view);
  if (route.sample !== null) query.set("sample", String(route.sample));
  for (const [name, value] of Object.entries(route.params)) {
    if (value !== "") query.set(name, value);
  }
  const text = query.toString();
  return text === "" ? "?" : `?${text}`;
}
