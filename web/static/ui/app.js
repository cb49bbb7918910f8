// The whole page: threads at the left, the conversation, and the files at the right.

import { useEffect, useState } from "preact/hooks";
import { session } from "../net/api.js";
import { connected } from "../net/line.js";
import { title } from "../state/attention.js";
import { active, approvals } from "../state/feed.js";
import { drawerOpen, files, filesOpen, sheetOpen, shown, trayOpen } from "../state/panel.js";
import { threadId } from "../state/route.js";
import { sidebarShut } from "../state/settings.js";
import { thread } from "../state/thread.js";
import { threads } from "../state/threads.js";
import { t } from "../words/words.js";
import { Conversation } from "./conversation.js";
import { html } from "./html.js";
import { Icon, IconButton } from "./icon.js";
import { lazy } from "./lazy.js";
import { useCodeCopying } from "./markdown.js";
import { useShortcuts } from "./shortcuts.js";
import { Name, open, Sidebar } from "./sidebar.js";
import { Toasts } from "./toasts.js";

const PANELS = "css/panels.css";
const Files = lazy(() => import("./files.js"), "Files", PANELS);
const Tray = lazy(() => import("./tray.js"), "Tray", PANELS);
const Sheet = lazy(() => import("./sheet.js"), "Sheet", PANELS);
const SignIn = lazy(() => import("./session.js"), "SignIn", PANELS);
const OFFLINE_AFTER_MS = 4000;

export function App() {
  useShortcuts();
  useCodeCopying();
  if (session.value === null) return html`<${SignIn} />`;
  return html`
    <div class="app ${sidebarShut.value ? "shut" : ""} ${filesOpen.value ? "with-files" : ""}">
      <${Sidebar} />
      <main><${Head} /><${Conversation} /></main>
      ${filesOpen.value && html`<${Files} />`}
      ${trayOpen.value && html`<${Tray} />`}
      ${sheetOpen.value && html`<${Sheet} />`}
      <${Toasts} />
    </div>
  `;
}

function Head() {
  const [naming, setNaming] = useState(false);
  // The list knows of a new name first, the thread of one that is not listed.
  const listed = threads.value?.find(({ id }) => id === threadId.value);
  const now = listed ?? thread.value;
  const words = threadId.value ? now?.title || t("thread.untitled") : t("thread.new");
  useEffect(() => void (title.value = threadId.value ? words : ""), [words, threadId.value]);
  const count = files.value.size;
  const pressFiles = () => {
    if (!filesOpen.value) shown.value = { name: "", version: 0 };
    filesOpen.value = !filesOpen.value;
  };
  return html`
    <header class="head">
      <${IconButton} name="menu" class="menu" label=${t("threads")} onClick=${() => ((drawerOpen.value = true), (sidebarShut.value = false))} />
      <div class="title">
        ${naming && now
          ? html`<${Name} thread=${now} done=${() => setNaming(false)} />`
          : html`<h2 id="title" title=${words}>${threadId.value && now ? html`<button type="button" class="rename" title=${t("thread.rename", { title: words })} onClick=${() => setNaming(true)}>${words}</button>` : words}</h2>`}
      </div>
      <${Offline} />
      <button type="button" class="icon-button head-tray ${approvals.value.length ? "asks" : ""}" aria-label=${t("tray.count", { n: active.value.length })} title=${t("tray")} onClick=${() => (trayOpen.value = !trayOpen.value)}>
        <${Icon} name="runs" />${active.value.length > 0 && html`<span class="badge">${active.value.length}</span>`}
      </button>
      <button type="button" class="icon-button head-files" aria-pressed=${filesOpen.value} aria-label=${t("files.count", { n: count })} title=${t("files")} onClick=${pressFiles}>
        <${Icon} name="files" />${count > 0 && html`<span class="badge soft">${count}</span>`}
      </button>
      <${IconButton} name="plus" class="head-new" label=${t("thread.new")} onClick=${() => open("")} />
    </header>
  `;
}

/** Said late, and calmly: most breaks are over before anyone needs to know. */
function Offline() {
  const [late, setLate] = useState(false);
  const down = !connected.value;
  useEffect(() => {
    if (!down) return setLate(false);
    const timer = setTimeout(() => setLate(true), OFFLINE_AFTER_MS);
    return () => clearTimeout(timer);
  }, [down]);
  return late && html`<span class="offline" role="status"><span class="dot" />${t("offline")}</span>`;
}
