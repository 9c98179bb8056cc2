/** What is shown where there is nothing yet, nothing at all, or a problem. */
import type { ComponentChildren, JSX } from "preact";
import type { Problem } from "../api/http.ts";
import { Icon } from "./icons.tsx";

export function Empty({ title, children }: { title: string; children?: ComponentChildren }): JSX.Element {
  return (
    <div class="empty">
      <p class="empty-title">{title}</p>
      {children}
    </div>
  );
}

export function Trouble({ problem, again }: { problem: Problem; again?: () => void }): JSX.Element {
  return (
    <div class="trouble" role="alert">
      <Icon name="warning" />
      <div>
        <p>{problem.message}</p>
        {again && (
          <button type="button" onClick={again}>
            <Icon name="reload" /> Try again
          </button>
        )}
      </div>
    </div>
  );
}

/** Grey forms in the place of what is on its way. */
export function Skeleton({ lines = 6, height = 18 }: { lines?: number; height?: number }): JSX.Element {
  return (
    <div class="skeletons" role="status" aria-label="Loading">
      {Array.from({ length: lines }, (_, index) => (
        <span key={index} class="skeleton" style={{ height: `${height}px`, width: `${95 - ((index * 37) % 40)}%` }} />
      ))}
    </div>
  );
}

/** A note within a view: a warning, or what a number is worth. */
export function Note({
  kind = "info",
  children,
}: {
  kind?: "info" | "warning";
  children: ComponentChildren;
}): JSX.Element {
  return (
    <p class={`note note-${kind}`}>
      {kind === "warning" && <Icon name="warning" />}
      <span>{children}</span>
    </p>
  );
}
