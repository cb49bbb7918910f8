// The conversation: its turns one below the other, and where in them one reads.

import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { isOver } from "../model/reduce.js";
import { branchAt, loading, problem, steps, thread } from "../state/thread.js";
import { threadId } from "../state/route.js";
import { t } from "../words/words.js";
import { Composer } from "./composer.js";
import { html } from "./html.js";
import { Icon, IconButton } from "./icon.js";
import { TurnView } from "./turn.js";
import { Welcome } from "./welcome.js";

const AT_END_PX = 60;

export function Conversation() {
  const log = useRef(/** @type {HTMLElement | null} */ (null));
  const shown = steps.value;
  const { atEnd, toEnd } = useReading(log, `${threadId.value} ${thread.value ? 1 : 0}`, shown.at(-1)?.turn.id);
  const isNew = !threadId.value && !shown.length;
  return html`
    <div class="conversation ${isNew ? "is-new" : ""}">
      <div class="log" ref=${log} tabindex="0" role="log" aria-live="off" aria-label=${t("log.label")} id="log">
        <div class="turns">
          ${problem.value && html`<div class="lost" role="alert"><${Icon} name="warn" size=${28} /><p>${problem.value}</p></div>`}
          ${loading.value && html`<div class="skeleton" aria-label=${t("loading")}><i /><i /><i /></div>`}
          ${isNew && html`<${Welcome} />`}
          ${shown.map(({ turn, siblings }) => html`<${TurnView} key=${turn.id} turn=${turn} siblings=${siblings} />`)}
        </div>
      </div>
      <div class="below">
        ${!atEnd && shown.length > 0 && html`<${IconButton} name="toEnd" class="to-end" label=${t("log.end")} onClick=${toEnd} />`}
        ${branchAt.value &&
        html`<p class="branching"><${Icon} name="branch" size=${15} />${t("branch.on")}
          <button type="button" class="plain" onClick=${() => (branchAt.value = "")}>${t("cancel")}</button></p>`}
        ${!problem.value && html`<${Composer} />`}
      </div>
      <${Announcer} />
    </div>
  `;
}

/**
 * Keeps the reader at the end while they are there, and where they are while they are not.
 * @param {{ current: HTMLElement | null }} log
 * @param {string} place what is read; another one begins at its end
 * @param {string | undefined} newest the last turn; a new one is what the reader has just sent
 */
function useReading(log, place, newest) {
  const [atEnd, setAtEnd] = useState(true);
  const stays = useRef(true);
  const top = useRef(0);
  const stay = (/** @type {boolean} */ value) => {
    stays.current = value;
    setAtEnd(value);
  };
  const follow = () => {
    if (!log.current) return;
    log.current.scrollTop = log.current.scrollHeight;
    top.current = log.current.scrollTop;
  };
  const toEnd = () => {
    stay(true);
    follow();
  };
  useEffect(() => {
    const element = log.current;
    if (!element) return undefined;
    const scrolled = () => {
      const left = element.scrollHeight - element.scrollTop - element.clientHeight;
      // By the time of this event more may have come: only a way up is a wish to leave the end.
      if (left < AT_END_PX) stay(true);
      else if (element.scrollTop < top.current - 2) stay(false);
      top.current = element.scrollTop;
    };
    // What is unfolded stays where it is.
    const pressed = (/** @type {Event} */ event) => {
      if (event.target instanceof Element && event.target.closest("summary")) stay(false);
    };
    const sizes = new ResizeObserver(() => stays.current && follow());
    for (const one of [element, element.firstElementChild]) if (one) sizes.observe(one);
    element.addEventListener("scroll", scrolled, { passive: true });
    element.addEventListener("click", pressed, true);
    return () => {
      sizes.disconnect();
      element.removeEventListener("scroll", scrolled);
      element.removeEventListener("click", pressed, true);
    };
  }, []);
  useLayoutEffect(toEnd, [place, newest]);
  return { atEnd, toEnd };
}

/** Tells those who listen what begins and what has ended, and reads an answer out once it is whole. */
function Announcer() {
  const last = steps.value.at(-1)?.turn;
  const status = last?.view.value.status;
  const told = useRef({ id: "", status: "" });
  const [words, setWords] = useState("");
  useEffect(() => {
    if (!last || !status) return;
    const news = told.current.id === last.id && told.current.status !== status;
    told.current = { id: last.id, status };
    if (!news) return;
    const answer = last.view.value.parts.flatMap((part) => (part.kind === "text" ? [part.text] : [])).join(" ");
    setWords(isOver(status) ? `${t(`said.${status}`)} ${answer.slice(0, 600)}` : t(`said.${status}`));
  }, [last?.id, status]);
  return html`<div class="sr-only" role="status" aria-live="polite" id="announcer">${words}</div>`;
}
