/** The rail: all runs, the open one marked. */
import { signal } from "@preact/signals";
import type { JSX } from "preact";
import { number } from "../logic/format.ts";
import { follow, href, route } from "../state/navigation.ts";
import { runs } from "../state/store.ts";
import { Icon } from "./icons.tsx";
import { Progress, StateMark } from "./marks.tsx";

/** On a narrow page the rail is folded away. */
export const isRailOpen = signal(false);

export function Rail(): JSX.Element {
  const open = route.value.run;
  return (
    <nav class={isRailOpen.value ? "rail rail-open" : "rail"} aria-label="Runs" id="rail">
      <a
        class={open === null ? "rail-home rail-here" : "rail-home"}
        href={href({ run: null, compare: [], sample: null, params: {} })}
        aria-current={open === null ? "page" : undefined}
        onClick={(event) => {
          isRailOpen.value = false;
          follow(event, { run: null, compare: [], sample: null, params: {} });
        }}
      >
        <img src="icon.svg" width="20" height="20" alt="" /> <span>All runs</span>
      </a>
      <ul>
        {(runs.value ?? []).map((line) => {
          const change = { run: line.id, compare: [], sample: null, params: {}, view: route.value.view };
          return (
            <li key={line.id}>
              <a
                class={line.id === open ? "rail-here" : ""}
                aria-current={line.id === open ? "page" : undefined}
                href={href(change)}
                title={line.path}
                onClick={(event) => {
                  isRailOpen.value = false;
                  follow(event, change);
                }}
              >
                <span class="rail-name">
                  <StateMark line={line} isShort />
                  <span class="clip">{line.name}</span>
                </span>
                <span class="rail-more">
                  <span class="clip">{line.metric ?? line.state}</span>
                  <span>{line.value === null ? "" : number(line.value, 3)}</span>
                </span>
                {(line.state === "running" || line.state === "paused") && <Progress line={line} />}
              </a>
            </li>
          );
        })}
      </ul>
    </nav>
  );
}

export function RailButton(): JSX.Element {
  return (
    <button
      type="button"
      class="bare rail-button"
      aria-label="Runs"
      aria-controls="rail"
      aria-expanded={isRailOpen.value}
      onClick={() => (isRailOpen.value = !isRailOpen.value)}
    >
      <Icon name="menu" />
    </button>
  );
}
