/** Filters in the service's grammar, put together from clicks. */

/** A text as the grammar quotes it. */
export function quoted(text: string): string {
  return `"${text.replaceAll('"', '""')}"`;
}

export function equals(column: string, value: string): string {
  return `${column} = ${quoted(value)}`;
}

/** Both conditions; an empty one asks for nothing. */
export function both(first: string, second: string): string {
  if (first.trim() === "") return second.trim();
  if (second.trim() === "") return first.trim();
  return `${bracketed(first)} and ${bracketed(second)}`;
}

function bracketed(filter: string): string {
  return / or /i.test(filter) ? `(${filter.trim()})` : filter.trim();
}

/** The samples of training steps, the ones that were hard then first. */
export function ofSteps(first: number, last: number): { filter: string; sort: string } {
  return { filter: `steps(${Math.floor(first)}, ${Math.ceil(last)})`, sort: "-step_loss" };
}

/** What lies inside of a polygon over two columns; corners that add nothing are left out. */
export function inside(x: string, y: string, corners: readonly (readonly [number, number])[]): string {
  const points = corners.map(([a, b]) => `${plain(a)} ${plain(b)}`);
  return `inside(${x}, ${y}, ${points.join(", ")})`;
}

function plain(value: number): string {
  return String(Number(value.toPrecision(6)));
}

/** A polygon with at most `most` corners, evenly thinned. */
export function thinned<T>(corners: readonly T[], most: number): T[] {
  if (corners.length <= most) return [...corners];
  return Array.from({ length: most }, (_, index) => corners[Math.floor((index * corners.length) / most)] as T);
}
