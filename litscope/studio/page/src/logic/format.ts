/** Numbers, times and names as a person reads them. */

/** Four significant digits, no trailing zeros beyond need; scientific where it is shorter. */
export function number(value: number | null | undefined, digits = 4): string {
  if (value === null || value === undefined) return "–";
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  if (Number.isInteger(value) && Math.abs(value) < 1e9) return count(value);
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-4 || size >= 1e7)) return value.toExponential(2).replace("-", "−");
  const places = Math.max(0, digits - 1 - Math.floor(Math.log10(size)));
  return value.toFixed(Math.min(places, digits)).replace("-", "−");
}

/** A number on an axis, without the zeros that a table keeps. */
export function tick(value: number): string {
  const text = number(value, 6);
  return text.includes(".") && !text.includes("e") ? text.replace(/\.?0+$/, "") : text;
}

export function count(value: number): string {
  return value.toLocaleString("en-US").replace("-", "−");
}

export function percent(value: number | null | undefined, places = 1): string {
  return value === null || value === undefined || Number.isNaN(value) ? "–" : `${(100 * value).toFixed(places)} %`;
}

/** `1 sample`, `20 samples`. */
export function counted(value: number, noun: string, plural = `${noun}s`): string {
  return `${count(value)} ${value === 1 ? noun : plural}`;
}

/** A length of time in its two largest units. */
export function duration(seconds: number | null | undefined): string {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "–";
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  return `${Math.floor(whole / 86400)} d ${Math.floor((whole % 86400) / 3600)} h`;
}

/** `just now`, `5 min ago`, or the date. */
export function ago(time: number | null, now: number): string {
  if (time === null) return "–";
  const seconds = now - time;
  if (seconds < 45) return "just now";
  if (seconds < 86400) return `${duration(seconds).split(" ").slice(0, 2).join(" ")} ago`;
  return new Date(1000 * time).toISOString().slice(0, 16).replace("T", " ");
}

/** Any value of a cell. */
export function cell(value: number | string | boolean | string[] | null | undefined): string {
  if (value === null || value === undefined) return "–";
  if (typeof value === "number") return number(value);
  if (typeof value === "boolean") return value ? "yes" : "no";
  return Array.isArray(value) ? value.join(", ") : value;
}

/** The end of a path, which tells more than its beginning. */
export function tail(key: string, length = 24): string {
  return key.length <= length ? key : `…${key.slice(1 - length)}`;
}
