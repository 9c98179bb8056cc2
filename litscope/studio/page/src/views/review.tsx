/** Suspected label errors one by one, beside typical samples of both classes; verdicts by key. */
import { useSignal } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { ask, runPath } from "../api/http.ts";
import type { Review, ReviewItem, RunDetail } from "../api/types.ts";
import { count, counted, percent } from "../logic/format.ts";
import { Icon } from "../parts/icons.tsx";
import { Empty, Note, Skeleton, Trouble } from "../parts/states.tsx";
import { Thumb } from "../parts/thumb.tsx";
import { edit, undo } from "../state/acting.ts";
import { useAsked } from "../state/asking.ts";
import { useKeys } from "../state/keys.ts";
import { openSamples, route, setParams } from "../state/navigation.ts";
import { samplesNews } from "../state/store.ts";

const AHEAD = 20;

interface Given {
  id: number;
  verdict: "wrong" | "right" | "later";
  action: string | null;
}

export function ReviewView({ run, known }: { run: string; known: RunDetail }): JSX.Element {
  const split = route.value.params.split ?? "train";
  /** The verdicts of this sitting: their samples are not asked for again, even before the trainer has applied them. */
  const given = useSignal<Given[]>([]);
  const box = useRef<HTMLElement>(null);
  const skip = given.value.map((one) => one.id).join(",");
  const { value, problem } = useAsked(
    `${run} ${split}`,
    (signal) => ask<Review>(runPath(run, "/review"), { split, count: AHEAD, skip }, signal),
    samplesNews.value + Math.floor(given.value.length / 5),
  );
  const decided = new Set(given.value.map((one) => one.id));
  const items = (value?.items ?? []).filter((item) => !decided.has(item.sample.sample_id));
  const item = items[0];
  const next = items[1];
  const why = known.controls.edit;

  const decide = (verdict: Given["verdict"], what: string, more: { label?: string; tag?: string } = {}) => {
    if (item === undefined || (why !== null && verdict !== "later")) return;
    const one: Given = { id: item.sample.sample_id, verdict, action: null };
    given.value = [...given.value, one];
    box.current?.focus({ preventScroll: true });
    if (verdict === "later") return;
    void edit(what, { ids: [one.id] }, 1, more).then((answer) => {
      given.value =
        answer === null
          ? given.value.filter((other) => other.id !== one.id)
          : given.value.map((other) => (other.id === one.id ? { ...other, action: answer.action?.id ?? null } : other));
    });
  };
  const takeBack = () => {
    const last = given.value[given.value.length - 1];
    if (last === undefined) return;
    given.value = given.value.slice(0, -1);
    if (last.action !== null) void undo(last.action);
  };
  const confirm = () => decide("wrong", "relabel", { label: "believed" });
  const reject = () => decide("right", "tag", { tag: "ok" });

  useKeys("Review", [
    { keys: ["y", "b"], shown: "Y", meaning: "the label is wrong: take the believed one", run: confirm },
    { keys: ["k", "n"], shown: "K", meaning: "keep: the label is right", run: reject },
    { keys: ["x"], shown: "X", meaning: "discard the sample", run: () => decide("wrong", "discard") },
    { keys: ["s", "arrowright"], shown: "S →", meaning: "later", run: () => decide("later", "") },
    { keys: ["u", "arrowleft"], shown: "U ←", meaning: "take the last verdict back", run: takeBack },
  ]);
  const isThere = value !== null;
  useEffect(() => box.current?.focus({ preventScroll: true }), [run, split, isThere]);

  if (problem && value === null) return <Trouble problem={problem} />;
  if (value === null) return <Skeleton lines={8} height={48} />;
  return (
    <div class="view review">
      <section class="review-main" ref={box} tabIndex={-1} aria-label="Suspected label error">
        <div class="tools">
          <label>
            split
            <select value={split} onChange={(event) => setParams({ split: event.currentTarget.value })}>
              {Object.keys(known.splits).map((name) => (
                <option key={name}>{name}</option>
              ))}
            </select>
          </label>
          <span class="quiet">
            About {count(value.num_wrong)} of {counted(value.num_left + value.verdicts.num, "label")}{" "}
            {value.num_wrong === 1 ? "looks" : "look"} wrong; the most suspicious first
          </span>
        </div>
        {value.warning !== null && <Note kind="warning">{value.warning}</Note>}
        {why !== null && <Note kind="warning">{why}</Note>}
        {value.stop.should_stop && <Note>{value.stop.sentence}</Note>}
        {item === undefined ? (
          <Empty title={value.num_left === 0 ? "No suspects" : "All of these are decided"}>
            <p>
              {value.num_left === 0
                ? "Nothing in this split looks mislabelled, or too little was recorded yet."
                : "More come with the next epoch."}
            </p>
          </Empty>
        ) : (
          <Case
            run={run}
            item={item}
            confirm={confirm}
            reject={reject}
            discard={() => decide("wrong", "discard")}
            later={() => decide("later", "")}
            isClosed={why !== null}
          />
        )}
        {next !== undefined && (
          <div class="unseen" aria-hidden="true">
            <Thumb run={run} sampleId={next.sample.sample_id} size={256} label="" />
          </div>
        )}
      </section>
      <Progress review={value} given={given.value} takeBack={takeBack} split={split} />
    </div>
  );
}

