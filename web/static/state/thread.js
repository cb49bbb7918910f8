// The open thread: its turns, its files, and what can be done in it.

import { batch, computed, signal } from "@preact/signals";
import { isOver } from "../model/reduce.js";
import { parents, path, wayTo } from "../model/path.js";
import { all, ask, get, newKey, post } from "../net/api.js";
import { go, threadId } from "./route.js";
import { refreshSoon } from "./threads.js";
import { attempt, tell } from "./toasts.js";
import { t } from "../words/words.js";
import { Turn } from "./turn.js";

/** @import { Artifact, Message, Run, Thread } from "../types.js" */

// Of a long thread, the logs of these last turns are read at once, those of others when they come near.
const AT_ONCE = 6;

/** @type {import("@preact/signals").Signal<Thread | null>} */
export const thread = signal(null);
/** @type {import("@preact/signals").Signal<Turn[]>} */
export const turns = signal([]);
/** @type {import("@preact/signals").Signal<Artifact[]>} */
export const artifacts = signal([]);
/** @type {import("@preact/signals").Signal<string | null>} */
export const problem = signal(null);
export const loading = signal(false);
/** @type {import("@preact/signals").Signal<Record<string, string>>} */
export const chosen = signal({});
/** The run that the next message follows, where that is not the last one. @type {import("@preact/signals").Signal<string>} */
export const branchAt = signal("");
/** The runs that the feed tells of while the thread is opened. @type {Run[]} */
let meanwhile = [];

const runsOf = () => turns.value.map(({ run }) => run.value);
/** What is shown: one way through the branches. */
export const steps = computed(() => {
  const byId = new Map(turns.value.map((turn) => [turn.id, turn]));
  const way = path(runsOf(), chosen.value).map(({ run, siblings }) => ({ turn: /** @type {Turn} */ (byId.get(run.id)), siblings }));
  const at = way.findIndex(({ turn }) => turn.id === branchAt.value);
  return at < 0 ? way : way.slice(0, at + 1);
});
/** The turns that are not over. */
export const busy = computed(() => turns.value.filter(({ run }) => !isOver(run.value.status)));
export const head = computed(() => busy.value[0] ?? null);

/** @param {string} id */
export async function open(id) {
  for (const turn of turns.value) turn.close();
  meanwhile = [];
  batch(() => {
    thread.value = null;
    turns.value = [];
    artifacts.value = [];
    problem.value = null;
    chosen.value = {};
    branchAt.value = "";
    loading.value = Boolean(id);
  });
  if (!id) return;
  try {
    const [opened, runs] = await Promise.all([get(`/threads/${id}`), all("/runs", { thread_id: id })]);
    // Asked for after the runs: of those that had ended, nothing can be missing here.
    const [messages, files] = await Promise.all([all(`/threads/${id}/messages`), all(`/threads/${id}/artifacts`)]);
    if (threadId.value !== id) return;
    runs.sort((one, other) => (one.id < other.id ? -1 : 1));
    batch(() => {
      thread.value = opened;
      // What was saved meanwhile is newer.
      artifacts.value = [...artifacts.value.filter((one) => !files.some(({ id }) => id === one.id)), ...files];
      turns.value = runs.map((run) => turnOf(run, messages, files));
      loading.value = false;
    });
    // The record was asked later than it has told of some of these.
    for (const run of meanwhile) if (isOver(run.status) || !turns.value.some((turn) => turn.id === run.id)) changed(run);
    for (const { turn } of steps.value.slice(-AT_ONCE)) if (turn.over) void turn.load();
    followHead();
  } catch (error) {
    if (threadId.value !== id) return;
    batch(() => {
      loading.value = false;
      problem.value = /** @type {Error} */ (error).message;
    });
  }
}

/** @param {Run} run @param {Message[]} messages @param {Artifact[]} files */
function turnOf(run, messages, files) {
  const belongs = (/** @type {{ run_id: string | null }} */ { run_id }) => run_id === run.id;
  return new Turn(run, messages.filter(belongs), files.filter(belongs).reverse(), () => (followHead(), refreshSoon()));
}

function followHead() {
  // The first one of a thread may start at any moment; the rest wait for it.
  for (const turn of busy.value) if (turn === head.value || turn.run.value.status !== "queued") turn.follow();
}

/** @param {Run} run */
function add(run) {
  if (run.thread_id !== threadId.value || turns.value.some(({ id }) => id === run.id)) return;
  turns.value = [...turns.value, turnOf(run, [], [])].sort((one, other) => (one.id < other.id ? -1 : 1));
  chosen.value = { ...chosen.value, ...wayTo(runsOf(), run.id) };
  followHead();
}

/** A run that the feed tells of. @param {Run} run */
export function changed(run) {
  if (run.thread_id !== threadId.value) return;
  if (loading.value) meanwhile.push(run);
  if (!thread.value) return;
  const turn = turns.value.find(({ id }) => id === run.id);
  if (turn) turn.update(run);
  // The feed cuts long texts.
  else if (run.input.length > 1000) void get(`/runs/${run.id}`).then(add, () => {});
  else add(run);
  followHead();
}

