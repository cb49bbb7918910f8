// What I may have, and how much of it is used: a line in the tray, and the rest of it where it is opened or runs out.

import { useEffect, useState } from "preact/hooks";
import { count, money, size, when } from "../model/format.js";
import { get } from "../net/api.js";
import { t } from "../words/words.js";
import { html } from "./html.js";

/** @import { Usage as Used } from "../types.js" */

const LOOK_MS = 10_000;
const NEAR = 0.8;
const dollars = (/** @type {number} */ n) => (n ? money(n) : "$0");
/** What is shown, and how a number of it is written. @type {[keyof Used & ("running" | "queued" | "spend_usd_today" | "artifacts" | "artifact_bytes"), (n: number) => string][]} */
const ROWS = [
  ["running", count],
  ["queued", count],
  ["spend_usd_today", dollars],
  ["artifacts", count],
  ["artifact_bytes", size],
];

/** How full something is, from 0 on. @param {{ used: number, limit: number | null }} amount */
const fullness = ({ used, limit }) => (limit ? used / limit : 0);

export function Usage() {
  const [usage, setUsage] = useState(/** @type {Used | null} */ (null));
  useEffect(() => {
    const look = () => void get("/usage").then(setUsage, () => {});
    look();
    const looking = setInterval(look, LOOK_MS);
    return () => clearInterval(looking);
  }, []);
  if (!usage) return null;
  const near = ROWS.some(([name]) => fullness(usage[name]) >= NEAR);
  const tokens = usage.tokens_today.input + usage.tokens_today.output;
  const today = [dollars(usage.spend_usd_today.used), t("foot.tokens", { n: tokens, shown: count(tokens) })];
  return html`
    <details class="usage" open=${near || undefined}>
      <summary><h3>${t("usage")}</h3><small>${t("usage.today", { facts: today.join(" · ") })}</small></summary>
      <ul>${ROWS.map(([name, shown]) => html`<${Row} key=${name} name=${name} amount=${usage[name]} shown=${shown} resets=${usage.resets_at} />`)}</ul>
    </details>
  `;
}

/** @param {{ name: string, amount: { used: number, limit: number | null }, shown: (n: number) => string, resets: string }} props */
function Row({ name, amount, shown, resets }) {
  const { used, limit } = amount;
  const full = fullness(amount);
  const label = t(`usage.${name}`);
  return html`
    <li class=${full >= 1 ? "full" : full >= NEAR ? "near" : ""}>
      <span>${label}</span>
      <span>${limit ? t("usage.of", { used: shown(used), limit: shown(limit) }) : shown(used)}</span>
      ${limit && html`<progress max="1" value=${Math.min(1, full)} aria-label=${label} />`}
      ${full >= 1 ? html`<small>${t(`usage.full.${name}`, { at: when(resets) })}</small>` : full >= NEAR && html`<small>${t("usage.near")}</small>`}
    </li>
  `;
}
