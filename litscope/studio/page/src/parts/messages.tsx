/** Messages about actions at the foot of the page, with undo in them; the question that may come before one. */
import type { JSX } from "preact";
import { dismiss, type Message, messages, question, undo } from "../state/acting.ts";
import { useKeys } from "../state/keys.ts";
import { Dialog } from "./dialog.tsx";
import { Icon, type IconName } from "./icons.tsx";

const ICONS: Record<Message["kind"], IconName> = {
  asking: "clock",
  waiting: "clock",
  done: "check",
  refused: "warning",
};
const WORDS: Record<Message["kind"], string> = {
  asking: "asking",
  waiting: "waiting",
  done: "done",
  refused: "refused",
};

export function Messages(): JSX.Element {
  useKeys("Everywhere", [{ keys: ["u"], shown: "U", meaning: "undo the last action", run: () => void undo() }]);
  return (
    <>
      <div class="messages" role="log" aria-live="polite" aria-label="Actions">
        {messages.value.map((message) => (
          <div key={message.id} class={`message message-${message.kind}`}>
            <Icon name={ICONS[message.kind]} />
            <div class="message-text">
              <span>{message.text}</span> <span class="message-kind">{WORDS[message.kind]}</span>
              {message.detail !== "" && <p>{message.detail}</p>}
            </div>
            {message.undo !== null && (
              <button
                type="button"
                class="link"
                onClick={() => {
                  const action = message.undo;
                  dismiss(message.id);
                  if (action !== null) void undo(action);
                }}
              >
                Undo
              </button>
            )}
            <button type="button" class="bare" aria-label="Dismiss" onClick={() => dismiss(message.id)}>
              <Icon name="cross" />
            </button>
          </div>
        ))}
      </div>
      {question.value !== null && (
        <Dialog title="Before you go on" close={() => question.value?.answer(false)}>
          <p>{question.value.text}</p>
          <div class="buttons">
            <button type="button" class="primary" onClick={() => question.value?.answer(true)}>
              {question.value.yes}
            </button>
            <button type="button" onClick={() => question.value?.answer(false)}>
              Cancel
            </button>
          </div>
        </Dialog>
      )}
    </>
  );
}
