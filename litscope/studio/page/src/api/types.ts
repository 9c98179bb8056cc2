/** What the service answers, field by field. litscope/studio/service.py is the other side of it. */

export type RunState =
  | "waiting"
  | "running"
  | "paused"
  | "finished"
  | "interrupted"
  | "crashed"
  | "elsewhere"
  | "unreadable";

export interface RunLine {
  id: string;
  name: string;
  path: string;
  state: RunState;
  state_detail: string;
  is_watched: boolean | null;
  is_writable: boolean | null;
  data: string | null;
  arch: string | null;
  started_at: number | null;
  ended_at: number | null;
  epoch: number | null;
  num_epochs: number | null;
  step: number | null;
  num_steps: number | null;
  progress: number | null;
  time_left_s: number | null;
  metric: string | null;
  mode: "min" | "max" | null;
  value: number | null;
  best: Record<string, number> | null;
  sparkline: (number | null)[] | null;
  num_samples: Record<string, number> | null;
  num_classes: number | null;
}

export interface Session {
  version: string;
  user: string;
  is_read_only: boolean;
}

export type ColumnKind = "number" | "integer" | "flag" | "class" | "text" | "tags";

export interface Column {
  name: string;
  title: string;
  kind: ColumnKind;
  meaning: string;
  unit: string;
  is_sortable: boolean;
  values: string[] | null;
  is_high_bad: boolean | null;
  group: string;
}

export interface Setting {
  name: string;
  allowed: string;
  requested: number | string | boolean | null;
  applied: number | string | boolean | null;
  state: "none" | "pending" | "applied" | "refused";
  reason: string | null;
}

export type Control = "pause" | "resume" | "stop" | "checkpoint" | "evaluate" | "set" | "edit";

/** For each control: null if it can be used now, else the sentence why not. */
export type Controls = Record<Control, string | null>;

export interface Paused {
  requested: boolean;
  applied: boolean;
}

export interface RunDetail {
  line: RunLine;
  classes: string[];
  splits: Record<string, number>;
  kind: "image" | "table" | null;
  has_images: boolean;
  columns: Column[];
  metrics: string[];
  epoch_metrics: string[];
  step_metrics: string[];
  tags: Record<string, number>;
  num_discarded: number;
  num_relabelled: number;
  num_reweighted: number;
  settings: Setting[];
  is_paused: Paused;
  controls: Controls;
  edited_evaluation: {
    num_edits: number;
    num_later: number;
    since_step: number | null;
    since_epoch: number | null;
    warning: string | null;
  };
  recipe: string;
  clock: string | null;
  notes: string[];
}

export interface Mark {
  id: string;
  x: number;
  step: number | null;
  epoch: number | null;
  what: string;
  text: string;
  who: string;
  status: string;
}

export interface Series {
  x: number[];
  y: (number | null)[];
  step: number[];
}

export interface Curves {
  x: "step" | "epoch" | "time";
  series: Record<string, Series>;
  marks: Mark[];
  edits_from_x: number[];
}

export interface Action {
  id: string;
  what: string;
  text: string;
  why: string;
  who: string;
  asked_at: number | null;
  status: "pending" | "applied" | "refused" | "undone";
  step: number | null;
  epoch: number | null;
  reason: string | null;
  note: string | null;
  num_samples: number | null;
  can_undo: boolean;
  why_not_undo: string | null;
  result: Record<string, unknown> | null;
  is_canary: boolean;
}

export interface Journal {
  actions: Action[];
  has_more: boolean;
  total: number;
}

export interface Row {
  position: number;
  sample_id: number;
  key: string;
  split: string;
  label_name: string | null;
  current_name: string | null;
  pred_name: string | null;
  believed_name: string | null;
  is_right: boolean | null;
  is_discarded: boolean;
  weight: number | null;
  tags: string[];
  pending: string[];
  has_image: boolean;
  values: Record<string, number | string | boolean | string[] | null>;
  sparkline: (number | null)[] | null;
}

