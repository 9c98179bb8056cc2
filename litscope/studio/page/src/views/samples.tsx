/** The samples: filtered, sorted, selected, acted upon. */
import { useSignal } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect, useMemo, useRef } from "preact/hooks";
import { ask, asProblem, runPath } from "../api/http.ts";
import type { Column, RunDetail } from "../api/types.ts";
import { count, counted } from "../logic/format.ts";
import { Ranges } from "../logic/ranges.ts";
import { Drawer } from "../parts/drawer.tsx";
import { Edits } from "../parts/edits.tsx";
import { FacetPanel } from "../parts/facets.tsx";
import { Grid, type TableColumn } from "../parts/grid.tsx";
import { Icon } from "../parts/icons.tsx";
import { Empty, Note, Skeleton, Trouble } from "../parts/states.tsx";
import { useKeys } from "../state/keys.ts";
import { go, route, setParams } from "../state/navigation.ts";
import { NOTHING, type Selection } from "../state/selecting.ts";
import { samplesNews } from "../state/store.ts";
import { SampleWindows } from "../state/windows.ts";

const SHOWN_IN_TABLE = ["key", "split", "current_name", "believed_name", "suspicion", "p_label", "mean_loss", "tags"];
const MOST_OWN_COLUMNS = 6;

export function SamplesView({ run, known }: { run: string; known: RunDetail }): JSX.Element {
  const { params, sample } = route.value;
  const filter = params.filter ?? "";
  const sort = params.sort ?? "";
  const size = Math.min(256, Math.max(48, Number(params.size ?? 96) || 96));
  const isTable = params.as === "rows" || (params.as !== "grid" && !known.has_images);
  const hasFacets = params.facets === "1";
  const round = useSignal(0);
  const selection = useSignal<Selection>(NOTHING);
  const names = tableColumns(known, sort);
  const shown =
    firstSort(sort) ?? (known.columns.some((column) => column.name === "suspicion") ? "suspicion" : "sample_id");
  // The grid shows one value of each sample; a table's p_label may take seconds to come the first time.
  const asked = isTable ? [...new Set([...names.map((column) => column.name), shown])].join(",") : shown;

  const windows = useMemo(() => {
    selection.value = NOTHING;
    return new SampleWindows({ run, filter, sort, columns: asked.split(",") });
  }, [run, filter, sort, round.value]);
  useEffect(() => () => windows.close(), [windows]);
  useEffect(() => windows.show(asked.split(",")), [windows, asked]);
  const news = samplesNews.value;
  const isFirst = useRef(true);
  useEffect(() => {
    if (isFirst.current) isFirst.current = false;
    else windows.refresh();
  }, [news]);

  const head = windows.head.value;
  const problem = windows.problem.value;
  const total = head?.total ?? 0;
  const selected = selection.value.ranges.size;
  const target = () => {
    if (head === null || total === 0) return null;
    if (selected > 0) {
      const ranges = selection.value.ranges.pairs.map(([first, last]): [number, number] => [first, last]);
      return { samples: { view: head.view, ranges }, num: selected };
    }
    const row = windows.row(selection.value.focus);
    return row === undefined ? null : { samples: { ids: [row.sample_id] }, num: 1 };
  };
  const openAt = (position: number) => {
    const row = windows.row(position);
    if (row !== undefined) go({ sample: row.sample_id }, sample !== null);
  };
  const step = (by: number) => {
    const position = Math.max(0, Math.min(total - 1, selection.value.focus + by));
    selection.value = { ...selection.value, focus: position, anchor: position };
    openAt(position);
  };
  const all = () => (selection.value = { ...selection.value, ranges: new Ranges([[0, total]]) });
  const again = () => (round.value += 1);

  useKeys("Samples", [
    { keys: ["/"], shown: "/", meaning: "search or filter", run: () => document.getElementById("filter")?.focus() },
    { keys: ["ctrl+a"], shown: "Ctrl A", meaning: "select all that match", run: all },
    {
      keys: ["escape"],
      shown: "Esc",
      meaning: "select nothing",
      run: () => (selection.value = { ...selection.value, ranges: new Ranges() }),
    },
    {
      keys: ["f"],
      shown: "F",
      meaning: "what these samples are",
      run: () => setParams({ facets: hasFacets ? "" : "1" }),
    },
    { keys: ["."], shown: ".", meaning: "the present order", run: again },
    {
      keys: ["+", "="],
      shown: "+ −",
      meaning: "larger or smaller",
      run: () => setParams({ size: String(Math.min(256, size + 16)) }),
    },
    { keys: ["-"], shown: "−", meaning: "smaller", run: () => setParams({ size: String(Math.max(48, size - 16)) }) },
  ]);

  return (
    <div class={sample !== null ? "view samples has-drawer" : "view samples"}>
      <div class="samples-main">
        <div class="tools">
          <button
            type="button"
            aria-pressed={hasFacets}
            title="What these samples are (F)"
            onClick={() => setParams({ facets: hasFacets ? "" : "1" })}
          >
            <Icon name="menu" /> Facets
          </button>
          <FilterBox key={filter} run={run} filter={filter} known={known} />
          <SortBox known={known} sort={head?.sort ?? sort} />
          {known.has_images && !isTable && (
            <label>
              size
              <input
                type="range"
                min="48"
                max="256"
                step="16"
                value={size}
                onInput={(event) => setParams({ size: event.currentTarget.value })}
              />
            </label>
          )}
          <span class="segments" role="group" aria-label="Show as">
            <button
              type="button"
              aria-pressed={!isTable}
              aria-label="as pictures"
              title="as pictures"
              onClick={() => setParams({ as: "grid" })}
            >
              <Icon name="grid" />
            </button>
            <button
              type="button"
              aria-pressed={isTable}
              aria-label="as rows"
              title="as rows"
              onClick={() => setParams({ as: "rows" })}
            >
              <Icon name="rows" />
            </button>
          </span>
        </div>
        <div class="strip-line">
          <span class="selected" role="status">
            {head === null
              ? "…"
              : selected > 0
                ? `${count(selected)} of ${count(total)} selected`
                : `${counted(total, "sample")}${total === head.total_all ? "" : ` of ${count(head.total_all)}`}`}
          </span>
          {selected > 0 && (
            <button
              type="button"
              class="link"
              onClick={() => (selection.value = { ...selection.value, ranges: new Ranges() })}
            >
              none
            </button>
          )}
          {total > 0 && selected < total && (
            <button type="button" class="link" onClick={all}>
              select all
            </button>
          )}
          <Edits
            known={known}
            target={target}
            num={selected > 0 ? selected : total > 0 ? 1 : 0}
            done={() => windows.refresh()}
            keysOf="Samples"
          />
          {head !== null && !head.is_current && (
            <button
              type="button"
              class="newer"
              title="The order is that of before; take the present one (.)"
              onClick={again}
            >
              <Icon name="reload" /> newer values
            </button>
          )}
        </div>
        {known.edited_evaluation.warning !== null && <Note kind="warning">{known.edited_evaluation.warning}</Note>}
        {problem !== null && <Trouble problem={problem} again={again} />}
        {head === null && problem === null && <Skeleton lines={8} height={60} />}
        <div class="samples-body">
          {hasFacets && (
            <FacetPanel run={run} known={known} filter={filter} choose={(next) => setParams({ filter: next }, false)} />
          )}
          {head !== null && total === 0 && (
            <Empty title="No sample matches">
              <p>{filter === "" ? "Nothing of this run is on record yet." : "The filter leaves nothing over."}</p>
              {filter !== "" && (
                <button type="button" onClick={() => setParams({ filter: "" }, false)}>
                  All samples
                </button>
              )}
            </Empty>
          )}
          {head !== null && total > 0 && (
            <Grid
              known={known}
              windows={windows}
              size={size}
              columns={isTable ? withExtras(names, known) : null}
              shown={shown}
              sort={head.sort}
              sortBy={(next) => setParams({ sort: next }, false)}
              selection={selection}
              focused={(position) => {
                if (sample !== null) openAt(position);
              }}
              open={openAt}
            />
          )}
        </div>
      </div>
      {sample !== null && <Drawer run={run} known={known} sampleId={sample} isQuiet={true} next={step} />}
    </div>
  );
}

