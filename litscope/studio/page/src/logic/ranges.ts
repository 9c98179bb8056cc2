/** A set of positions as sorted, disjoint half-open ranges: a selection of a million samples is one pair of numbers. */

export type Range = [number, number];

export class Ranges {
  readonly pairs: readonly Range[];

  constructor(pairs: readonly Range[] = []) {
    this.pairs = pairs;
  }

  get size(): number {
    return this.pairs.reduce((total, [start, end]) => total + end - start, 0);
  }

  has(position: number): boolean {
    let low = 0;
    let high = this.pairs.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.pairs[middle] as Range)[1] <= position) low = middle + 1;
      else high = middle;
    }
    const pair = this.pairs[low];
    return pair !== undefined && pair[0] <= position;
  }

  with(start: number, end: number): Ranges {
    if (end <= start) return this;
    const before = this.pairs.filter((pair) => pair[1] < start);
    const after = this.pairs.filter((pair) => pair[0] > end);
    const touched = this.pairs.filter((pair) => pair[1] >= start && pair[0] <= end);
    const merged: Range = [
      Math.min(start, ...touched.map((pair) => pair[0])),
      Math.max(end, ...touched.map((pair) => pair[1])),
    ];
    return new Ranges([...before, merged, ...after]);
  }

  without(start: number, end: number): Ranges {
    const left: Range[] = [];
    for (const [first, last] of this.pairs) {
      if (first < Math.min(last, start)) left.push([first, Math.min(last, start)]);
      if (Math.max(first, end) < last) left.push([Math.max(first, end), last]);
    }
    return new Ranges(left);
  }

  toggled(position: number): Ranges {
    return this.has(position) ? this.without(position, position + 1) : this.with(position, position + 1);
  }

  first(): number | null {
    return this.pairs[0]?.[0] ?? null;
  }
}
