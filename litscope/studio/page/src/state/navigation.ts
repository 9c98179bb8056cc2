/** The route as a signal, and the ways to change it. */
import { signal } from "@preact/signals";
import { formatRoute, parseRoute, type Route, type View } from "./route.ts";

export const route = signal<Route>(parseRoute(location.search));

addEventListener("popstate", () => {
  route.value = parseRoute(location.search);
});

/** Go somewhere else: a new entry in the history, unless the change is a detail of what is looked at. */
export function go(change: Partial<Route>, isDetail = false): void {
  const next = { ...route.value, ...change };
  const text = formatRoute(next);
  if (text === formatRoute(route.value)) return;
  if (isDetail) history.replaceState(null, "", text);
  else history.pushState(null, "", text);
  route.value = next;
}

export function openRun(run: string, view: View = "curves", params: Record<string, string> = {}): void {
  go({ run, compare: [], view, sample: null, params });
}

export function openView(view: View, params: Record<string, string> = {}): void {
  go({ view, params, sample: null });
}

export function openSamples(filter: string, sort = ""): void {
  openView("samples", { filter, sort });
}

export function setParams(change: Record<string, string>, isDetail = true): void {
  go({ params: { ...route.value.params, ...change } }, isDetail);
}

/** The address of a link, for those that are opened in a new tab. */
export function href(change: Partial<Route>): string {
  return formatRoute({ ...route.value, ...change });
}

/** A click on a link that stays on the page; with a modifier key it is the browser's. */
export function follow(event: MouseEvent, change: Partial<Route>): void {
  if (event.metaKey || event.ctrlKey || event.shiftKey || event.button !== 0) return;
  event.preventDefault();
  go(change);
}
