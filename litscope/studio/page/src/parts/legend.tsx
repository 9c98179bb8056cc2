/** The legend of keys, on `?`. */
import { signal } from "@preact/signals";
import type { JSX } from "preact";
import { groups, useKeys } from "../state/keys.ts";
import { Dialog } from "./dialog.tsx";

const isShown = signal(false);

export function showLegend(): void {
  isShown.value = true;
}

export function Legend(): JSX.Element | null {
  useKeys("Everywhere", [{ keys: ["?"], shown: "?", meaning: "this legend", run: showLegend }]);
  if (!isShown.value) return null;
  const names = [...new Set(groups.value.map((group) => group.name))].reverse();
  return (
    <Dialog title="Keys" close={() => (isShown.value = false)} isWide>
      <div class="legend">
        {names.map((name) => (
          <section key={name}>
            <h3>{name}</h3>
            <dl>
              {groups.value
                .filter((group) => group.name === name)
                .flatMap((group) => group.keys)
                .map((key) => (
                  <div key={key.shown}>
                    <dt>
                      <kbd>{key.shown}</kbd>
                    </dt>
                    <dd>{key.meaning}</dd>
                  </div>
                ))}
            </dl>
          </section>
        ))}
      </div>
      <div class="buttons">
        <button type="button" onClick={() => (isShown.value = false)}>
          Close
        </button>
      </div>
    </Dialog>
  );
}
