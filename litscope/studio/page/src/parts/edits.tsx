/** What can be done with samples: a strip of buttons, dialogs for what needs a word more, and the keys of all that. */
import { useSignal } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";
import type { Chosen, RunDetail } from "../api/types.ts";
import { counted } from "../logic/format.ts";
import { edit, undo } from "../state/acting.ts";
import { useKeys } from "../state/keys.ts";
import { Dialog } from "./dialog.tsx";
import { Icon, type IconName } from "./icons.tsx";

const USUAL_TAGS = ["ok", "unclear", "wrong", "blurred", "duplicate"];

/** The tags of the keys 1 to 9: those of this run, the most used first, then the usual ones. */
export function quickTags(tags: Record<string, number>): string[] {
  const used = Object.entries(tags)
    .sort((a, b) => b[1] - a[1] || a[0].localeCompare(b[0]))
    .map(([name]) => name);
  return [...new Set([...used, ...USUAL_TAGS])].slice(0, 9);
}

export interface Target {
  samples: Chosen;
  num: number;
}

interface EditsProps {
  known: RunDetail;
  /** What is acted on, or null: nothing is chosen. */
  target: () => Target | null;
  /** How many are chosen, for the words. */
  num: number;
  /** After an action was asked for. */
  done: (what: string) => void;
  keysOf: string;
}

type Asking = "relabel" | "reweight" | "tag" | "untag";

export function Edits({ known, target, num, done, keysOf }: EditsProps): JSX.Element {
  const note = useSignal("");
  const asking = useSignal<Asking | null>(null);
  const why = known.controls.edit;
  const tags = quickTags(known.tags);
  const isIdle = why !== null || num === 0;

  const run = (what: string, more: { label?: string; weight?: number; tag?: string } = {}) => {
    const chosen = target();
    asking.value = null;
    if (why !== null || chosen === null) return;
    const written = note.value.trim();
    note.value = "";
    void edit(what, chosen.samples, chosen.num, { ...more, ...(written === "" ? {} : { note: written }) }).then(
      (answer) => {
        if (answer !== null) done(what);
      },
    );
  };
  const ask = (what: Asking) => {
    if (why === null && target() !== null) asking.value = what;
  };

  useKeys(keysOf, [
    { keys: ["x"], shown: "X", meaning: "discard", run: () => run("discard") },
    { keys: ["e"], shown: "E", meaning: "restore", run: () => run("restore") },
    { keys: ["k"], shown: "K", meaning: "keep: tag as ok", run: () => run("tag", { tag: "ok" }) },
    { keys: ["r"], shown: "R", meaning: "relabel", run: () => ask("relabel") },
    {
      keys: ["b"],
      shown: "B",
      meaning: "relabel to the believed class",
      run: () => run("relabel", { label: "believed" }),
    },
    { keys: ["w"], shown: "W", meaning: "weight", run: () => ask("reweight") },
    { keys: ["t"], shown: "T", meaning: "tag", run: () => ask("tag") },
    { keys: ["shift+t"], shown: "Shift T", meaning: "take a tag away", run: () => ask("untag") },
    ...tags.map((tag, index) => ({
      keys: [String(index + 1)],
      shown: String(index + 1),
      meaning: `tag: ${tag}`,
      run: () => run("tag", { tag }),
    })),
  ]);

  const button = (icon: IconName, text: string, key: string, deed: () => void) => (
    <button
      type="button"
      aria-disabled={isIdle}
      title={why ?? `${text} (${key})`}
      aria-keyshortcuts={key}
      onClick={deed}
    >
      <Icon name={icon} /> <span class="edit-text">{text}</span>
    </button>
  );
  return (
    <div class="edits" role="group" aria-label="Actions on samples">
      {button("cross", "Discard", "X", () => run("discard"))}
      {button("restore", "Restore", "E", () => run("restore"))}
      {button("pen", "Relabel", "R", () => ask("relabel"))}
      {button("weight", "Weight", "W", () => ask("reweight"))}
      {button("tag", "Tag", "T", () => ask("tag"))}
      {button("check", "Keep", "K", () => run("tag", { tag: "ok" }))}
      <button
        type="button"
        title={known.controls.edit ?? "Undo the last action (U)"}
        aria-disabled={why !== null}
        onClick={() => void undo()}
      >
        <Icon name="undo" /> <span class="edit-text">Undo</span>
      </button>
      <input
        type="text"
        class="note-input"
        placeholder="note (optional)"
        aria-label="Note for the next action"
        value={note.value}
        onInput={(event) => (note.value = event.currentTarget.value)}
      />
      {why !== null && <span class="quiet">{why}</span>}
      {asking.value === "relabel" && (
        <Choose
          title={`Relabel ${counted(num, "sample")}`}
          options={["believed", ...known.classes]}
          hints={{ believed: "what the model believes of each" }}
          choose={(label) => run("relabel", { label })}
          close={() => (asking.value = null)}
        />
      )}
      {(asking.value === "tag" || asking.value === "untag") && (
        <Choose
          title={`${asking.value === "tag" ? "Tag" : "Take a tag away from"} ${counted(num, "sample")}`}
          options={asking.value === "tag" ? tags : Object.keys(known.tags)}
          isOpen={asking.value === "tag"}
          choose={(tag) => run(asking.value === "untag" ? "untag" : "tag", { tag })}
          close={() => (asking.value = null)}
        />
      )}
      {asking.value === "reweight" && (
        <Weigh num={num} weigh={(weight) => run("reweight", { weight })} close={() => (asking.value = null)} />
      )}
    </div>
  );
}

