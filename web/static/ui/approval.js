// A question of an agent: may it do this? With all that it wants to do, and the two answers.

import { useState } from "preact/hooks";
import { t } from "../words/words.js";
import { html } from "./html.js";
import { Icon } from "./icon.js";

/** @import { Approval } from "../types.js" */

/**
 * @param {{ approval: Approval, decide: (id: string, decision: "allow" | "deny", message?: string) => Promise<any> }} props
 */
export function ApprovalCard({ approval, decide }) {
  const [busy, setBusy] = useState(false);
  const [why, setWhy] = useState("");
  const say = async (/** @type {"allow" | "deny"} */ decision) => {
    setBusy(true);
    await decide(approval.id, decision, decision === "deny" ? why : "");
    setBusy(false);
  };
  const tool = approval.tool.replace(/^mcp__\w+?__/, "");
  const input = typeof approval.input === "string" ? approval.input : JSON.stringify(approval.input, null, 2);
  return html`
    <section class="approval ${approval.status}" aria-label=${t("approval.title", { tool })}>
      <p class="question"><${Icon} name=${approval.status === "pending" ? "warn" : approval.status === "allowed" ? "check" : "cross"} size=${16} />
        ${t(`approval.${approval.status}`, { tool })}</p>
      <pre tabindex="0">${input}</pre>
      ${approval.message && html`<p>${approval.message}</p>`}
      ${approval.status === "pending" &&
      html`<div class="approval-answer">
        <button type="button" class="primary" disabled=${busy} onClick=${() => say("allow")}>${t("approval.allow")}</button>
        <button type="button" disabled=${busy} onClick=${() => say("deny")}>${t("approval.deny")}</button>
        <input type="text" value=${why} placeholder=${t("approval.why")} aria-label=${t("approval.why")}
          onInput=${(/** @type {any} */ event) => setWhy(event.target.value)} />
      </div>`}
    </section>
  `;
}
