/** A sample in the grid: as a picture with a caption, or as a row of a table. */
import type { JSX } from "preact";
import type { Column, Row } from "../api/types.ts";
import { cell, number, tail } from "../logic/format.ts";
import { Icon } from "./icons.tsx";
import { Sparkline } from "./marks.tsx";
import { Thumb } from "./thumb.tsx";

/** What a sample is, in a sentence: for people who do not see the picture, and as a tooltip. */
export function described(row: Row): string {
  const parts = [row.key, `label ${row.current_name ?? "none"}`];
  if (row.label_name !== row.current_name) parts.push(`was ${row.label_name ?? "none"}`);
  if (row.pred_name !== null) parts.push(`prediction ${row.pred_name}`);
  if (row.believed_name !== null && row.believed_name !== row.current_name) parts.push(`believed ${row.believed_name}`);
  if (row.is_discarded) parts.push("discarded");
  if (row.weight !== null && row.weight !== 1) parts.push(`weight ${number(row.weight)}`);
  if (row.tags.length > 0) parts.push(`tags ${row.tags.join(", ")}`);
  if (row.pending.length > 0) parts.push(`waiting: ${row.pending.join(", ")}`);
  return parts.join(", ");
}

export function LabelPair({ row }: { row: Row }): JSX.Element {
  const other = row.pred_name !== null && row.pred_name !== row.current_name ? row.pred_name : null;
  return (
    <span class="pair">
      <span class="clip">{row.current_name ?? "–"}</span>
      {other !== null && (
        <>
          <span class="pair-arrow" aria-hidden="true">
            ≠
          </span>
          <span class="clip pair-other">{other}</span>
        </>
      )}
    </span>
  );
}

export function Badges({ row }: { row: Row }): JSX.Element {
  return (
    <span class="badges">
      {row.pending.length > 0 && (
        <span class="badge badge-waiting" title={`waiting: ${row.pending.join(", ")}`}>
          <Icon name="clock" />
        </span>
      )}
      {row.is_discarded && (
        <span class="badge badge-discarded" title="discarded">
          <Icon name="cross" />
        </span>
      )}
      {row.label_name !== row.current_name && (
        <span class="badge" title={`relabelled from ${row.label_name ?? "none"}`}>
          <Icon name="pen" />
        </span>
      )}
      {row.weight !== null && row.weight !== 1 && (
        <span class="badge" title={`weight ${number(row.weight)}`}>
          ×{number(row.weight, 2)}
        </span>
      )}
      {row.tags.slice(0, 2).map((tag) => (
        <span key={tag} class="badge badge-tag clip" title={`tag: ${tag}`}>
          {tag}
        </span>
      ))}
      {row.tags.length > 2 && <span class="badge">+{row.tags.length - 2}</span>}
    </span>
  );
}

interface CellProps {
  run: string;
  row: Row;
  size: number;
  shown: string;
}

/** All that is seen of it: what it says to others stands beside it, in words. */
export function PictureCell({ run, row, size, shown }: CellProps): JSX.Element {
  return (
    <span class="cell-look" aria-hidden="true">
      <Thumb run={run} sampleId={row.sample_id} size={size} label="" hasImage={row.has_image} />
      <Badges row={row} />
      <LabelPair row={row} />
      <span class="cell-foot">
        <Sparkline values={row.sparkline} label="" width={Math.min(64, size - 36)} height={14} low={0} high={1} />
        <span title={shown}>{cell(columnValue(row, shown))}</span>
      </span>
    </span>
  );
}

/** A value of a column, whether it stands in `values` or is a field of every row. */
export function columnValue(row: Row, name: string): number | string | boolean | string[] | null | undefined {
  if (name in row.values) return row.values[name];
  if (name in row && name !== "values" && name !== "sparkline") {
    return (row as unknown as Record<string, string | number | boolean | string[] | null>)[name];
  }
  return null;
}

export function TableCell({
  run,
  row,
  column,
}: {
  run: string;
  row: Row;
  column: Column | "picture" | "history";
}): JSX.Element {
  if (column === "picture")
    return <Thumb run={run} sampleId={row.sample_id} size={28} label="" hasImage={row.has_image} />;
  if (column === "history") return <Sparkline values={row.sparkline} label="" low={0} high={1} />;
  if (column.name === "key") {
    return (
      <span class="clip" title={row.key}>
        {tail(row.key, 40)}
      </span>
    );
  }
  if (column.name === "current_name") return <LabelPair row={row} />;
  if (column.name === "tags") return <Badges row={row} />;
  return <span class="clip">{cell(columnValue(row, column.name))}</span>;
}
