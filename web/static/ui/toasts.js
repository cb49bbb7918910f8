// Where short words to the user appear.

import { dismiss, toasts } from "../state/toasts.js";
import { t } from "../words/words.js";
import { html } from "./html.js";
import { Icon, IconButton } from "./icon.js";

export const Toasts = () => html`
  <div class="toasts" role="status" aria-live="polite">
    ${toasts.value.map(({ id, text, wrong, action }) => html`
      <div class="toast ${wrong ? "wrong" : ""}" key=${id}>
        <${Icon} name=${wrong ? "warn" : "check"} size=${17} /><span>${text}</span>
        ${action && html`<button type="button" class="plain" onClick=${() => (dismiss(id), action.do())}>${action.label}</button>`}
        <${IconButton} name="cross" size=${15} label=${t("close")} onClick=${() => dismiss(id)} />
      </div>
    `)}
  </div>
`;
