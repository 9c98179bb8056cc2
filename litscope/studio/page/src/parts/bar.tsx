/** The bar: name and state of the open run, its controls, and its settings, what is wished apart from what holds. */
import { useSignal } from "@preact/signals";
import type { JSX } from "preact";
import type { Control, RunDetail, Setting } from "../api/types.ts";
import { cell, duration, number } from "../logic/format.ts";
import { act, confirmed, messages } from "../state/acting.ts";
import { useKeys } from "../state/keys.ts";
import { detail, runs } from "../state/store.ts";
import { Dialog } from "./dialog.tsx";
import { Icon, type IconName } from "./icons.tsx";
import { Progress, StateMark } from "./marks.tsx";

export function Bar({ run }: { run: string }): JSX.Element {
  const known = detail.value;
  const line = known?.line ?? runs.value?.find((one) => one.id === run) ?? null;
  const isSettingsOpen = useSignal(false);
  useKeys("Run", [
    { keys: ["p"], shown: "P", meaning: "pause, or go on", run: () => known && void pauseOrGoOn(known) },
    {
      keys: ["l"],
      shown: "L",
      meaning: "learning rate and other live settings",
      run: () => (isSettingsOpen.value = true),
    },
  ]);
  if (line === null) return <header class="bar" />;
  return (
    <header class="bar">
      <h1 class="clip" title={line.path}>
        {line.name}
      </h1>
      <StateMark line={line} />
      <span class="bar-facts">
        {line.epoch !== null && (
          <span>
            epoch {line.epoch}
            {line.num_epochs !== null && `/${line.num_epochs}`}
          </span>
        )}
        <Progress line={line} />
        {line.state === "running" && line.time_left_s !== null && <span>{duration(line.time_left_s)} left</span>}
        {line.metric !== null && line.value !== null && (
          <span>
            best {line.metric} <b>{number(line.value)}</b>
          </span>
        )}
      </span>
      {known && <Controls known={known} openSettings={() => (isSettingsOpen.value = true)} />}
      {known && isSettingsOpen.value && <Settings known={known} close={() => (isSettingsOpen.value = false)} />}
    </header>
  );
}

function pauseOrGoOn(known: RunDetail): void {
  const { requested } = known.is_paused;
  if (requested) void act({ what: "resume" }, "Go on");
  else void act({ what: "pause" }, "Pause");
}

function Controls({ known, openSettings }: { known: RunDetail; openSettings: () => void }): JSX.Element {
  const { requested, applied } = known.is_paused;
  const isEnded = known.controls.pause !== null && known.controls.resume !== null;
  const pauseState = requested === applied ? "" : requested ? "asked, not paused yet" : "asked, still paused";
  if (isEnded && known.controls.stop !== null) {
    return (
      <div class="controls" role="group" aria-label="Controls">
        <Button
          name="set"
          icon="gear"
          text="Settings"
          known={{ ...known, controls: { ...known.controls, set: null } }}
          run={openSettings}
        />
      </div>
    );
  }
  return (
    <div class="controls" role="group" aria-label="Controls">
      {pauseState !== "" && <span class="asked">{pauseState}</span>}
      <Button
        name={requested ? "resume" : "pause"}
        icon={requested ? "play" : "pause"}
        text={requested ? "Go on" : "Pause"}
        known={known}
        run={() => pauseOrGoOn(known)}
      />
      <Button
        name="checkpoint"
        icon="save"
        text="Checkpoint"
        known={known}
        run={() => void act({ what: "checkpoint" }, "Checkpoint")}
      />
      <Button
        name="evaluate"
        icon="chart"
        text="Evaluate"
        known={known}
        run={() => void act({ what: "evaluate" }, "Evaluate")}
      />
      <Button
        name="set"
        icon="gear"
        text="Settings"
        known={{ ...known, controls: { ...known.controls, set: null } }}
        run={openSettings}
      />
      <Button
        name="stop"
        icon="stop"
        text="Stop"
        known={known}
        run={async () => {
          const text = `Stop ${known.line.name}? It keeps a checkpoint and can go on later with: litscope fit --resume`;
          if (await confirmed(text, "Stop the run")) void act({ what: "stop" }, "Stop");
        }}
      />
    </div>
  );
}

interface ButtonProps {
  name: Control;
  icon: IconName;
  text: string;
  known: RunDetail;
  run: () => void;
}

function Button({ name, icon, text, known, run }: ButtonProps): JSX.Element {
  const why = known.controls[name] ?? null;
  return (
    <button
      type="button"
      class="control"
      aria-disabled={why !== null}
      aria-label={why === null ? text : `${text}: ${why}`}
      title={why ?? text}
      onClick={() => {
        if (why === null) run();
      }}
    >
      <Icon name={icon} /> <span class="control-text">{text}</span>
    </button>
  );
}

function Settings({ known, close }: { known: RunDetail; close: () => void }): JSX.Element {
  const why = known.controls.set;
  return (
    <Dialog title="Live settings" close={close} isWide>
      {why !== null && <p class="quiet">{why}</p>}
      {known.settings.length === 0 ? (
        <p class="quiet">This run has no settings that can be changed while it trains.</p>
      ) : (
        <div class="scroll-x">
          <table class="settings">
            <thead>
              <tr>
                <th>setting</th>
                <th class="num">applied</th>
                <th class="num">requested</th>
                <th>new value</th>
              </tr>
            </thead>
            <tbody>
              {known.settings.map((setting) => (
                <SettingRow key={setting.name} setting={setting} isClosed={why !== null} />
              ))}
            </tbody>
          </table>
        </div>
      )}
      <div class="buttons">
        <button type="button" onClick={close}>
          Close
        </button>
      </div>
    </Dialog>
  );
}

function SettingRow({ setting, isClosed }: { setting: Setting; isClosed: boolean }): JSX.Element {
  const wanted = useSignal("");
  /** Why it was refused at once; the messages lie behind the dialog. */
  const refusal = useSignal("");
  const send = (event: Event) => {
    event.preventDefault();
    const text = wanted.value.trim();
    if (text === "") return;
    const value =
      text === "true" || text === "false" ? text === "true" : Number.isNaN(Number(text)) ? text : Number(text);
    wanted.value = "";
    void act({ what: "set", settings: { [setting.name]: value } }, `Set ${setting.name} to ${text}`).then((answer) => {
      const last = messages.value[messages.value.length - 1];
      refusal.value = answer === null ? (last?.detail ?? "") : "";
    });
  };
  return (
    <tr>
      <th scope="row">
        {setting.name}
        <small>{setting.allowed}</small>
      </th>
      <td class="num">{cell(setting.applied)}</td>
      <td class="num">
        {setting.requested === null ? "–" : cell(setting.requested)}{" "}
        {setting.state === "pending" && <span class="asked">waiting</span>}
        {setting.state === "refused" && <span class="refused">refused: {setting.reason}</span>}
      </td>
      <td>
        <form onSubmit={send} class="inline">
          <input
            type="text"
            inputMode="decimal"
            aria-label={`new ${setting.name}`}
            size={9}
            disabled={isClosed}
            value={wanted.value}
            onInput={(event) => (wanted.value = event.currentTarget.value)}
          />
          <button type="submit" disabled={isClosed}>
            Set
          </button>
        </form>
        {refusal.value !== "" && (
          <p class="refused" role="alert">
            {refusal.value}
          </p>
        )}
      </td>
    </tr>
  );
}
