// How all of my runs are, wherever they were started: what the tray shows.

import { computed, signal } from "@preact/signals";
import { get } from "../net/api.js";
import { isOver } from "../model/reduce.js";
import { finished } from "./attention.js";
import { refreshSoon } from "./threads.js";
import { changed as changedInThread, saved } from "./thread.js";

/** @import { Approval, Run } from "../types.js" */

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
      if (old && old.status !== "waiting" && frame.run.status === "waiting") finished(frame.run);
      next.set(frame.run.id, frame.run);
      changedInThread(frame.run);
    }
    if (frame.type === "artifact") saved(frame.artifact);
  }
  runs.value = new Map([...next].sort(([one], [other]) => (one < other ? 1 : -1)));
  refreshSoon();
  if ([...next.values()].some(({ status }) => status === "waiting") || approvals.value.length) void loadApprovals();
}

export async function loadApprovals() {
  if (!knowsApprovals.value) return;
  try {
    approvals.value = (await get("/approvals?status=pending")).data;
  } catch (error) {
    if (/** @type {any} */ (error).status === 404) knowsApprovals.value = false;
  }
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