function firstSort(sort: string): string | null {
  const first = sort.split(",")[0]?.replace(/^-/, "") ?? "";
  return first === "" ? null : first;
}

function tableColumns(known: RunDetail, sort: string): Column[] {
  const by = new Map(known.columns.map((column) => [column.name, column]));
  const own = known.columns
    .filter((column) => column.group === "source" || column.group === "custom")
    .slice(0, MOST_OWN_COLUMNS);
  const wanted = [...SHOWN_IN_TABLE, ...own.map((column) => column.name), firstSort(sort) ?? ""];
  return [...new Set(wanted)].flatMap((name) => by.get(name) ?? []);
}

function withExtras(columns: Column[], known: RunDetail): TableColumn[] {
  return [...(known.has_images ? (["picture"] as const) : []), ...columns, "history"];
}

/** The filter: checked while it is typed, taken on Enter. */
function FilterBox({ run, filter, known }: { run: string; filter: string; known: RunDetail }): JSX.Element {
  const typed = useSignal(filter);
  const told = useSignal("");
  const isWrong = useSignal(false);
  useEffect(() => {
    const text = typed.value.trim();
    if (text === filter) {
      told.value = "";
      isWrong.value = false;
      return;
    }
    const controller = new AbortController();
    const timer = setTimeout(async () => {
      try {
        const { total } = await ask<{ total: number }>(
          runPath(run, "/samples/count"),
          { filter: text },
          controller.signal,
        );
        told.value = counted(total, "match", "matches");
        isWrong.value = false;
      } catch (error) {
        if (controller.signal.aborted) return;
        const problem = asProblem(error);
        told.value = problem.position === null ? problem.message : `at ${problem.position + 1}: ${problem.message}`;
        isWrong.value = true;
      }
    }, 180);
    return () => {
      clearTimeout(timer);
      controller.abort();
    };
  }, [typed.value, filter, run]);
  return (
    <form
      class="filter"
      onSubmit={(event) => {
        event.preventDefault();
        setParams({ filter: typed.value.trim() }, false);
      }}
    >
      <input
        id="filter"
        type="search"
        list="filter-words"
        autocomplete="off"
        spellcheck={false}
        aria-label="Filter"
        aria-invalid={isWrong.value}
        aria-describedby="filter-told"
        placeholder={'split = train and mean_loss > 1, or "text of the key"'}
        value={typed.value}
        onInput={(event) => (typed.value = event.currentTarget.value)}
        onKeyDown={(event) => {
          if (event.key === "Escape") event.currentTarget.blur();
        }}
      />
      <datalist id="filter-words">
        {known.columns.map((column) => (
          <option key={column.name} value={`${column.name} `}>
            {column.meaning}
          </option>
        ))}
      </datalist>
      <span id="filter-told" class={isWrong.value ? "filter-told refused" : "filter-told quiet"} role="status">
        {told.value}
      </span>
    </form>
  );
}

function SortBox({ known, sort }: { known: RunDetail; sort: string }): JSX.Element {
  const name = firstSort(sort) ?? "";
  const isDown = sort.startsWith("-");
  const groups = [...new Set(known.columns.map((column) => column.group))];
  const extra = name !== "" && !known.columns.some((column) => column.name === name);
  return (
    <span class="inline">
      <label>
        sort
        <select value={name} onChange={(event) => setParams({ sort: `-${event.currentTarget.value}` }, false)}>
          {extra && <option value={name}>{name}</option>}
          {groups.map((group) => (
            <optgroup key={group} label={group}>
              {known.columns
                .filter((column) => column.group === group && column.is_sortable)
                .map((column) => (
                  <option key={column.name} value={column.name}>
                    {column.title}
                  </option>
                ))}
            </optgroup>
          ))}
        </select>
      </label>
      <button
        type="button"
        aria-label={isDown ? "descending" : "ascending"}
        title="turn the order round"
        onClick={() => setParams({ sort: isDown ? name : `-${name}` }, false)}
      >
        {isDown ? "↓" : "↑"}
      </button>
    </span>
  );
}
