// How all of my runs are, wherever they were started: what the tray shows.

import { computed, effect, signal, untracked } from "@preact/signals";
import { get } from "../net/api.js";
import { isOver } from "../model/reduce.js";
import { finished } from "./attention.js";
import { refreshSoon } from "./threads.js";
import { changed as changedInThread, saved } from "./thread.js";

/** @import { Approval, Run } from "../types.js" */

const APPROVALS_MS = 3000;

/** @type {import("@preact/signals").Signal<Map<string, Run>>} */
export const runs = signal(new Map());
/** Those that are not over, the one that has gone on longest first. */
export const active = computed(() => [...runs.value.values()].filter(({ status }) => !isOver(status)).reverse());
/** @type {import("@preact/signals").Signal<Approval[]>} */
export const approvals = signal([]);
export const knowsApprovals = signal(true);
/** Run -> when its log was last seen to grow. @type {Map<string, { seq: number, at: number }>} */
export const signs = new Map();

let hadSnapshot = false;
/** Whether the questions were asked for before: what was there then is no news. */
let looked = false;

/** @param {any[]} frames */
export function take(frames) {
  const next = new Map(runs.value);
  for (const frame of frames) {
    if (frame.type === "snapshot") {
      const before = hadSnapshot ? new Map(next) : null;
      next.clear();
      for (const run of frame.runs) {
        // What ended while the line was down is news, too.
        const old = before?.get(run.id);
        if (old && !isOver(old.status) && isOver(run.status)) finished(run);
        next.set(run.id, run);
        changedInThread(run);
      }
      hadSnapshot = true;
    }
    if (frame.type === "run") {
      const old = next.get(frame.run.id);
      if (old && !isOver(old.status) && isOver(frame.run.status)) finished(frame.run);
      next.set(frame.run.id, frame.run);
      changedInThread(frame.run);
    }
    if (frame.type === "artifact") saved(frame.artifact);
  }
  runs.value = new Map([...next].sort(([one], [other]) => (one < other ? 1 : -1)));
  refreshSoon();
}

export async function loadApprovals() {
  if (!knowsApprovals.value) return;
  try {
    const before = new Set(approvals.value.map(({ id }) => id));
    approvals.value = (await get("/approvals?status=pending")).data;
    for (const { id, run_id } of approvals.value) {
      const run = runs.value.get(run_id);
      if (looked && run && !before.has(id)) finished({ ...run, status: "waiting" });
    }
    looked = true;
  } catch (error) {
    if (/** @type {any} */ (error).status === 404) knowsApprovals.value = false;
  }
}

/** While anything is at work, it may have a question: the feed tells of none. */
export function watchApprovals() {
  effect(() => {
    if (active.value.length) void untracked(loadApprovals);
    const timer = active.value.length ? setInterval(() => void loadApprovals(), APPROVALS_MS) : undefined;
    return () => clearInterval(timer);
  });
}

/** Asks how far the runs are that are under way: the feed tells of their status alone. */
export async function lookForSigns() {
  const { data } = await get("/runs?status=queued,running,waiting&limit=100");
  const next = new Map(runs.value);
  for (const run of data) {
    if (signs.get(run.id)?.seq !== run.last_seq) signs.set(run.id, { seq: run.last_seq, at: Date.now() });
    const old = next.get(run.id);
    if (old && !isOver(old.status)) next.set(run.id, { ...old, queue_position: run.queue_position, cost_usd: run.cost_usd });
  }
  runs.value = next;
}
