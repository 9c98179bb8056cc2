/** Colours of the page as canvases need them, from the style sheet; light or dark as the system prefers. */
import { signal } from "@preact/signals";

const dark = matchMedia("(prefers-color-scheme: dark)");
/** Changes with the system's preference: what draws on a canvas draws anew. */
export const isDark = signal(dark.matches);
dark.addEventListener("change", () => {
  isDark.value = dark.matches;
});

export function colour(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

/** Eight colours that people with any kind of colour vision tell apart (Okabe and Ito), the accent first. */
export function seriesColour(index: number): string {
  return colour(`series-${index % 8}`);
}

/** Dashes tell curves apart where colours do not. */
export const DASHES: number[][] = [[], [6, 3], [2, 2], [8, 3, 2, 3], [1, 3], [10, 4], [4, 2, 1, 2], [3, 6]];
