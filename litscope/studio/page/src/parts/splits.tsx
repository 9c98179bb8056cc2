/** Which split a view is about, and what is shown until its answer is there. */
import type { ComponentChildren, JSX } from "preact";
import type { RunDetail } from "../api/types.ts";
import { equals } from "../logic/filters.ts";
import { count } from "../logic/format.ts";
import type { Asked } from "../state/asking.ts";
import { openSamples, route, setParams } from "../state/navigation.ts";
import { Note, Skeleton, Trouble } from "./states.tsx";

export interface ViewProps {
  run: string;
  known: RunDetail;
}

/** The split that is looked at: the one of the address, else the first of val, test, train that there is. */
export function splitOf(known: RunDetail): string {
  const named = route.value.params.split;
  if (named !== undefined && named in known.splits) return named;
  return ["val", "test", "train"].find((split) => (known.splits[split] ?? 0) > 0) ?? "val";
}

export function SplitTools({ known, children }: { known: RunDetail; children?: ComponentChildren }): JSX.Element {
  return (
    <div class="tools">
      <label>
        split
        <select value={splitOf(known)} onChange={(event) => setParams({ split: event.currentTarget.value })}>
          {Object.entries(known.splits).map(([name, num]) => (
            <option key={name} value={name}>
              {name} ({count(num)})
            </option>
          ))}
        </select>
      </label>
      {children}
      {known.edited_evaluation.warning !== null && <Note kind="warning">{known.edited_evaluation.warning}</Note>}
    </div>
  );
}

export function Waiting({ asked }: { asked: Asked<unknown> }): JSX.Element {
  return asked.problem ? <Trouble problem={asked.problem} /> : <Skeleton lines={8} height={36} />;
}

/** The samples of a cell of the confusion matrix. */
export function openCell(split: string, label: string, pred: string): void {
  openSamples(`split = ${split} and ${equals("current_name", label)} and ${equals("pred_name", pred)}`);
}
