/** Actions: answered at once in a message, confirmed when the trainer has applied them, taken back from the message. */
import { signal } from "@preact/signals";
import { asProblem, runPath, tell } from "../api/http.ts";
import type { Action, Answer, Chosen, Wish } from "../api/types.ts";
import { counted } from "../logic/format.ts";
import { route } from "./navigation.ts";
import { detail as known } from "./store.ts";

export interface Message {
  id: number;
  kind: "asking" | "waiting" | "done" | "refused";
  text: string;
  detail: string;
  /** The action that the message is about, once it has an id. */
  action: string | null;
  undo: string | null;
}

export const messages = signal<Message[]>([]);
/** A question that stands between a wish and its being sent. */
export const question = signal<{ text: string; yes: string; answer: (yes: boolean) => void } | null>(null);
/** What was heard of an action before its answer came. */
const early = new Map<string, Action>();
const LINGERS_MS = 9000;
const MOST = 4;
let lastId = 0;

export function say(kind: Message["kind"], text: string, detail = ""): number {
  lastId += 1;
  const message: Message = { id: lastId, kind, text, detail, action: null, undo: null };
  messages.value = [...messages.value.slice(1 - MOST), message];
  if (kind === "done") dismissLater(lastId);
  return lastId;
}

export function dismiss(id: number): void {
  messages.value = messages.value.filter((message) => message.id !== id);
}

function dismissLater(id: number): void {
  setTimeout(() => dismiss(id), LINGERS_MS);
}

function change(id: number, part: Partial<Message>): void {
  messages.value = messages.value.map((message) => (message.id === id ? { ...message, ...part } : message));
}

/** Ask a person, who may say no. */
export function confirmed(text: string, yes: string): Promise<boolean> {
  return new Promise((resolve) => {
    question.value = {
      text,
      yes,
      answer: (is) => {
        question.value = null;
        resolve(is);
      },
    };
  });
}

/** Runs whose warning about edits of evaluation samples was read in this tab. */
const warned = new Set<string>();

async function mayEdit(run: string, wish: Wish): Promise<boolean> {
  if (wish.samples === undefined || warned.has(run)) return true;
  const trial = await tell<Answer>(runPath(run, "/actions"), { ...wish, dry_run: true });
  if (trial.warning === null) return true;
  const goesOn = await confirmed(trial.warning, "Go on");
  if (goesOn) warned.add(run);
  return goesOn;
}

/**
 * Ask for an action. Returns the answer, or null if it was refused at once or not wanted after all.
 *
 * @param doing What is done, for the message: "Discard 20 samples".
 */
export async function act(wish: Wish, doing: string): Promise<Answer | null> {
  const run = route.value.run;
  if (run === null) return null;
  const id = say("asking", doing);
  try {
    if (!(await mayEdit(run, wish))) {
      dismiss(id);
      return null;
    }
    const answer = await tell<Answer>(runPath(run, "/actions"), wish);
    const detail = [answer.warning, answer.sentence].filter(Boolean).join(" ");
    change(id, {
      kind: "waiting",
      detail,
      action: answer.action?.id ?? null,
      undo: answer.undo?.action ?? null,
    });
    if (answer.action !== null) {
      settle(id, early.get(answer.action.id) ?? answer.action);
      early.delete(answer.action.id);
    }
    // Where nothing trains, nothing answers: the journal keeps it for the next time.
    const state = known.value?.line.state;
    if (state !== "running" && state !== "paused") dismissLater(id);
    return answer;
  } catch (error) {
    change(id, { kind: "refused", detail: asProblem(error).message });
    return null;
  }
}

export async function undo(action?: string): Promise<void> {
  await act(action === undefined ? { what: "undo" } : { what: "undo", action }, "Undo");
}

function settle(id: number, action: Action): void {
  const at = action.step === null ? "" : ` at step ${action.step}`;
  if (action.status === "applied") change(id, { kind: "done", detail: `Applied${at}.` });
  if (action.status === "refused") change(id, { kind: "refused", detail: action.reason ?? "Refused.", undo: null });
  if (action.status === "undone") change(id, { kind: "done", detail: `Undone${at}.`, undo: null });
  // What waits, or was refused, stays until somebody has seen it.
  if (action.status === "applied" || action.status === "undone") dismissLater(id);
}

export function heardOfActions(actions: Action[]): void {
  for (const action of actions) {
    const message = messages.value.find((one) => one.action === action.id);
    if (message) settle(message.id, action);
    else if (action.status !== "pending") early.set(action.id, action);
  }
  while (early.size > 100) early.delete(early.keys().next().value as string);
}

const DOING: Record<string, string> = {
  discard: "Discard",
  restore: "Restore",
  relabel: "Relabel",
  reweight: "Reweight",
  tag: "Tag",
  untag: "Untag",
};

/** An edit of samples. */
export function edit(
  what: string,
  samples: Chosen,
  numSamples: number,
  more: Partial<Wish> = {},
): Promise<Answer | null> {
  const object = more.label ?? more.tag ?? (more.weight === undefined ? "" : String(more.weight));
  const link = object === "" ? "" : what === "relabel" || what === "reweight" ? ` to ${object}` : `: ${object}`;
  const doing = `${DOING[what] ?? what} ${counted(numSamples, "sample")}${link}`;
  return act({ what, samples, ...more }, doing);
}
