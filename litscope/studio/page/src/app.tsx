/** The page: rail, bar, tabs, and the view that the address names. */
import type { JSX } from "preact";
import { useEffect } from "preact/hooks";
import type { RunDetail } from "./api/types.ts";
import { Bar } from "./parts/bar.tsx";
import { Icon } from "./parts/icons.tsx";
import { Legend, showLegend } from "./parts/legend.tsx";
import { Messages } from "./parts/messages.tsx";
import { Rail, RailButton } from "./parts/rail.tsx";
import { Skeleton, Trouble } from "./parts/states.tsx";
import { useKeys } from "./state/keys.ts";
import { follow, href, openView, route } from "./state/navigation.ts";
import type { View } from "./state/route.ts";
import { detail, detailProblem, isConnected, loadDetail, session } from "./state/store.ts";
import { CalibrationView } from "./views/calibration.tsx";
import { ClassesView } from "./views/classes.tsx";
import { CompareView } from "./views/compare.tsx";
import { ConfusionView } from "./views/confusion.tsx";
import { CurvesView } from "./views/curves.tsx";
import { MapView } from "./views/map.tsx";
import { ReviewView } from "./views/review.tsx";
import { RunsView } from "./views/runs.tsx";
import { SamplesView } from "./views/samples.tsx";

interface Tab {
  view: View;
  name: string;
  show: (run: string, known: RunDetail) => JSX.Element;
}

const TABS: Tab[] = [
  { view: "curves", name: "Run", show: (run, known) => <CurvesView run={run} known={known} /> },
  { view: "samples", name: "Samples", show: (run, known) => <SamplesView run={run} known={known} /> },
  { view: "review", name: "Review", show: (run, known) => <ReviewView run={run} known={known} /> },
  { view: "map", name: "Map", show: (run, known) => <MapView run={run} known={known} /> },
  { view: "confusion", name: "Confusion", show: (run, known) => <ConfusionView run={run} known={known} /> },
  { view: "classes", name: "Classes", show: (run, known) => <ClassesView run={run} known={known} /> },
  { view: "calibration", name: "Calibration", show: (run, known) => <CalibrationView run={run} known={known} /> },
];

export function App(): JSX.Element {
  const { run, compare } = route.value;
  const name = detail.value?.line.name;
  useEffect(() => {
    document.title = name === undefined ? "litscope studio" : `${name} · litscope studio`;
  }, [name]);
  return (
    <div class="page">
      <button type="button" class="skip" onClick={() => document.getElementById("main")?.focus()}>
        Skip to the content
      </button>
      <Rail />
      <div class="desk">
        <div class="top">
          <RailButton />
          {run !== null ? <Bar key={run} run={run} /> : <header class="bar" />}
          <Connection />
          <button type="button" class="bare" aria-label="Keys" title="Keys (?)" onClick={showLegend}>
            <Icon name="question" />
          </button>
        </div>
        {run !== null ? <Run key={run} run={run} /> : <Overview compare={compare} />}
      </div>
      <Messages />
      <Legend />
    </div>
  );
}

function Connection(): JSX.Element {
  return (
    <span class="connection" role="status">
      {!isConnected.value && (
        <span class="lost">
          <Icon name="warning" /> Not connected. What you see may be old; trying again.
        </span>
      )}
      {isConnected.value && session.value?.is_read_only && (
        <span class="quiet">
          <Icon name="eye" /> read only
        </span>
      )}
    </span>
  );
}

function Overview({ compare }: { compare: string[] }): JSX.Element {
  return (
    <main id="main" class="main" tabIndex={-1}>
      {compare.length > 1 ? <CompareView ids={compare} /> : <RunsView />}
    </main>
  );
}

function Run({ run }: { run: string }): JSX.Element {
  const known = detail.value;
  const tab = TABS.find((one) => one.view === route.value.view) ?? (TABS[0] as Tab);
  useKeys(
    "Views",
    TABS.map((one, index) => ({
      keys: [`shift+${"!@#$%^&"[index]}`, "!@#$%^&"[index] ?? ""],
      shown: `Shift ${index + 1}`,
      meaning: one.name,
      run: () => openView(one.view),
    })),
  );
  return (
    <>
      <nav class="tabs" aria-label="Views">
        {TABS.map((one) => (
          <a
            key={one.view}
            href={href({ view: one.view, params: {}, sample: null })}
            class={one === tab ? "tab tab-here" : "tab"}
            aria-current={one === tab ? "page" : undefined}
            onClick={(event) => follow(event, { view: one.view, params: {}, sample: null })}
          >
            {one.name}
          </a>
        ))}
      </nav>
      <main id="main" class="main" tabIndex={-1}>
        {detailProblem.value !== null && known === null ? (
          <>
            <Trouble problem={detailProblem.value} again={() => void loadDetail(run)} />
            <p>
              <a href={href({ run: null })} onClick={(event) => follow(event, { run: null })}>
                All runs
              </a>
            </p>
          </>
        ) : known === null ? (
          <Skeleton lines={10} height={30} />
        ) : (
          tab.show(run, known)
        )}
      </main>
    </>
  );
}