/** A file that was saved somewhere. @param {Artifact} artifact */
export function saved(artifact) {
  if (artifact.thread_id !== threadId.value || artifacts.value.some(({ id }) => id === artifact.id)) return;
  artifacts.value = [artifact, ...artifacts.value];
}

/**
 * @typedef {{ text: string, files?: File[], agent?: string, model?: string, background?: boolean, ifBusy?: string,
 *   follows?: string, mostDollars?: number }} Draft
 */

/** @type {WeakMap<File, { thread: string, artifact: Artifact }>} */
const uploaded = new WeakMap();

/** What was sent before is not sent again. @param {string} id @param {File} file @returns {Promise<Artifact>} */
async function upload(id, file) {
  const before = uploaded.get(file);
  if (before?.thread === id) return before.artifact;
  const form = new FormData();
  form.append("file", file, file.name);
  const artifact = await ask("POST", `/threads/${id}/files`, form);
  uploaded.set(file, { thread: id, artifact });
  return artifact;
}

/** What was sent last, and under which key: what is sent again is not run twice. */
let sending = { body: "", key: "" };

/**
 * Sends a message. Resolves when the server has it for certain.
 * @param {Draft} draft
 * @returns {Promise<Run | undefined>}
 */
export function send({ text, files = [], agent, model, background, ifBusy, follows, mostDollars }) {
  return attempt(async () => {
    let id = threadId.value;
    /** @type {Artifact[]} */
    const attached = [];
    if (files.length) {
      if (!id) id = (await post("/threads", agent ? { agent } : {})).id;
      for (const file of files) attached.push(await upload(id, file));
    }
    const names = attached.map(({ name }) => name).join(", ");
    const body = {
      input: attached.length ? `${text}\n\n${t("compose.attached", { names })}`.trim() : text,
      ...(agent && { agent }),
      ...(model && { model }),
      ...(background && { kind: "background" }),
      ...(ifBusy && ifBusy !== "queue" && { if_busy: ifBusy }),
      ...(follows && { follows }),
      ...(mostDollars && { max_cost_usd: mostDollars }),
      ...(attached.length && { metadata: { attached: attached.map((one) => one.id), text } }),
    };
    const said = JSON.stringify([id, body]);
    if (sending.body !== said) sending = { body: said, key: newKey() };
    const run = await post(id ? `/threads/${id}/runs` : "/runs", body, sending.key);
    sending = { body: "", key: "" };
    for (const artifact of attached) saved(artifact);
    branchAt.value = "";
    if (!threadId.value) go(run.thread_id);
    else add(run);
    refreshSoon();
    return run;
  });
}

/** @param {Turn} turn */
export const stop = (turn) => stopRun(turn.run.value).then((run) => run && turn.update(run));

/** @param {Run} run */
export const stopRun = (run) =>
  attempt(async () => {
    try {
      return /** @type {Run} */ (await post(`/runs/${run.id}/cancel`));
    } catch (error) {
      if (/** @type {any} */ (error).code === "already_terminal") return undefined;
      throw error;
    }
  });

/** @param {Turn} turn */
export const retry = (turn) => attempt(async () => add(await post(`/runs/${turn.id}/retry`, undefined, newKey())));

/** The same again, with twice as much to spend. @param {Turn} turn */
export const retryWithMore = (turn) => {
  const { input, agent, model, kind, max_cost_usd: most } = turn.run.value;
  const follows = parents(runsOf()).get(turn.id);
  return send({ text: input, agent, model: model ?? undefined, background: kind === "background", follows, mostDollars: 2 * (most ?? 0) });
};

/** Says something else in place of an earlier message. @param {Turn} turn @param {string} text */
export const resend = (turn, text) => {
  const run = turn.run.value;
  const follows = parents(runsOf()).get(turn.id);
  return send({ text, agent: run.agent, model: run.model ?? undefined, background: run.kind === "background", follows });
};

/** Says something to the agent that is at work. @param {Turn} turn @param {string} text */
export const steer = (turn, text) =>
  attempt(async () => {
    const answer = await post(`/runs/${turn.id}/input`, { input: text });
    if (!answer.delivered) tell(t("steer.later"));
    return answer;
  });

/**
 * Changes what a message says that still waits. A server that cannot has it withdrawn and sent anew.
 * @param {Turn} turn
 * @param {string} text
 */
export const editQueued = (turn, text) =>
  attempt(async () => {
    try {
      const run = await ask("PATCH", `/runs/${turn.id}`, { input: text });
      turn.run.value = run;
    } catch (error) {
      if (![404, 405].includes(/** @type {any} */ (error).status)) throw error;
      await post(`/runs/${turn.id}/cancel`);
      await resend(turn, text);
    }
  });

/** @param {string} id @param {"allow" | "deny"} decision @param {string} [message] */
export const decide = (id, decision, message) =>
  attempt(() => post(`/approvals/${id}`, { decision, ...(message && { message }) }));

/** Takes another branch where the thread forks. @param {string} id */
export function choose(id) {
  const parent = parents(runsOf()).get(id);
  if (parent) chosen.value = { ...chosen.value, [parent]: id };
  branchAt.value = "";
  for (const { turn } of steps.value.slice(-AT_ONCE)) if (turn.over) void turn.load();
}
