/** The keys of the page: views register theirs, `?` shows them. */
import { signal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";

export interface Key {
  /** As `KeyboardEvent.key`, lower case; `shift+a`; several names for one deed. */
  keys: string[];
  /** How the legend writes it. */
  shown: string;
  meaning: string;
  run: (event: KeyboardEvent) => void;
}

interface Group {
  name: string;
  keys: Key[];
}

export const groups = signal<Group[]>([]);

/** Keys that hold while a component is shown; later ones win. */
export function useKeys(name: string, keys: Key[]): void {
  const latest = useRef(keys);
  latest.current = keys;
  useEffect(() => {
    const group: Group = {
      name,
      get keys() {
        return latest.current;
      },
    };
    groups.value = [...groups.value, group];
    return () => {
      groups.value = groups.value.filter((other) => other !== group);
    };
  }, [name]);
}

export function keyName(event: KeyboardEvent): string {
  const name = event.key.toLowerCase();
  const withShift = event.shiftKey && (event.key.length > 1 || /[a-z]/i.test(event.key));
  return `${event.ctrlKey || event.metaKey ? "ctrl+" : ""}${withShift ? "shift+" : ""}${name}`;
}

function isTyping(target: EventTarget | null): boolean {
  if (!(target instanceof HTMLElement)) return false;
  return target.matches("textarea, select, input:not([type=checkbox], [type=range], [type=radio])");
}

export function hearKeys(): void {
  addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.altKey || isTyping(event.target)) return;
    if (document.querySelector("dialog[open]")) return;
    const name = keyName(event);
    const isOnControl = event.target instanceof HTMLElement && event.target.matches("button, a, summary, input");
    if (isOnControl && (name === "enter" || name === " ")) return;
    const isOnSlider = event.target instanceof HTMLElement && event.target.matches("input[type=range], [role=tab]");
    if (isOnSlider && name.startsWith("arrow")) return;
    for (const group of [...groups.value].reverse()) {
      const key = group.keys.find((one) => one.keys.includes(name));
      if (key) {
        event.preventDefault();
        key.run(event);
        return;
      }
    }
  });
}
