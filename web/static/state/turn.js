// One turn of the open thread: its run, and the view of its log, which grows while the run goes on.

import { signal } from "@preact/signals";
import { emptyView, isOver, reduce } from "../model/reduce.js";
import { API } from "../net/api.js";
import { read } from "../net/frames.js";
import { unwatch, watch } from "../net/line.js";

/** @import { Artifact, Message, Run, RunEvent } from "../types.js" */
/** @import { View } from "../model/reduce.js" */

const HIDDEN_MS = 250;
const AGAIN_MS = 1000;

export class Turn {
  /**
   * @param {Run} run
   * @param {Message[]} messages
   * @param {Artifact[]} artifacts
   * @param {() => void} ended
   */
  constructor(run, messages, artifacts, ended) {
    this.id = run.id;
    /** @type {import("@preact/signals").Signal<Run>} */
    this.run = signal(run);
    /** @type {import("@preact/signals").Signal<View>} */
    this.view = signal(isOver(run.status) ? outline(run, messages, artifacts) : { ...emptyView(), agent: run.agent });
    this.messages = messages;
    this.ended = ended;
    this.watched = false;
    /** Whether the log was read. */
    this.whole = signal(false);
    this.reading = false;
    /** @type {RunEvent[]} */
    this.waiting = [];
    this.drawing = false;
    this.closing = new AbortController();
  }

  get over() {
    return isOver(this.view.value.status);
  }

  /** What the run is like, as its feed or its answer says: the log knows better what it was about. @param {Run} run */
  update(run) {
    const { input, output_text } = this.run.value;
    this.run.value = { ...run, input, output_text: isOver(run.status) ? (run.output_text ?? output_text) : null };
    if (isOver(run.status) && !this.over && !this.watched) void this.load();
  }

  /** Follows the log until it ends. */
  follow() {
    if (this.watched || this.over) return;
    this.watched = true;
    watch(this.id, this.view.value.seq, {
      take: (events) => this.take(events),
      over: () => void this.load(),
      cursor: () => this.view.value.seq,
    });
  }

  /** Reads the log of a run that is over, at once. */
  async load() {
    if (this.whole.value || this.reading) return;
    this.reading = true;
    /** @type {RunEvent[]} */
    const events = [];
    const status = await read(`${API}/runs/${this.id}/events?after=0`, this.closing.signal, (more) => void events.push(...more)).catch(() => 0);
    this.reading = false;
    if (this.closing.signal.aborted) return;
    if (status === 200 && events.length) this.view.value = reduce(emptyView(), events);
    // Who is not signed in begins anew; else the server is away, or has too much to do.
    else if (status !== 404) return void (status !== 401 && setTimeout(() => this.load(), AGAIN_MS));
    this.whole.value = true;
    this.finish();
  }

  /** @param {RunEvent[]} events */
  take(events) {
    this.waiting.push(...events);
    if (this.drawing) return;
    this.drawing = true;
    // Once a frame, however many came; a hidden page has no frames.
    if (document.hidden) setTimeout(() => this.draw(), HIDDEN_MS);
    else requestAnimationFrame(() => this.draw());
  }

  draw() {
    this.drawing = false;
    this.view.value = reduce(this.view.value, this.waiting);
    this.waiting = [];
    if (this.over) this.whole.value = true;
    this.finish();
  }

  finish() {
    if (!this.over || !this.watched) return;
    const { status, usage, cost, error, model } = this.view.value;
    this.watched = false;
    unwatch(this.id);
    const ended = { status, usage, cost_usd: cost, error, model: model ?? this.run.value.model, queue_position: null };
    this.run.value = { ...this.run.value, ...ended };
    this.ended();
  }

  close() {
    this.closing.abort();
    unwatch(this.id);
  }
}

/**
 * What is known of a run that is over before its log is read.
 * @param {Run} run
 * @param {Message[]} messages
 * @param {Artifact[]} artifacts
 * @returns {View}
 */
function outline(run, messages, artifacts) {
  const said = messages.filter(({ role }) => role === "assistant");
  return {
    ...emptyView(),
    status: run.status,
    attempt: run.attempt,
    agent: run.agent,
    model: run.model,
    usage: run.usage,
    cost: run.cost_usd,
    error: run.error,
    startedAt: run.started_at,
    milliseconds: run.started_at && run.finished_at ? Date.parse(run.finished_at) - Date.parse(run.created_at) : null,
    parts: [
      ...said.map(({ id, text, partial }) => ({ kind: /** @type {const} */ ("text"), id, text, partial, done: true, base: "" })),
      ...artifacts.map((artifact) => ({ kind: /** @type {const} */ ("artifact"), id: artifact.id, artifact })),
    ],
  };
}
