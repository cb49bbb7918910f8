// One turn: what was asked, what came of it, and what can be done about it.

import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { count, exactly, money, span } from "../model/format.js";
import { isOver } from "../model/reduce.js";
import { artifacts, branchAt, choose, editQueued, resend, retry, retryWithMore, stop } from "../state/thread.js";
import { tell } from "../state/toasts.js";
import { has, t } from "../words/words.js";
import { html } from "./html.js";
import { Icon, IconButton } from "./icon.js";
import { copy } from "./markdown.js";
import { ArtifactCard, PartView } from "./parts.js";

/** @import { View } from "../model/reduce.js" */
/** @import { Turn } from "../state/turn.js" */
/** @import { Run } from "../types.js" */

const LONG_CHARACTERS = 1500;
const LONG_LINES = 20;

/** @param {{ turn: Turn, siblings: string[] }} props */
export function TurnView({ turn, siblings }) {
  const run = turn.run.value;
  const view = turn.view.value;
  const over = isOver(view.status);
  // Of a run that was over when it was first heard of, nothing may be known but that.
  const busy = !over || (!turn.whole.value && !view.parts.length);
  const element = useRef(null);
  useNearness(element, turn);
  return html`
    <article ref=${element} class="turn" id=${turn.id} aria-busy=${String(busy)} data-status=${view.status}
      aria-label=${t("turn.label", { text: run.input.slice(0, 60) })}>
      <${Asked} turn=${turn} siblings=${siblings} />
      <div class="answer">
        ${view.parts.map((part) => html`<${PartView} key=${part.kind + part.id} part=${part} live=${!over} run=${turn.id} />`)}
        <${State} turn=${turn} />
        <${Foot} turn=${turn} />
      </div>
    </article>
  `;
}

/** Has a turn's log read when it comes near. @param {{ current: Element | null }} element @param {Turn} turn */
function useNearness(element, turn) {
  useEffect(() => {
    if (turn.whole.value || !turn.over || !element.current) return undefined;
    const near = new IntersectionObserver(
      ([entry]) => {
        if (!entry.isIntersecting) return;
        near.disconnect();
        void turn.load();
      },
      { rootMargin: "1200px" },
    );
    near.observe(element.current);
    return () => near.disconnect();
  }, [turn]);
}

/** @param {{ turn: Turn, siblings: string[] }} props */
function Asked({ turn, siblings }) {
  const [editing, setEditing] = useState(false);
  const run = turn.run.value;
  const attached = artifacts.value.filter(({ id }) => run.metadata.attached?.includes(id));
  const text = attached.length && typeof run.metadata.text === "string" ? run.metadata.text : run.input;
  const waits = turn.view.value.status === "queued" && turn.view.value.attempt === 0;
  const save = (/** @type {string} */ said) => {
    setEditing(false);
    return waits ? editQueued(turn, said) : resend(turn, said);
  };
  const at = siblings.indexOf(turn.id);
  return html`
    <div class="asked">
      ${attached.length > 0 && html`<div class="attached">${attached.map((artifact) => html`<${ArtifactCard} key=${artifact.id} part=${{ artifact }} />`)}</div>`}
      ${editing
        ? html`<${Editor} text=${text} save=${save} cancel=${() => setEditing(false)} />`
        : text && html`<${Bubble} text=${text} />`}
      <div class="asked-foot">
        ${siblings.length > 1 &&
        html`<span class="forks">
          <${IconButton} name="left" size=${15} label=${t("fork.before")} disabled=${at === 0} onClick=${() => choose(siblings[at - 1])} />
          <span aria-label=${t("fork.at", { n: at + 1, of: siblings.length })}>${at + 1} / ${siblings.length}</span>
          <${IconButton} name="right" size=${15} label=${t("fork.after")} disabled=${at === siblings.length - 1} onClick=${() => choose(siblings[at + 1])} />
        </span>`}
        ${!editing &&
        html`<span class="quiet">
          <${IconButton} name="copy" size=${15} label=${t("copy.message")} onClick=${() => void copyTelling(text)} />
          <${IconButton} name="edit" size=${15} class="edit" label=${t(waits ? "edit.queued" : "edit.resend")} onClick=${() => setEditing(true)} />
        </span>`}
      </div>
    </div>
  `;
}

/** What was asked; of a long text the beginning, until all of it is wanted. @param {{ text: string }} props */
function Bubble({ text }) {
  const [whole, setWhole] = useState(false);
  const isLong = text.length > LONG_CHARACTERS || text.split("\n").length > LONG_LINES;
  return html`
    <div class="bubble ${isLong && !whole ? "long" : ""}">${text}</div>
    ${isLong && html`<button type="button" class="plain" onClick=${() => setWhole(!whole)}>${t(whole ? "asked.less" : "asked.more")}</button>`}
  `;
}

