// Where messages are written: the text, the files with it, who is asked, and what happens when the thread is busy.

import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { size } from "../model/format.js";
import { agent, agentChoice, agents, background, can, modelChoice } from "../state/agents.js";
import { attach, clear, detach, draft, files, write } from "../state/drafts.js";
import { threadId } from "../state/route.js";
import { branchAt, busy, head, send, steer, steps, stop, turns } from "../state/thread.js";
import { t } from "../words/words.js";
import { html } from "./html.js";
import { Icon, IconButton } from "./icon.js";

/** What happens to a message that finds its thread busy. */
const IF_BUSY = ["queue", "interrupt", "steer"];

export function Composer() {
  const area = useRef(/** @type {HTMLTextAreaElement | null} */ (null));
  const [sending, setSending] = useState(false);
  const [ifBusy, setIfBusy] = useState("queue");
  const isBusy = busy.value.length > 0;
  const steerable = head.value !== null && can(agents.value.find(({ id }) => id === head.value?.run.value.agent), "steer");
  const how = isBusy ? (ifBusy === "steer" && !steerable ? "queue" : ifBusy) : "queue";
  useGrowing(area);
  // With what is drawn, not after it: a key pressed by then has its own idea of where to go.
  useLayoutEffect(() => {
    if (matchMedia("(hover: hover)").matches) area.current?.focus();
  }, [threadId.value, branchAt.value]);

  const submit = async () => {
    const text = draft.value.trim() ? draft.value : "";
    if (sending || (!text && !files.value.length)) return;
    setSending(true);
    const place = threadId.value || "new";
    const turn = head.value;
    const done =
      how === "steer" && turn && text
        ? await steer(turn, text)
        : await send({
            text,
            files: files.value,
            agent: agentChoice.value,
            model: modelChoice.value,
            background: background.value,
            ifBusy: how,
            follows: tip(),
          });
    // What was written meanwhile stays.
    if (done) clear(place, text);
    setSending(false);
    area.current?.focus();
  };

  const keys = (/** @type {KeyboardEvent} */ event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      void submit();
    }
    if (event.key === "ArrowUp" && !draft.value) {
      // Into the last message, to say it otherwise.
      const edits = document.querySelectorAll(".turn .asked .edit");
      const last = /** @type {HTMLElement | undefined} */ (edits[edits.length - 1]);
      if (last) event.preventDefault();
      last?.click();
    }
  };

  return html`
    <form class="composer" id="composer" ...${dropping()}
      onSubmit=${(/** @type {Event} */ event) => (event.preventDefault(), void submit())}>
      ${files.value.length > 0 && html`<ul class="attachments">${files.value.map((file) => html`<${Attachment} key=${file} file=${file} />`)}</ul>`}
      <textarea id="input" ref=${area} rows="1" value=${draft.value} placeholder=${t(steps.value.length ? "compose.more" : "compose.first")}
        aria-label=${t("compose.label")} autocomplete="off" onKeyDown=${keys} onPaste=${paste}
        onInput=${(/** @type {any} */ event) => write(event.target.value)} />
      <div class="composer-row">
        <${AttachButton} />
        <${Chooser} />
        <label class="switch ${background.value ? "on" : ""}" title=${t("background.about")}>
          <input type="checkbox" checked=${background.value} onChange=${(/** @type {any} */ event) => (background.value = event.target.checked)} />
          <${Icon} name="moon" size=${16} /><span>${t("background")}</span>
        </label>
        <span class="stretch" />
        ${isBusy &&
        html`<select class="busy" aria-label=${t("busy.label")} value=${how} onChange=${(/** @type {any} */ event) => setIfBusy(event.target.value)}>
          ${IF_BUSY.filter((one) => one !== "steer" || steerable).map((one) => html`<option key=${one} value=${one}>${t(`busy.${one}`)}</option>`)}
        </select>`}
        ${isBusy && head.value && html`<${IconButton} name="stop" class="stop" label=${t("stop")} onClick=${() => head.value && stop(head.value)} />`}
        <button type="submit" id="send" class="send" disabled=${sending || (!draft.value.trim() && !files.value.length)}
          aria-label=${t("send")} title=${t("send")}><${Icon} name="send" size=${20} /></button>
      </div>
    </form>
  `;
}

/** The turn that the next message follows, where that is not the newest one. */
function tip() {
  const last = steps.value.at(-1)?.turn.id ?? "";
  return last === turns.value.at(-1)?.id ? "" : last;
}

/** As high as its text, up to the height that the style allows. @param {{ current: HTMLTextAreaElement | null }} area */
function useGrowing(area) {
  const text = draft.value;
  useLayoutEffect(() => {
    const element = area.current;
    if (!element || CSS.supports("field-sizing", "content")) return;
    element.style.height = "auto";
    element.style.height = `${element.scrollHeight}px`;
  }, [text]);
}

function dropping() {
  const over = (/** @type {DragEvent} */ event) => event.dataTransfer?.types.includes("Files") && event.preventDefault();
  const drop = (/** @type {DragEvent} */ event) => {
    if (!event.dataTransfer?.files.length) return;
    event.preventDefault();
    attach(event.dataTransfer.files);
  };
  return { onDragOver: over, onDrop: drop };
}

/** @param {ClipboardEvent} event */
function paste(event) {
  const given = event.clipboardData?.files;
  if (!given?.length) return;
  event.preventDefault();
  attach(given);
}

/** @param {{ file: File }} props */
const Attachment = ({ file }) => html`
  <li>
    <${Icon} name="file" size=${15} /><span>${file.name}</span><small>${size(file.size)}</small>
    <${IconButton} name="cross" size=${14} label=${t("compose.detach", { name: file.name })} onClick=${() => detach(file)} />
  </li>
`;

function AttachButton() {
  const input = useRef(/** @type {HTMLInputElement | null} */ (null));
  const take = (/** @type {any} */ event) => {
    attach([...event.target.files]);
    event.target.value = "";
  };
  return html`
    <${IconButton} name="clip" label=${t("compose.attach")} onClick=${() => input.current?.click()} />
    <input ref=${input} type="file" multiple hidden id="files-input" aria-label=${t("compose.attach")} onChange=${take} />
  `;
}

function Chooser() {
  const models = agent.value?.models ?? [];
  const pick = (/** @type {any} */ event) => {
    agentChoice.value = event.target.value;
    modelChoice.value = "";
  };
  return html`
    <select id="agent" aria-label=${t("agent.label")} value=${agentChoice.value} onChange=${pick}>
      <option value="">${t("agent.default")}</option>
      ${agents.value.map(
        ({ id, name, available, reason }) =>
          html`<option key=${id} value=${id} disabled=${!available} title=${reason}>${available ? name : t("agent.missing", { name })}</option>`,
      )}
    </select>
    ${models.length > 0 &&
    html`<select id="model" aria-label=${t("model.label")} value=${modelChoice.value} onChange=${(/** @type {any} */ event) => (modelChoice.value = event.target.value)}>
      <option value="">${t("model.default")}</option>
      ${models.map((model) => html`<option key=${model} value=${model}>${model}</option>`)}
    </select>`}
  `;
}
