// The sheet of shortcuts.

import { sheetOpen } from "../state/panel.js";
import { t } from "../words/words.js";
import { useDialog } from "./dialog.js";
import { html } from "./html.js";
import { IconButton } from "./icon.js";

/** In the order of the sheet. @type {[string, string][]} */
const SHEET = [
  ["Enter", "key.send"],
  ["Shift Enter", "key.newline"],
  ["↑", "key.edit"],
  ["mod Shift O", "key.new"],
  ["mod K", "key.search"],
  ["mod J", "key.tray"],
  ["mod .", "key.files"],
  ["mod B", "key.sidebar"],
  ["mod Shift S", "key.stop"],
  ["Esc", "key.close"],
  ["mod /", "key.sheet"],
];

export function Sheet() {
  const element = useDialog(sheetOpen);
  const mod = navigator.platform.startsWith("Mac") ? "⌘" : "Ctrl";
  return html`
    <div class="shade over" onClick=${() => (sheetOpen.value = false)} />
    <div class="sheet" ref=${element} role="dialog" aria-modal="true" aria-label=${t("keys")} tabindex="-1">
      <div class="bar"><h2>${t("keys")}</h2><span class="stretch" /><${IconButton} name="cross" label=${t("close")} onClick=${() => (sheetOpen.value = false)} /></div>
      <dl>
        ${SHEET.map(([keys, words]) => html`
          <div key=${words}><dt>${keys.split(" ").map((key) => html`<kbd>${key === "mod" ? mod : key}</kbd>`)}</dt><dd>${t(words)}</dd></div>
        `)}
      </dl>
    </div>
  `;
}