/** @param {string} text */
const copyTelling = (text) => copy(text).then(() => tell(t("copied")));

/** @param {{ text: string, save: (text: string) => any, cancel: () => void }} props */
function Editor({ text, save, cancel }) {
  const area = useRef(/** @type {HTMLTextAreaElement | null} */ (null));
  useLayoutEffect(() => area.current?.focus(), []);
  const submit = () => area.current?.value.trim() && save(area.current.value);
  const key = (/** @type {KeyboardEvent} */ event) => {
    if (event.isComposing) return;
    if (event.key === "Escape") cancel();
    else if (event.key === "Enter" && !event.shiftKey) submit();
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  return html`
    <div class="editor">
      <textarea ref=${area} rows="3" aria-label=${t("edit.label")} onKeyDown=${key}>${text}</textarea>
      <div>
        <button type="button" onClick=${cancel}>${t("cancel")}</button>
        <button type="button" class="primary" onClick=${submit}>${t("send")}</button>
      </div>
    </div>
  `;
}

/** The line that says where a turn stands. @param {{ turn: Turn }} props */
function State({ turn }) {
  const run = turn.run.value;
  const view = turn.view.value;
  if (isOver(view.status)) return html`<${Outcome} turn=${turn} />`;
  const asked = Boolean(run.cancel_requested_at);
  const asks = view.parts.some((part) => part.kind === "approval" && part.approval.status === "pending");
  const words = asked ? t("state.stopping") : asks ? t("state.waiting") : standing(run, view);
  const fraction = view.progress?.fraction;
  return html`
    <div class="state ${view.status}">
      <span class="flame" aria-hidden="true" />
      <span class="state-words">${words}</span>
      ${typeof fraction === "number" && html`<progress max="1" value=${fraction} aria-label=${words} />`}
      ${view.status === "queued" && html`<button type="button" class="plain" onClick=${() => stop(turn)}>${t("withdraw")}</button>`}
    </div>
  `;
}

/** @param {Run} run @param {View} view */
function standing(run, view) {
  if (view.status === "queued" && run.queue_position) return t("state.queued.position", { n: run.queue_position });
  return view.progress?.message || t(`state.${view.status}`);
}

/** @param {{ turn: Turn }} props */
function Outcome({ turn }) {
  const { status, error } = turn.view.value;
  if (status === "cancelled") return html`<p class="outcome" role="status">${t("outcome.cancelled")}</p>`;
  if (status !== "failed" || !error) return null;
  const most = turn.run.value.max_cost_usd;
  const known = has(`failed.${error.code}`);
  return html`
    <div class="outcome failed" role="status">
      <div><${Icon} name="warn" size=${17} /><strong>${known ? t(`failed.${error.code}`) : t("failed.other")}</strong></div>
      ${error.message && html`<p>${error.message} <code>${error.code}</code></p>`}
      <div class="remedies">
        <button type="button" class="primary" onClick=${() => retry(turn)}>${t("retry")}</button>
        ${error.code === "budget_exceeded" && most &&
        html`<button type="button" onClick=${() => retryWithMore(turn)}>${t("retry.more", { limit: money(2 * most) })}</button>`}
        ${has(`remedy.${error.code}`) && html`<span>${t(`remedy.${error.code}`)}</span>`}
      </div>
    </div>
  `;
}

/** @param {{ turn: Turn }} props */
function Foot({ turn }) {
  const run = turn.run.value;
  const view = turn.view.value;
  if (!isOver(view.status)) return null;
  const text = () => view.parts.flatMap((part) => (part.kind === "text" ? [part.text] : [])).join("\n\n");
  const tokens = (view.usage?.input_tokens ?? 0) + (view.usage?.output_tokens ?? 0);
  const facts = [
    run.agent,
    view.model ?? run.model,
    view.milliseconds !== null && span(view.milliseconds),
    tokens > 0 && t("foot.tokens", { n: tokens, shown: count(tokens) }),
    typeof view.cost === "number" && view.cost > 0 && money(view.cost),
  ].filter(Boolean);
  return html`
    <footer class="foot">
      <small title=${exactly(run.finished_at ?? view.lastAt ?? run.created_at)}>${facts.join(" · ")}</small>
      <span class="quiet">
        <${IconButton} name="copy" size=${16} label=${t("copy.answer")} onClick=${() => void copyTelling(text())} />
        <${IconButton} name="again" size=${16} class="again" label=${t("retry")} onClick=${() => retry(turn)} />
        <${IconButton} name="branch" size=${16} class="branch" label=${t("branch.here")} onClick=${() => (branchAt.value = turn.id)} />
      </span>
    </footer>
  `;
}
