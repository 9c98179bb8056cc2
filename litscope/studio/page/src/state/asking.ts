/** A question whose answer a view shows: kept while it is asked anew, so that nothing flickers. */
import { useEffect, useRef, useState } from "preact/hooks";
import { asProblem, isAborted, type Problem } from "../api/http.ts";

export interface Asked<T> {
  value: T | null;
  problem: Problem | null;
  isAsking: boolean;
}

/**
 * @param key Which question it is: another one drops the answer. Null: nothing is asked.
 * @param news Counts up when the same question has to be asked again.
 */
export function useAsked<T>(key: string | null, question: (signal: AbortSignal) => Promise<T>, news = 0): Asked<T> {
  const [asked, setAsked] = useState<Asked<T> & { key: string | null }>({
    key,
    value: null,
    problem: null,
    isAsking: true,
  });
  const latest = useRef(question);
  latest.current = question;
  useEffect(() => {
    if (key === null) return;
    const controller = new AbortController();
    setAsked((old) =>
      old.key === key ? { ...old, isAsking: true } : { key, value: null, problem: null, isAsking: true },
    );
    latest.current(controller.signal).then(
      (value) => {
        if (!controller.signal.aborted) setAsked({ key, value, problem: null, isAsking: false });
      },
      (error: unknown) => {
        if (controller.signal.aborted || isAborted(error)) return;
        setAsked((old) => ({
          key,
          value: old.key === key ? old.value : null,
          problem: asProblem(error),
          isAsking: false,
        }));
      },
    );
    return () => controller.abort();
  }, [key, news]);
  return asked.key === key ? asked : { value: null, problem: null, isAsking: true };
}