interface ChooseProps {
  title: string;
  options: string[];
  hints?: Record<string, string>;
  /** Whether what is typed may be something new. */
  isOpen?: boolean;
  choose: (value: string) => void;
  close: () => void;
}

/** A list that typing narrows; Enter takes the first. */
function Choose({ title, options, hints = {}, isOpen = false, choose, close }: ChooseProps): JSX.Element {
  const typed = useSignal("");
  const input = useRef<HTMLInputElement>(null);
  useEffect(() => input.current?.focus(), []);
  const wanted = typed.value.trim().toLowerCase();
  const found = options.filter((option) => option.toLowerCase().includes(wanted)).slice(0, 200);
  const isNew = isOpen && wanted !== "" && !options.includes(typed.value.trim());
  return (
    <Dialog title={title} close={close}>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          const exact = options.find((option) => option.toLowerCase() === wanted);
          const value = exact ?? (isNew ? typed.value.trim() : found[0]);
          if (value !== undefined) choose(value);
        }}
      >
        <input
          ref={input}
          type="text"
          class="wide"
          aria-label={isOpen ? "Name" : "Search"}
          placeholder={isOpen ? "a name, or choose below" : "type to search"}
          value={typed.value}
          onInput={(event) => (typed.value = event.currentTarget.value)}
        />
        <ul class="choices">
          {isNew && (
            <li>
              <button type="button" onClick={() => choose(typed.value.trim())}>
                new: {typed.value.trim()}
              </button>
            </li>
          )}
          {found.map((option) => (
            <li key={option}>
              <button type="button" onClick={() => choose(option)}>
                {option} {hints[option] && <span class="quiet">{hints[option]}</span>}
              </button>
            </li>
          ))}
        </ul>
        {found.length === 0 && !isNew && <p class="quiet">Nothing of that name.</p>}
      </form>
    </Dialog>
  );
}

function Weigh({
  num,
  weigh,
  close,
}: {
  num: number;
  weigh: (weight: number) => void;
  close: () => void;
}): JSX.Element {
  const value = useSignal("0.5");
  const weight = Number(value.value);
  const isWeight = value.value.trim() !== "" && Number.isFinite(weight) && weight >= 0;
  return (
    <Dialog title={`Weight of ${counted(num, "sample")}`} close={close}>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          if (isWeight) weigh(weight);
        }}
      >
        <label class="inline">
          weight in the loss
          <input
            type="text"
            inputMode="decimal"
            size={8}
            value={value.value}
            onInput={(event) => (value.value = event.currentTarget.value)}
          />
        </label>
        <p class="quiet">1 is the usual weight, 0 takes a sample out of the loss but keeps it in the epoch.</p>
        <div class="buttons">
          <button type="submit" class="primary" disabled={!isWeight}>
            Set
          </button>
          <button type="button" onClick={close}>
            Cancel
          </button>
        </div>
      </form>
    </Dialog>
  );
}
