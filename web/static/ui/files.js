// The files of a thread, beside the conversation: each with its versions, shown, compared and saved.

import { useState } from "preact/hooks";
import { size, when } from "../model/format.js";
import { API, contentUrl } from "../net/api.js";
import { files, filesOpen, shown } from "../state/panel.js";
import { threadId } from "../state/route.js";
import { t } from "../words/words.js";
import { Changes } from "./changes.js";
import { useDialog } from "./dialog.js";
import { html } from "./html.js";
import { Icon, IconButton } from "./icon.js";
import { kindOf, Preview, Source } from "./preview.js";

/** @import { Artifact } from "../types.js" */

export function Files() {
  const element = useDialog(filesOpen);
  const versions = files.value.get(shown.value.name);
  return html`
    <aside class="files" ref=${element} tabindex="-1" role="complementary" aria-label=${t("files")}>
      ${versions ? html`<${OneFile} key=${shown.value.name} versions=${versions} />` : html`<${AllFiles} />`}
    </aside>
  `;
}

const close = () => (filesOpen.value = false);

function AllFiles() {
  const all = [...files.value.values()];
  return html`
    <div class="bar">
      <h2>${t("files")}</h2>
      <span class="stretch" />
      ${all.length > 0 &&
      html`<a class="button" href=${`${API}/threads/${threadId.value}/artifacts.zip`} download><${Icon} name="save" size=${16} />${t("files.zip")}</a>`}
      <${IconButton} name="cross" label=${t("close")} onClick=${close} />
    </div>
    <div class="files-scroll">
      ${all.length === 0 && html`<p class="none">${t("files.none")}</p>`}
      <ul class="file-list">
        ${all.map(([newest, ...older]) => html`
          <li key=${newest.name}>
            <button type="button" onClick=${() => (shown.value = { name: newest.name, version: 0 })}>
              <${Icon} name="file" size=${20} />
              <span><span class="artifact-name">${newest.name}</span>
                <small>${[size(newest.size), older.length > 0 && t("files.versions", { n: older.length + 1 }), newest.type === "upload" && t("files.upload"), when(newest.created_at)].filter(Boolean).join(" · ")}</small></span>
            </button>
            <a class="icon-button" href=${`${contentUrl(newest.id)}?download=1`} download=${newest.name}
              aria-label=${t("file.download", { name: newest.name })} title=${t("file.download", { name: newest.name })}><${Icon} name="save" /></a>
          </li>
        `)}
      </ul>
    </div>
  `;
}

/** @param {{ versions: Artifact[] }} props */
function OneFile({ versions }) {
  const artifact = versions.find(({ version }) => version === shown.value.version) ?? versions[0];
  const older = versions.filter(({ version }) => version < artifact.version);
  const kind = kindOf(artifact);
  const tabs = ["preview", ...(kind.source ? ["source"] : []), ...(kind.text && older.length ? ["changes"] : [])];
  const [tab, setTab] = useState("preview");
  const now = tabs.includes(tab) ? tab : "preview";
  const move = (/** @type {KeyboardEvent} */ event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by) return;
    setTab(tabs[(tabs.indexOf(now) + by + tabs.length) % tabs.length]);
    requestAnimationFrame(() => /** @type {HTMLElement | null} */ (document.querySelector(".tabs [aria-selected=true]"))?.focus());
  };
  return html`
    <div class="bar">
      <${IconButton} name="left" label=${t("files.all")} onClick=${() => (shown.value = { name: "", version: 0 })} />
      <h2 title=${artifact.name}>${artifact.name}</h2>
      <span class="stretch" />
      <a class="icon-button" href=${`${contentUrl(artifact.id)}?download=1`} download=${artifact.name}
        aria-label=${t("file.download", { name: artifact.name })} title=${t("file.download", { name: artifact.name })}><${Icon} name="save" /></a>
      <${IconButton} name="cross" label=${t("close")} onClick=${close} />
    </div>
    <div class="file-bar">
      <div class="tabs" role="tablist" aria-label=${t("file.ways")} onKeyDown=${move}>
        ${tabs.map((one) => html`<button type="button" role="tab" key=${one} id=${`tab-${one}`} aria-controls="file-body" aria-selected=${one === now}
          tabindex=${one === now ? 0 : -1} onClick=${() => setTab(one)}>${t(`file.${one}`)}</button>`)}
      </div>
      <span class="stretch" />
      ${versions.length > 1
        ? html`<select id="version" aria-label=${t("file.version")} value=${artifact.version}
            onChange=${(/** @type {any} */ event) => (shown.value = { name: artifact.name, version: Number(event.target.value) })}>
            ${versions.map(({ version, created_at }) => html`<option key=${version} value=${version}>${t("file.version.at", { n: version, at: when(created_at) })}</option>`)}
          </select>`
        : html`<small>${size(artifact.size)}</small>`}
    </div>
    <div class="file-body" id="file-body" role="tabpanel" aria-labelledby=${`tab-${now}`} tabindex="0">
      ${now === "preview" && html`<${Preview} key=${artifact.id} artifact=${artifact} />`}
      ${now === "source" && html`<${Source} key=${artifact.id} artifact=${artifact} />`}
      ${now === "changes" && html`<${Changes} key=${artifact.id} artifact=${artifact} older=${older} />`}
    </div>
  `;
}
