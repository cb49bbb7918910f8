// Telling of what has come to its end: in the title, in the tab's icon and, where the user wants it and is away, as a
// notification. Only of what happens now, never of what is told again; and withdrawn once it was seen anywhere.

import { effect, signal } from "@preact/signals";
import { t } from "../words/words.js";
import { go, threadId } from "./route.js";
import { tells } from "./settings.js";
import { markRead, threads } from "./threads.js";

/** @import { Run } from "../types.js" */

/** The threads in which something came to its end that was not seen. @type {import("@preact/signals").Signal<Set<string>>} */
export const unseen = signal(new Set());
/** What the window's title says of the open thread. */
export const title = signal("");
/** @type {Map<string, Notification>} */
const shown = new Map();
const channel = typeof BroadcastChannel === "function" ? new BroadcastChannel("longwick") : null;

const isAway = () => document.hidden || !document.hasFocus();

/** A run has ended, or waits for a decision. @param {Run} run */
export function finished(run) {
  if (!isAway() && run.thread_id === threadId.value) return;
  unseen.value = new Set([...unseen.value, run.thread_id]);
  if (!tells.value || !document.hidden || globalThis.Notification?.permission !== "granted") return;
  const words = t(`notify.${run.status}`);
  // One tag: of several tabs that tell the same, one is heard.
  const note = new Notification(words, { body: run.input.slice(0, 120), tag: run.thread_id, icon: "icon.svg" });
  note.onclick = () => {
    focus();
    go(run.thread_id);
    note.close();
  };
  shown.set(run.thread_id, note);
}

/** @param {string} thread */
function withdraw(thread) {
  shown.get(thread)?.close();
  shown.delete(thread);
  if (!unseen.value.has(thread)) return;
  unseen.value = new Set([...unseen.value].filter((id) => id !== thread));
}

/** The open thread is looked at. */
function see() {
  const id = threadId.value;
  if (!id || isAway()) return;
  withdraw(id);
  markRead(id);
  channel?.postMessage({ type: "seen", thread: id });
}

/** @param {boolean} marked */
function drawIcon(marked) {
  const link = /** @type {HTMLLinkElement | null} */ (document.querySelector("link[rel=icon]"));
  if (link) link.href = marked ? "icon-marked.svg" : "icon.svg";
}

export function watchAttention() {
  if (channel) channel.onmessage = ({ data }) => data.type === "seen" && withdraw(data.thread);
  for (const event of ["focus", "visibilitychange"]) addEventListener(event, see, true);
  effect(() => {
    // Also what was seen on another device is seen.
    const read = new Set((threads.value ?? []).filter(({ unread }) => unread === false).map(({ id }) => id));
    for (const id of shown.keys()) if (read.has(id)) withdraw(id);
    see();
  });
  effect(() => {
    const count = unseen.value.size;
    document.title = `${count ? `(${count}) ` : ""}${title.value ? `${title.value} · ` : ""}Longwick`;
    drawIcon(count > 0);
  });
}

/** Asks for consent, where it is wanted. @param {boolean} wanted */
export async function consent(wanted) {
  tells.value = wanted && (await globalThis.Notification?.requestPermission?.()) === "granted";
  return tells.value === wanted;
}
