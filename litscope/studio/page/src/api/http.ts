/** Questions to the service. Every error that reaches the page is a `Problem` with a sentence for a person. */
import { type Columns, decodeColumns } from "./columns.ts";

export class Problem extends Error {
  readonly status: number;
  readonly type: string;
  readonly field: string | null;
  readonly position: number | null;

  constructor(
    status: number,
    type: string,
    message: string,
    field: string | null = null,
    position: number | null = null,
  ) {
    super(message);
    this.status = status;
    this.type = type;
    this.field = field;
    this.position = position;
  }
}

type Values = Record<string, string | number | boolean | undefined>;

/** The address of a route, its parameters escaped; what is undefined is left out. */
export function address(path: string, values: Values = {}): string {
  const url = new URL(`api/${path}`, document.baseURI);
  for (const [name, value] of Object.entries(values)) {
    if (value !== undefined) url.searchParams.set(name, String(value));
  }
  return url.href;
}

/** The address of a route below a run. */
export function runPath(run: string, path = ""): string {
  return `runs/${encodeURIComponent(run)}${path}`;
}

export function imageAddress(run: string, sampleId: number, size?: number): string {
  return address(runPath(run, `/samples/${sampleId}/image`), { size });
}

async function answered(url: string, options: RequestInit): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(url, { credentials: "same-origin", ...options });
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new Problem(0, "Disconnected", "The studio does not answer. Is `litscope studio` still running?");
  }
  if (response.ok) return response;
  let told: { type?: string; message?: string; field?: string | null; position?: number | null } = {};
  try {
    told = ((await response.json()) as { error?: typeof told }).error ?? {};
  } catch {
    // No JSON: the status line is all that there is to tell.
  }
  throw new Problem(
    response.status,
    told.type ?? "Unexpected",
    told.message ?? `${response.status} ${response.statusText}`,
    told.field ?? null,
    told.position ?? null,
  );
}

export async function ask<T>(path: string, values: Values = {}, signal?: AbortSignal): Promise<T> {
  const response = await answered(address(path, values), signal ? { signal } : {});
  return (await response.json()) as T;
}

export async function askColumns(path: string, values: Values = {}, signal?: AbortSignal): Promise<Columns> {
  const response = await answered(address(path, values), signal ? { signal } : {});
  return decodeColumns(await response.arrayBuffer());
}

export async function tell<T>(path: string, body: unknown): Promise<T> {
  const response = await answered(address(path), {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
  return (await response.json()) as T;
}

/** Whether an error only says that nobody waits for the answer any more. */
export function isAborted(error: unknown): boolean {
  return error instanceof DOMException && error.name === "AbortError";
}

export function asProblem(error: unknown): Problem {
  return error instanceof Problem ? error : new Problem(0, "Unexpected", String(error));
}
