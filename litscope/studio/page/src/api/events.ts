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

/** Listen to news of all runs and, in detail, of the open one. Returns what ends it. */
export function listen(run: string | null, heard: Heard, connected: (is: boolean) => void): () => void {
  const source = new EventSource(address("events", { run: run ?? undefined }));
  for (const name of NAMES) {
    source.addEventListener(name, (event) => heard(name, JSON.parse((event as MessageEvent<string>).data)));
  }
  source.onopen = () => connected(true);
  source.onerror = () => connected(false);
  return () => source.close();
}
