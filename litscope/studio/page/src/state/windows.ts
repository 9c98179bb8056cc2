/**
 * The samples of one filter and order, in windows by position. The service keeps the order (a view); the page keeps the
 * windows that were in sight. Positions never move until the person asks for the present order.
 */
import { signal } from "@preact/signals";
import { ask, asProblem, isAborted, type Problem, runPath } from "../api/http.ts";
import type { Row, SamplePage } from "../api/types.ts";

export const PAGE_SIZE = 100;
const MOST_PAGES = 40;

export interface Question {
  run: string;
  filter: string;
  sort: string;
  columns: string[];
}

export type Head = Omit<SamplePage, "rows" | "start">;

export class SampleWindows {
  readonly question: Question;
  readonly head = signal<Head | null>(null);
  readonly problem = signal<Problem | null>(null);
  /** Counts up with every window that came. */
  readonly arrived = signal(0);
  private readonly pages = new Map<number, Row[]>();
  private readonly asked = new Map<number, AbortController>();
  private wanted: [number, number] = [0, 1];

  constructor(question: Question) {
    this.question = question;
    void this.load(0);
  }

  row(position: number): Row | undefined {
    return this.pages.get(Math.floor(position / PAGE_SIZE))?.[position % PAGE_SIZE];
  }

  /** Have the samples of positions [first, last) come; what is no longer wanted is not waited for. */
  want(first: number, last: number): void {
    if (this.head.value === null) return;
    this.wanted = [Math.floor(first / PAGE_SIZE), Math.max(1, Math.ceil(last / PAGE_SIZE))];
    const [from, to] = this.wanted;
    for (const [page, controller] of this.asked) {
      if (page < from - 1 || page > to) controller.abort();
    }
    for (let page = from; page < to; page += 1) {
      if (!this.pages.has(page) && !this.asked.has(page)) void this.load(page);
    }
  }

  /** Ask anew for what is in sight, in the same order: values change where they stand. */
  refresh(): void {
    const [from, to] = this.wanted;
    for (const page of [...this.pages.keys()]) {
      if (page < from || page >= to) this.pages.delete(page);
    }
    for (let page = from; page < to; page += 1) {
      if (!this.asked.has(page)) void this.load(page);
    }
  }

  /** Have these columns come, too, if they are not asked for already; the order and what is selected stay. */
  show(columns: string[]): void {
    if (columns.every((name) => this.question.columns.includes(name))) return;
    this.question.columns = columns;
    this.close();
    this.asked.clear();
    this.refresh();
  }

  close(): void {
    for (const controller of this.asked.values()) controller.abort();
  }

  private async load(page: number): Promise<void> {
    const controller = new AbortController();
    this.asked.set(page, controller);
    const { run, filter, sort, columns } = this.question;
    const view = this.head.value?.view;
    const which = view === undefined ? { filter, sort } : { view };
    const values = {
      ...which,
      start: page * PAGE_SIZE,
      count: PAGE_SIZE,
      columns: columns.join(","),
    };
    try {
      const {
        rows,
        start: _start,
        ...head
      } = await ask<SamplePage>(runPath(run, "/samples"), values, controller.signal);
      const before = new Map((this.pages.get(page) ?? []).map((row) => [row.sample_id, row.sparkline]));
      this.keep(
        page,
        rows.map((row) => ({ ...row, sparkline: before.get(row.sample_id) ?? null })),
      );
      this.forget();
      this.head.value = head;
      this.problem.value = null;
      this.arrived.value += 1;
      await this.loadSparklines(page, rows, controller.signal);
    } catch (error) {
      if (isAborted(error)) return;
      const problem = asProblem(error);
      this.problem.value = problem;
    } finally {
      if (this.asked.get(page) === controller) this.asked.delete(page);
    }
  }

  /** The history of each sample comes after the rows are painted: of a huge run it takes longer. */
  private async loadSparklines(page: number, rows: Row[], signal: AbortSignal): Promise<void> {
    if (rows.length === 0) return;
    const ids = rows.map((row) => row.sample_id).join(",");
    const path = runPath(this.question.run, "/samples/sparklines");
    const { sparklines } = await ask<{ sparklines: Record<string, Row["sparkline"]> }>(path, { ids }, signal);
    this.keep(
      page,
      rows.map((row) => ({ ...row, sparkline: sparklines[row.sample_id] ?? null })),
    );
    this.arrived.value += 1;
  }

  /** The pages that came last stand last. */
  private keep(page: number, rows: Row[]): void {
    this.pages.delete(page);
    this.pages.set(page, rows);
  }

  private forget(): void {
    const [from, to] = this.wanted;
    for (const page of this.pages.keys()) {
      if (this.pages.size <= MOST_PAGES) return;
      if (page < from || page >= to) this.pages.delete(page);
    }
  }
}
