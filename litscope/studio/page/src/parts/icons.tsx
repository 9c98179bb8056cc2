/** Small drawings, each of which stands beside words or has a label. */
import type { JSX } from "preact";

const PATHS = {
  pause: "M5 3v10M11 3v10",
  play: "M5 3l8 5-8 5z",
  stop: "M4 4h8v8H4z",
  save: "M8 2v8M5 7l3 3 3-3M3 13h10",
  check: "M3 8.5l3.2 3.2L13 5",
  cross: "M4 4l8 8M12 4l-8 8",
  undo: "M6 3L3 6l3 3M3 6h6a4 4 0 010 8H7",
  gear: "M2 5h7M12 5h2M2 11h2M7 11h7M9 3v4M5 9v4",
  clock: "M8 2a6 6 0 100 12A6 6 0 008 2M8 5v3l2 2",
  warning: "M8 2l6.5 12h-13zM8 6.5v3.5M8 12v.2",
  tag: "M2 2h6l6 6-6 6-6-6zM5 5v.1",
  pen: "M3 13l1-3 7-7 2 2-7 7zM9 5l2 2",
  weight: "M8 3v10M3 6h10M3 6l-1 4h4L5 6M13 6l-1 4M13 6l1 4h-4l1-4",
  menu: "M2 4h12M2 8h12M2 12h12",
  grid: "M2 2h5v5H2zM9 2h5v5H9zM2 9h5v5H2zM9 9h5v5H9z",
  rows: "M2 3h12M2 6.5h12M2 10h12M2 13.5h12",
  question: "M5.5 6a2.5 2.5 0 113.5 2.3c-.7.4-1 .8-1 1.7M8 12.5v.2",
  restore: "M3 8a5 5 0 105-5H5M7 1L5 3l2 2",
  chart: "M2 13h12M3 10l3-4 3 2 4-5",
  eye: "M1.5 8S4 3.5 8 3.5 14.5 8 14.5 8 12 12.5 8 12.5 1.5 8 1.5 8M8 6.2a1.8 1.8 0 100 3.6 1.8 1.8 0 000-3.6",
  reload: "M13 8a5 5 0 11-1.5-3.5M13 2v3h-3",
};

export type IconName = keyof typeof PATHS;

export function Icon({ name }: { name: IconName }): JSX.Element {
  return (
    <svg class="icon" viewBox="0 0 16 16" aria-hidden="true">
      <path d={PATHS[name]} />
    </svg>
  );
}
