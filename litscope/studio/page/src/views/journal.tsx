/** What people and policies asked of the run, and what became of it, newest first. */
import { useSignal } from "@preact/signals";
import type { JSX } from "preact";
import { ask, runPath } from "../api/http.ts";
import type { Action, Journal, RunDetail } from "../api/types.ts";
import { ago, count, number, tail } from "../logic/format.ts";
import { Icon, type IconName } from "../parts/icons.tsx";
import { Skeleton, Trouble } from "../parts/states.tsx";
import { undo } from "../state/acting.ts";
import { useAsked } from "../state/asking.ts";
import { journalNews } from "../state/store.ts";

export const STATUS_ICONS: Record<Action["status"], IconName> = {
  pending: "clock",
  applied: "check",
  refused: "warning",
  undone: "undo",
};

export function JournalPanel({ run, known }: { run: string; known: RunDetail }): JSX.Element {
  const limit = useSignal(50);
  const { value, problem } = useAsked(
    `${run} ${limit.value}`,
    (signal) => ask<Journal>(runPath(run, "/journal"), { limit: limit.value }, signal),
    journalNews.value,
  );
  return (
    <aside class="journal" aria-label="Journal and recipe">
      <h2>Journal</h2>
      {problem && value === null && <Trouble problem={problem} />}
      {value === null && problem === null && <Skeleton lines={4} />}
      {value !== null && value.actions.length === 0 && (
        <p class="quiet">
          Nobody has changed anything in this run. What is done here, or by litscope on a command line, stands here with
          its step.
        </p>
      )}
      <ol>
        {value?.actions.map((action) => (
          <Entry key={action.id} action={action} />
        ))}
      </ol>
      {value?.has_more && (
        <button type="button" class="link" onClick={() => (limit.value += 200)}>
          More of {count(value.total)}
        </button>
      )}
      {known.clock && <p class="quiet">{known.clock}</p>}
      <details>
        <summary>Recipe</summary>
        <pre tabIndex={0}>{known.recipe}</pre>
      </details>
    </aside>
  );
}

export function Entry({ action }: { action: Action }): JSX.Element {
  return (
    <li class={`entry entry-${action.status}`}>
      <Icon name={STATUS_ICONS[action.status]} />
      <div>
        <p>
          {action.text}
          {action.why && <q>{action.why}</q>}
        </p>
        <p class="quiet">
          {action.status}
          {action.step !== null && ` at step ${count(action.step)}`} · {action.who} ·{" "}
          {ago(action.asked_at, Date.now() / 1000)}
        </p>
        {action.note && <p class="quiet">{action.note}</p>}
        {action.reason && <p class="refused">{action.reason}</p>}
        {action.result && <p class="quiet">{resultText(action.result)}</p>}
      </div>
      {action.can_undo && (
        <button type="button" class="link" aria-label={`Undo: ${action.text}`} onClick={() => void undo(action.id)}>
          Undo
        </button>
      )}
    </li>
  );
}

function resultText(result: Record<string, unknown>): string {
  return Object.entries(result)
    .filter(([, value]) => typeof value === "number" || typeof value === "string")
    .map(([name, value]) => `${name} ${typeof value === "number" ? number(value) : tail(String(value), 34)}`)
    .join(", ");
}