export interface SamplePage {
  view: string;
  revision: number;
  is_current: boolean;
  total: number;
  total_all: number;
  start: number;
  filter: string;
  sort: string;
  uses: string[];
  rows: Row[];
}

export interface Facets {
  by: string;
  values: { value: string; num_samples: number }[];
  num_others: number;
}

export interface Visits {
  epoch: number[];
  step: number[];
  phase: string[];
  label_name: (string | null)[];
  pred_name: (string | null)[];
  loss: (number | null)[];
  p_label: (number | null)[];
}

export interface Score {
  name: string;
  value: number | string | null;
  title: string;
  meaning: string;
  source: string;
  unit: string;
  rank: number | null;
  share_below: number | null;
}

export interface Sample {
  sample: Row;
  image: { width: number; height: number; has_image: boolean } | null;
  features: { name: string; value: number | string | null }[] | null;
  visits: Visits;
  custom: Record<string, { epoch: number[]; step: number[]; value: (number | null)[] }>;
  scores: Score[];
  changes: { epoch: number; step: number; was: string | null; now: string | null }[];
  actions: Action[];
  neighbours: { sample_id: number; key: string; label_name: string | null; distance: number }[] | null;
}

export interface ReviewItem {
  rank: number;
  sample: Row;
  typical_of_label: number[];
  typical_of_believed: number[];
  p_label: number | null;
  why: string;
}

export interface Review {
  split: string;
  num_left: number;
  num_wrong: number;
  items: ReviewItem[];
  verdicts: { num: number; num_wrong: number; last: boolean[] };
  precision: { low: number; high: number; text: string } | null;
  recall: { rank: number; low: number | null; high: number | null }[] | null;
  stop: { should_stop: boolean; sentence: string };
  sentences: string[];
  warning: string | null;
}

export interface Confusion {
  split: string;
  classes: string[];
  cells: [number, number, number][];
  num_samples: number;
  accuracy: number | null;
}

export interface ClassRow {
  label: number;
  name: string;
  num_samples: number;
  num_train: number | null;
  recall: number | null;
  precision: number | null;
  f1: number | null;
  mean_suspicion: number | null;
  mean_loss: number | null;
  num_discarded: number;
  num_relabelled: number;
  most_taken_for: string | null;
  num_taken_for: number | null;
}

export interface Calibration {
  split: string;
  bins: { count: number; confidence: number | null; accuracy: number | null }[];
  error: number | null;
  corrected_error: number | null;
  num_samples: number;
  sentence: string;
}

export interface Comparison {
  runs: RunLine[];
  settings: { name: string; values: unknown[] }[];
  metrics: { name: string; values: (number | null)[] }[];
  fates: Record<string, { num_samples: number; samples: Fate[] }> | null;
  num_common: number | null;
}

export interface Fate {
  key: string;
  split: string;
  label_first: string | null;
  sample_id_first: number;
  sample_id_second: number;
}

export interface MapAxis {
  name: string;
  low: number;
  high: number;
  domain_low: number;
  domain_high: number;
}

export interface MapFacts {
  mode: "points" | "bins";
  total: number;
  num_in_view: number;
  num_missing: number;
  x: MapAxis;
  y: MapAxis;
  color: { kind: "category" | "number" | "none"; names: string[]; low: number | null; high: number | null };
  width: number;
  height: number;
}

/** Which samples are meant by an action. */
export type Chosen =
  | { ids: number[] }
  | { view: string; ranges: [number, number][]; without?: number[]; ids?: number[] }
  | { filter: string };

export interface Wish {
  what: string;
  note?: string;
  dry_run?: boolean;
  samples?: Chosen;
  label?: string;
  weight?: number;
  tag?: string;
  settings?: Record<string, number | string | boolean>;
  split?: string;
  schedule?: boolean;
  action?: string;
}

export interface Answer {
  action: Action | null;
  num_samples: Record<string, number> | null;
  warning: string | null;
  sentence: string;
  undo: { what: string; action: string } | null;
  revision: number | null;
}
