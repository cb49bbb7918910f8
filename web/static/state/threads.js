// The list of threads: searched, renamed, deleted and brought back.

import { signal } from "@preact/signals";
import { ask, get, post } from "../net/api.js";
import { t } from "../words/words.js";
import { go, threadId } from "./route.js";
import { attempt, tell } from "./toasts.js";

/** @import { Thread } from "../types.js" */

const PAGE = 60;
const TYPING_MS = 150;

/** @type {import("@preact/signals").Signal<Thread[] | null>} */
export const threads = signal(null);
/** @type {import("@preact/signals").Signal<Thread[] | null>} */
export const found = signal(null);
export const query = signal("");
export const hasMore = signal(false);

/** @param {string} [q] @param {string} [after] */
const page = (q = "", after = "") =>
  get(`/threads?${new URLSearchParams({ order: "updated", limit: String(PAGE), ...(q && { q }), ...(after && { after }) })}`);

let asked = 0;

/** The newest state of what is listed. */
export async function loadThreads() {
  const number = ++asked;
  const answer = await page();
  if (number !== asked) return;
  const ids = new Set(answer.data.map((/** @type {Thread} */ { id }) => id));
  // What was fetched further down stays, as far as it did not come up.
  const rest = (threads.value ?? []).slice(PAGE).filter(({ id }) => !ids.has(id));
  threads.value = [...answer.data, ...rest];
  hasMore.value = rest.length ? hasMore.value : answer.has_more;
}

export async function loadMore() {
  const last = threads.value?.at(-1);
  if (!last || !hasMore.value) return;
  hasMore.value = false;
  const answer = await page("", last.id);
  threads.value = [...(threads.value ?? []), ...answer.data];
  hasMore.value = answer.has_more;
}

/** @type {ReturnType<typeof setTimeout> | undefined} */
let soon;

/** Several reasons at once are one. */
export function refreshSoon() {
  clearTimeout(soon);
  soon = setTimeout(() => void loadThreads().catch(() => {}), 250);
}

/** @type {ReturnType<typeof setTimeout> | undefined} */
let typing;

/** @param {string} q */
export function search(q) {
  query.value = q;
  clearTimeout(typing);
  if (!q.trim()) {
    found.value = null;
    return;
  }
  typing = setTimeout(
    () =>
      void attempt(async () => {
        const answer = await page(q.trim());
        if (query.value === q) found.value = answer.data;
      }),
    TYPING_MS,
  );
}

/** @param {(thread: Thread) => Thread} change @param {string} id */
function changeLocally(id, change) {
  // An answer that is on its way knows nothing of this.
  asked += 1;
  const all = (/** @type {Thread[] | null} */ list) => list && list.map((one) => (one.id === id ? change(one) : one));
  threads.value = all(threads.value);
  found.value = all(found.value);
}

/** @param {string} id @param {string} title */
export async function rename(id, title) {
  changeLocally(id, (one) => ({ ...one, title }));
  await attempt(() => ask("PATCH", `/threads/${id}`, { title }));
  refreshSoon();
}

/** @param {Thread} thread */
export async function remove(thread) {
  const gone = await attempt(async () => {
    await ask("DELETE", `/threads/${thread.id}`);
    return true;
  });
  if (!gone) return;
  const without = (/** @type {Thread[] | null} */ list) => list && list.filter(({ id }) => id !== thread.id);
  threads.value = without(threads.value);
  found.value = without(found.value);
  const wasOpen = threadId.value === thread.id;
  if (wasOpen) go("");
  tell(t("thread.deleted", { title: thread.title || t("thread.untitled") }), {
    action: {
      label: t("undo"),
      do: () =>
        void attempt(async () => {
          await post(`/threads/${thread.id}/restore`);
          await loadThreads();
          if (wasOpen) go(thread.id);
        }),
    },
  });
}

/** Notes that what is new in a thread was seen. @param {string} id */
export function markRead(id) {
  if (!threads.value?.some((one) => one.id === id && one.unread)) return;
  changeLocally(id, (one) => ({ ...one, unread: false }));
  post(`/threads/${id}/read`).catch(() => {});
}
