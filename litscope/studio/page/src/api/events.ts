/** The one stream of news per tab. EventSource reconnects by itself; the page shows whether it is connected. */
import { address } from "./http.ts";
import type { Action, Controls, Paused, RunLine, Setting } from "./types.ts";

export interface News {
  hello: { version: string };
  runs: { runs: RunLine[]; gone: string[] };
  run: { run: string; line: RunLine; settings: Setting[]; is_paused: Paused; controls: Controls };
  metrics: { run: string; step: number | null; epoch: number | null };
  journal: { run: string; actions: Action[] };
  samples: { run: string; revision: number; why: string };
  bye: Record<string, never>;
}

const NAMES = ["hello", "runs", "run", "metrics", "journal", "samples", "bye"] as const;

type Heard = <K extends keyof News>(name: K, news: News[K]) => void;

/** What goes from the stream, or from another tab that has it, to this one. */
interface Told {
  name: keyof News | "open" | "lost";
  data: string;
}

/**
 * Listen to news of all runs and, in detail, of the open one. Returns what ends it.
 *
 * A browser has six connections to a host for all its tabs, and a stream keeps one: seven streams, and nothing loads any
 * more. So tabs on the same run share the stream of one of them, and a tab that nobody sees has none. Who comes back, or
 * takes over, may have missed something: that is told as a connection that was lost and is there again.
 */
export function listen(run: string | null, heard: Heard, connected: (is: boolean) => void): () => void {
  const name = `litscope news ${new URL(document.baseURI).pathname} ${run ?? ""}`; // a proxy may have several studios
  const channel = new BroadcastChannel(name);
  let stop: (() => void) | null = null;

  function again(): void {
    connected(false);
    connected(true);
  }
  function take(told: Told, isOwn: boolean): void {
    if (told.name === "lost") connected(false);
    else if (told.name !== "open") heard(told.name, JSON.parse(told.data));
    else if (isOwn) connected(true);
    else again();
  }
  function lead(isLater: boolean): () => void {
    if (isLater) connected(false);
    return stream(run, (told) => {
      take(told, true);
      channel.postMessage(told);
    });
  }
  function look(): void {
    if (document.hidden) {
      stop?.();
      stop = null;
    } else if (stop === null) stop = inTurn(name, lead);
  }
  function seen(): void {
    if (!document.hidden && stop === null) again();
    look();
  }

  channel.onmessage = (event) => take(event.data as Told, false);
  document.addEventListener("visibilitychange", seen);
  look();
  return () => {
    document.removeEventListener("visibilitychange", seen);
    channel.close();
    stop?.();
  };
}

/** The stream itself. Returns what ends it. */
function stream(run: string | null, tell: (told: Told) => void): () => void {
  const source = new EventSource(address("events", { run: run ?? undefined }));
  for (const name of NAMES) {
    source.addEventListener(name, (event) => tell({ name, data: (event as MessageEvent<string>).data }));
  }
  source.onopen = () => tell({ name: "open", data: "" });
  source.onerror = () => tell({ name: "lost", data: "" });
  return () => source.close();
}

/**
 * Begin something once no other tab does it. Returns what ends it, or the waiting for it.
 *
 * Without locks, which browsers have for https and this machine only, each tab does it.
 */
function inTurn(name: string, begin: (isLater: boolean) => () => void): () => void {
  if (!("locks" in navigator)) return begin(false);
  const ended = new AbortController();
  const { signal } = ended;
  const held = (isLater: boolean) => () =>
    new Promise<void>((resolve) => {
      if (signal.aborted) return resolve();
      const end = begin(isLater);
      signal.addEventListener("abort", () => {
        end();
        resolve();
      });
    });
  void navigator.locks.request(name, { ifAvailable: true }, (lock) => {
    if (lock !== null) return held(false)();
    navigator.locks.request(name, { signal }, held(true)).catch(() => undefined); // it was ended before its turn
    return undefined;
  });
  return () => ended.abort();
}
