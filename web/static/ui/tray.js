// The tray: every run of mine that is not over, wherever it was started, and what waits for my decision.

import { useEffect, useState } from "preact/hooks";
import { money, span, when } from "../model/format.js";
import { isOver } from "../model/reduce.js";
import { consent } from "../state/attention.js";
import { active, approvals, loadApprovals, lookForSigns, runs, signs } from "../state/feed.js";
import { trayOpen } from "../state/panel.js";
import { tells } from "../state/settings.js";
import { decide, stopRun } from "../state/thread.js";
import { threads } from "../state/threads.js";
import { tell } from "../state/toasts.js";
import { t } from "../words/words.js";
import { ApprovalCard } from "./approval.js";
import { html } from "./html.js";
import { Icon, IconButton } from "./icon.js";
import { open } from "./sidebar.js";
import { useDialog } from "./dialog.js";
import { Usage } from "./usage.js";

/** @import { Run } from "../types.js" */

const LOOK_MS = 3000;
const RECENT = 8;

export function Tray() {
  const element = useDialog(trayOpen);
  useLooking();
  const recent = [...runs.value.values()].filter(({ status }) => isOver(status)).slice(0, RECENT);
  const answer = async (/** @type {string} */ id, /** @type {"allow" | "deny"} */ decision, /** @type {string | undefined} */ message) => {
    await decide(id, decision, message);
    await loadApprovals();
  };
  return html`
    <div class="tray" ref=${element} tabindex="-1" role="dialog" aria-label=${t("tray")}>
      <div class="bar">
        <h2>${t("tray")}</h2>
        <span class="stretch" />
        <${Bell} />
        <${IconButton} name="cross" label=${t("close")} onClick=${() => (trayOpen.value = false)} />
      </div>
      <div class="tray-scroll" tabindex="0">
        ${approvals.value.length > 0 &&
        html`<h3>${t("tray.asks")}</h3>${approvals.value.map(
          (one) => html`
            <div class="tray-question" key=${one.id}>
              ${runs.value.has(one.run_id) && html`<${Title} run=${runs.value.get(one.run_id)} />`}
              <${ApprovalCard} approval=${one} decide=${answer} />
            </div>
          `,
        )}`}
        <h3>${t("tray.active")}</h3>
        ${active.value.length === 0 && html`<p class="none">${t("tray.none")}</p>`}
        <ul>${active.value.map((run) => html`<${Active} key=${run.id} run=${run} />`)}</ul>
        ${recent.length > 0 && html`<h3>${t("tray.recent")}</h3>`}
        <ul>${recent.map((run) => html`<${Ended} key=${run.id} run=${run} />`)}</ul>
        <${Usage} />
      </div>
    </div>
  `;
}

/** Sees how far the runs are, and counts the seconds. */
function useLooking() {
  const [, tick] = useState(0);
  useEffect(() => {
    const look = () => void lookForSigns().catch(() => {});
    look();
    const looking = setInterval(look, LOOK_MS);
    const ticking = setInterval(() => tick((n) => n + 1), 1000);
    return () => [looking, ticking].forEach(clearInterval);
  }, []);
}

function Bell() {
  const press = async () => {
    if (!(await consent(!tells.value))) tell(t("notify.refused"), { wrong: true });
  };
  return html`<button type="button" class="plain bell" aria-pressed=${tells.value} onClick=${press}>
    <${Icon} name="bell" size=${16} />${t(tells.value ? "notify.on" : "notify.off")}
  </button>`;
}

/** In whole seconds. @param {number} moment */
const since = (moment) => span(Math.max(1, Math.round((Date.now() - moment) / 1000)) * 1000);

/** @param {Run} run */
const titleOf = (run) => threads.value?.find(({ id }) => id === run.thread_id)?.title || run.input.split("\n")[0];

/** @param {{ run: Run }} props */
const Title = ({ run }) => html`<a href=${`#${run.thread_id}`} onClick=${(/** @type {Event} */ event) => {
  event.preventDefault();
  trayOpen.value = false;
  open(run.thread_id);
}}>${titleOf(run)}</a>`;

/** @param {{ run: Run }} props */
function Active({ run }) {
  const sign = signs.get(run.id);
  const facts = [
    run.agent,
    run.kind === "background" && t("background"),
    run.started_at && t("tray.for", { span: since(Date.parse(run.started_at)) }),
    run.status === "running" && sign && t("tray.sign", { span: since(sign.at) }),
    run.cost_usd && money(run.cost_usd),
  ].filter(Boolean);
  const state = run.cancel_requested_at
    ? t("state.stopping")
    : run.status === "queued" && run.queue_position
      ? t("state.queued.position", { n: run.queue_position })
      : t(`state.${run.status}`);
  return html`
    <li class="tray-run ${run.status}">
      <span class="flame" aria-hidden="true" />
      <div><${Title} run=${run} /><small>${state} · ${facts.join(" · ")}</small></div>
      <button type="button" disabled=${Boolean(run.cancel_requested_at)} aria-label=${t("tray.stop", { title: titleOf(run) })}
        onClick=${() => stopRun(run)}>${t("stop.short")}</button>
    </li>
  `;
}

/** @param {{ run: Run }} props */
const Ended = ({ run }) => html`
  <li class="tray-run ${run.status}">
    <${Icon} name=${run.status === "succeeded" ? "check" : run.status === "failed" ? "warn" : "cross"} size=${16} />
    <div><${Title} run=${run} />
      <small>${[t(`ended.${run.status}`), run.finished_at && when(run.finished_at), run.cost_usd && money(run.cost_usd)].filter(Boolean).join(" · ")}</small></div>
  </li>
`;
