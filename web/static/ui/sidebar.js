// The threads: searched, listed by age, renamed and deleted.

import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { age, when } from "../model/format.js";
import { session } from "../net/api.js";
import { unseen } from "../state/attention.js";
import { active, approvals } from "../state/feed.js";
import { drawerOpen, sheetOpen, trayOpen } from "../state/panel.js";
import { go, threadId } from "../state/route.js";
import { sidebarShut, theme } from "../state/settings.js";
import { found, hasMore, loadMore, query, remove, rename, search, threads } from "../state/threads.js";
import { t } from "../words/words.js";
import { html } from "./html.js";
import { Icon, IconButton } from "./icon.js";
import { lazy } from "./lazy.js";

/** @import { Thread } from "../types.js" */

const Who = lazy(() => import("./session.js"), "Who", "css/panels.css");
const THEMES = /** @type {const} */ (["auto", "light", "dark"]);
const THEME_ICONS = { auto: "auto", light: "sun", dark: "moon" };

export function Sidebar() {
  const list = found.value ?? threads.value;
  const isShut = sidebarShut.value && !drawerOpen.value;
  return html`
    <nav id="threads" class="sidebar ${drawerOpen.value ? "drawn" : ""}" aria-label=${t("threads")} inert=${isShut || undefined}>
      <div class="brand">
        <img src="icon.svg" alt="" width="26" height="26" /><h1>Longwick</h1>
        <span class="stretch" />
        <${IconButton} name="side" label=${t("sidebar.hide")} onClick=${() => (drawerOpen.value ? (drawerOpen.value = false) : (sidebarShut.value = true))} />
      </div>
      <button type="button" class="new-thread" onClick=${() => open("")}><${Icon} name="plus" /><span>${t("thread.new")}</span></button>
      <label class="search">
        <${Icon} name="search" size=${16} />
        <input id="search" type="search" placeholder=${t("search")} aria-label=${t("search.label")} value=${query.value}
          onInput=${(/** @type {any} */ event) => search(event.target.value)}
          onKeyDown=${(/** @type {KeyboardEvent} */ event) => event.key === "Escape" && search("")} />
      </label>
      <div class="thread-scroll">
        ${list === null && html`<div class="skeleton small"><i /><i /><i /></div>`}
        ${list?.length === 0 && html`<p class="none">${t(found.value ? "search.none" : "threads.none")}</p>`}
        ${list && html`<${Groups} list=${list} />`}
        ${!found.value && hasMore.value && html`<button type="button" class="plain more" onClick=${loadMore}>${t("threads.more")}</button>`}
      </div>
      ${(session.value?.how ?? "local") !== "local" && html`<${Who} />`}
      <div class="sidebar-foot">
        <${TrayButton} />
        <span class="stretch" />
        <${IconButton} name=${THEME_ICONS[theme.value]} label=${t(`theme.${theme.value}`)}
          onClick=${() => (theme.value = THEMES[(THEMES.indexOf(theme.value) + 1) % THEMES.length])} />
        <${IconButton} name="keys" label=${t("keys")} onClick=${() => (sheetOpen.value = true)} />
      </div>
    </nav>
    ${drawerOpen.value && html`<div class="shade" onClick=${() => (drawerOpen.value = false)} />`}
  `;
}

/** @param {string} id */
export function open(id) {
  drawerOpen.value = false;
  go(id);
  if (!id) document.getElementById("input")?.focus();
}

/** @param {{ list: Thread[] }} props */
function Groups({ list }) {
  /** @type {Map<string, Thread[]>} */
  const groups = new Map();
  for (const thread of list) {
    const heading = found.value ? t("search.found") : age(thread.updated_at);
    groups.set(heading, [...(groups.get(heading) ?? []), thread]);
  }
  return [...groups].map(
    ([heading, group]) => html`
      <section key=${heading}>
        <h2>${heading}</h2>
        <ul>${group.map((thread) => html`<${Item} key=${thread.id} thread=${thread} />`)}</ul>
      </section>
    `,
  );
}

/** @param {{ thread: Thread }} props */
function Item({ thread }) {
  const [naming, setNaming] = useState(false);
  const isOpen = thread.id === threadId.value;
  const isNew = unseen.value.has(thread.id) || (thread.unread && !isOpen);
  const mark = thread.active_run_id ? "running" : isNew ? "unread" : "";
  const title = thread.title || t("thread.untitled");
  if (naming) return html`<li><${Name} thread=${thread} done=${() => setNaming(false)} /></li>`;
  const follow = (/** @type {MouseEvent} */ event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    open(thread.id);
  };
  return html`
    <li class="thread ${mark}">
      <a href=${`#${thread.id}`} aria-current=${isOpen ? "page" : undefined} title=${`${title}\n${when(thread.updated_at)}`} onClick=${follow}>
        ${mark && html`<span class="dot" /><span class="sr-only">${t(`thread.${mark}`)}</span>`}
        <span class="thread-title">${title}</span>
        ${thread.excerpt && html`<${Excerpt} text=${thread.excerpt} />`}
      </a>
      <span class="thread-tools">
        <${IconButton} name="edit" size=${15} label=${t("thread.rename", { title })} onClick=${() => setNaming(true)} />
        <${IconButton} name="bin" size=${15} label=${t("thread.delete", { title })} onClick=${() => remove(thread)} />
      </span>
    </li>
  `;
}

/** Where in the thread it was found. @param {{ text: string }} props */
function Excerpt({ text }) {
  const words = query.value.trim().split(/\s+/).map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  const pieces = text.split(new RegExp(`(${words.join("|")})`, "i"));
  return html`<small class="excerpt">${pieces.map((piece, index) => (index % 2 ? html`<mark>${piece}</mark>` : piece))}</small>`;
}

/** @param {{ thread: Thread, done: () => void }} props */
export function Name({ thread, done }) {
  const input = useRef(/** @type {HTMLInputElement | null} */ (null));
  const over = useRef(false);
  // Once, and not as a property: what is drawn again must not undo what was typed.
  useLayoutEffect(() => {
    if (!input.current) return;
    input.current.value = thread.title;
    input.current.select();
  }, []);
  const end = (/** @type {boolean} */ keep) => {
    if (over.current) return;
    over.current = true;
    const title = input.current?.value.trim() ?? "";
    if (keep && title && title !== thread.title) void rename(thread.id, title);
    done();
  };
  const key = (/** @type {KeyboardEvent} */ event) => {
    if (event.key === "Enter" || event.key === "Escape") end(event.key === "Enter");
    event.stopPropagation();
  };
  return html`<input ref=${input} class="name" type="text" maxlength="200" aria-label=${t("thread.name")}
    onKeyDown=${key} onBlur=${() => end(true)} />`;
}

export function TrayButton() {
  const waiting = approvals.value.length;
  const count = active.value.length;
  return html`
    <button type="button" class="tray-button ${waiting ? "asks" : ""}" aria-expanded=${trayOpen.value} onClick=${() => (trayOpen.value = !trayOpen.value)}>
      <${Icon} name="runs" size=${17} />
      <span>${t("tray")}</span>
      ${count > 0 && html`<span class="badge" aria-label=${t("tray.count", { n: count })}>${count}</span>`}
    </button>
  `;
}