interface CaseProps {
  run: string;
  item: ReviewItem;
  isClosed: boolean;
  confirm: () => void;
  reject: () => void;
  discard: () => void;
  later: () => void;
}

function Case({ run, item, isClosed, confirm, reject, discard, later }: CaseProps): JSX.Element {
  const { sample } = item;
  const label = sample.current_name ?? "none";
  const believed = sample.believed_name ?? "none";
  return (
    <>
      <h2 aria-live="polite">
        Suspect {count(item.rank)}: labelled <em>{label}</em>, believed <em>{believed}</em>
      </h2>
      <p>{item.why}</p>
      <div class="case">
        <Typical run={run} title={`typical ${label}`} ids={item.typical_of_label} />
        <figure class="case-sample">
          <Thumb
            key={sample.sample_id}
            run={run}
            sampleId={sample.sample_id}
            size={256}
            label={`${sample.key}, labelled ${label}`}
            hasImage={sample.has_image}
          />
          <figcaption class="quiet clip" title={sample.key}>
            {sample.key}
          </figcaption>
        </figure>
        <Typical run={run} title={`typical ${believed}`} ids={item.typical_of_believed} />
      </div>
      <div class="verdicts" role="group" aria-label="Verdict">
        <button type="button" class="verdict" aria-disabled={isClosed} aria-keyshortcuts="K" onClick={reject}>
          <span>
            It is <b>{label}</b>
          </span>
          <small>keep the label</small>
          <kbd>K</kbd>
        </button>
        <button type="button" class="verdict primary" aria-disabled={isClosed} aria-keyshortcuts="Y" onClick={confirm}>
          <span>
            It is <b>{believed}</b>
          </span>
          <small>relabel</small>
          <kbd>Y</kbd>
        </button>
        <button type="button" class="verdict" aria-disabled={isClosed} aria-keyshortcuts="X" onClick={discard}>
          <span>Neither</span>
          <small>discard it</small>
          <kbd>X</kbd>
        </button>
        <button type="button" class="verdict" aria-keyshortcuts="S" onClick={later}>
          <span>Later</span>
          <small>not sure</small>
          <kbd>S</kbd>
        </button>
      </div>
    </>
  );
}

function Typical({ run, title, ids }: { run: string; title: string; ids: number[] }): JSX.Element {
  return (
    <figure class="typical">
      <figcaption>{title}</figcaption>
      <div>
        {ids.slice(0, 6).map((id) => (
          <Thumb key={id} run={run} sampleId={id} size={72} label={title} />
        ))}
        {ids.length === 0 && <span class="quiet">none known yet</span>}
      </div>
    </figure>
  );
}

function Progress(props: { review: Review; given: Given[]; takeBack: () => void; split: string }): JSX.Element {
  const { review, given, takeBack, split } = props;
  const { verdicts } = review;
  const recall = (review.recall ?? []).filter((one) => one.low !== null && one.high !== null);
  return (
    <aside class="review-side" aria-label="How the ranking does">
      <h2>How the ranking does</h2>
      {verdicts.num === 0 ? (
        <p class="quiet">Numbers appear after the first verdicts.</p>
      ) : (
        <>
          <p>
            <b>{count(verdicts.num_wrong)}</b> of {counted(verdicts.num, "verdict")}: the label was wrong.
          </p>
          <p>
            <span
              class="last"
              role="img"
              aria-label={`the last ${verdicts.last.length}: ${verdicts.last.filter(Boolean).length} wrong labels`}
            >
              {verdicts.last.map((isWrong, index) => (
                <span key={index} class={isWrong ? "last-wrong" : "last-right"}>
                  {isWrong ? "✕" : "·"}
                </span>
              ))}
            </span>
          </p>
        </>
      )}
      <p>{review.stop.sentence}</p>
      {recall.length > 0 && (
        <table>
          <thead>
            <tr>
              <th class="num">after</th>
              <th>found of all wrong labels</th>
            </tr>
          </thead>
          <tbody>
            {recall.map((one) => (
              <tr key={one.rank}>
                <td class="num">{count(one.rank)}</td>
                <td>
                  {percent(one.low, 0)} to {percent(one.high, 0)}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
      <details>
        <summary>What the numbers mean</summary>
        {review.sentences.map((sentence) => (
          <p key={sentence} class="quiet">
            {sentence}
          </p>
        ))}
      </details>
      <div class="buttons">
        <button type="button" aria-disabled={given.length === 0} onClick={takeBack}>
          <Icon name="undo" /> Take back
        </button>
        <button type="button" onClick={() => openSamples(`split = ${split}`, "-suspicion")}>
          All suspects
        </button>
      </div>
    </aside>
  );
}
