/** What the page knows, as signals; one place keeps it current from the stream of news. */
import { computed, effect, signal } from "@preact/signals";
import { listen, type News } from "../api/events.ts";
import { ask, asProblem, type Problem, runPath } from "../api/http.ts";
import type { RunDetail, RunLine, Session } from "../api/types.ts";
import { heardOfActions } from "./acting.ts";
import { route } from "./navigation.ts";

export const session = signal<Session | null>(null);
export const runs = signal<RunLine[] | null>(null);
export const folders = signal<string[]>([]);
export const detail = signal<RunDetail | null>(null);
/** Why the list of runs, or the open run, could not be read. */
export const runsProblem = signal<Problem | null>(null);
export const detailProblem = signal<Problem | null>(null);
export const isConnected = signal(true);
/** Counts up when there are new metrics, decisions, values of samples: views ask anew. */
export const metricsNews = signal(0);
export const journalNews = signal(0);
export const samplesNews = signal(0);

export const runId = computed(() => route.value.run);

async function loadRuns(): Promise<void> {
  try {
    const answer = await ask<{ runs: RunLine[]; folders: string[] }>("runs");
    runs.value = answer.runs;
    folders.value = answer.folders;
    runsProblem.value = null;
  } catch (error) {
    runsProblem.value = asProblem(error);
  }
}

export async function loadDetail(run: string): Promise<void> {
  try {
    const answer = await ask<RunDetail>(runPath(run));
    if (runId.value !== run) return;
    detail.value = answer;
    detailProblem.value = null;
  } catch (error) {
    if (runId.value === run) detailProblem.value = asProblem(error);
  }
}

async function loadSession(): Promise<void> {
  try {
    session.value = await ask<Session>("session");
  } catch (error) {
    runsProblem.value = asProblem(error);
  }
}

function heard<K extends keyof News>(name: K, news: News[K]): void {
  const open = runId.value;
  if (name === "runs") {
    const { runs: changed, gone } = news as News["runs"];
    const known = new Map(changed.map((line) => [line.id, line]));
    const kept = (runs.value ?? []).filter((line) => !gone.includes(line.id));
    const fresh = changed.filter((line) => !kept.some((old) => old.id === line.id));
    runs.value = [...fresh, ...kept.map((line) => known.get(line.id) ?? line)];
    return;
  }
  if (!("run" in news) || news.run !== open) return;
  if (name === "run" && detail.value?.line.id === open) {
    const { line, settings, is_paused, controls } = news as News["run"];
    const hasEnded = detail.value.line.state !== line.state;
    detail.value = { ...detail.value, line, settings, is_paused, controls };
    if (hasEnded) void loadDetail(open);
  } else if (name === "metrics") {
    metricsNews.value += 1;
  } else if (name === "journal") {
    heardOfActions((news as News["journal"]).actions);
    journalNews.value += 1;
    metricsNews.value += 1;
    void loadDetail(open);
  } else if (name === "samples") {
    samplesNews.value += 1;
    if ((news as News["samples"]).why === "epoch") void loadDetail(open);
  }
}

/** Begin: the list once, and the news from then on. */
export function start(): void {
  void loadSession();
  void loadRuns();
  let hasLost = false;
  effect(() => {
    const run = runId.value;
    detail.value = null;
    detailProblem.value = null;
    if (run !== null) void loadDetail(run);
    return listen(run, heard, (is) => {
      isConnected.value = is;
      if (is && hasLost) {
        void loadRuns();
        if (run !== null) void loadDetail(run);
        metricsNews.value += 1;
        samplesNews.value += 1;
      }
      hasLost = !is;
    });
  });
}
