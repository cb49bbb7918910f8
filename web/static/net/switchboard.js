// All that a browser hears from the server, over as few connections as it may hold: HTTP/1.1 allows six a host.
//
// One feed, and a stream for each of a few runs; further runs, and those that no visible tab shows, are asked for
// their news every second or so. It runs in a SharedWorker for all tabs, or in the page where there is none.

import { read } from "./frames.js";

const API = "/api/v1";
const MOST_STREAMS = 3;
const POLL_MS = 1000;
const RETRY_MS = [100, 300, 1000, 2000, 3000];
const ENDS = new Set(["run.succeeded", "run.failed", "run.cancelled"]);

/**
 * One tab, as seen from here.
 * @typedef {{ tell: (message: any) => void, visible: boolean }} Tab
 */

export class Switchboard {
  constructor() {
    /** @type {Set<Tab>} */
    this.tabs = new Set();
    /** @type {Map<string, Line>} */
    this.lines = new Map();
    this.feed = new Feed(this);
    this.wake = new Bell();
  }

  /** @param {Tab} tab */
  join(tab) {
    this.tabs.add(tab);
    this.feed.join(tab);
  }

  /** @param {Tab} tab */
  leave(tab) {
    this.tabs.delete(tab);
    for (const line of this.lines.values()) this.unwatch(tab, line.run);
    if (!this.tabs.size) this.feed.stop();
  }

  /** What a tab says. @param {Tab} tab @param {any} message */
  hear(tab, message) {
    if (message.type === "watch") this.watch(tab, message.run, message.after);
    if (message.type === "unwatch") this.unwatch(tab, message.run);
    if (message.type === "visible") {
      tab.visible = message.visible;
      this.share();
    }
    if (message.type === "wake") this.wake.ring();
    if (message.type === "leave") this.forget(message);
  }

  /** @param {Tab} tab @param {string} run @param {number} after */
  watch(tab, run, after) {
    let line = this.lines.get(run);
    if (!line || after < line.start) {
      const readers = line?.readers ?? new Set();
      line?.stop();
      line = new Line(this, run, after, readers);
      this.lines.set(run, line);
      line.readers.add(tab);
      this.share();
      void line.go();
      return;
    }
    line.readers.add(tab);
    const missed = line.log.filter(({ seq }) => seq > after);
    if (missed.length) tab.tell({ type: "events", run, events: missed });
    this.share();
  }

  /** @param {Tab} tab @param {string} run */
  unwatch(tab, run) {
    const line = this.lines.get(run);
    line?.readers.delete(tab);
    if (line && !line.readers.size) {
      line.stop();
      this.lines.delete(run);
      this.share();
    }
  }

  /** Another is here now, or nobody: what was heard is not for them. @param {any} message */
  forget(message) {
    for (const line of this.lines.values()) line.stop();
    this.lines.clear();
    this.feed.stop();
    this.feed.runs.clear();
    for (const tab of this.tabs) tab.tell(message);
  }

  /** Gives the few streams to the runs that somebody sees. */
  share() {
    const wanting = [...this.lines.values()].filter((line) => !line.over);
    const seen = wanting.filter((line) => [...line.readers].some(({ visible }) => visible));
    const chosen = new Set(seen.slice(0, MOST_STREAMS));
    for (const line of wanting) line.stream(chosen.has(line));
  }
}

/** Lets what waits go on at once. */
class Bell {
  /** @type {Set<() => void>} */
  #waiting = new Set();

  ring() {
    for (const go of [...this.#waiting]) go();
  }

  /** @param {number} milliseconds @param {AbortSignal} [signal] */
  wait(milliseconds, signal) {
    return new Promise((resolve) => {
      const go = () => {
        clearTimeout(timer);
        this.#waiting.delete(go);
        resolve(undefined);
      };
      const timer = setTimeout(go, milliseconds);
      this.#waiting.add(go);
      signal?.addEventListener("abort", go, { once: true });
    });
  }
}

/** The events of one run, from `start` on, for all tabs that show it. */
class Line {
  /** @param {Switchboard} board @param {string} run @param {number} after @param {Set<Tab>} readers */
  constructor(board, run, after, readers) {
    this.board = board;
    this.run = run;
    this.start = after;
    this.cursor = after;
    this.readers = readers;
    /** @type {any[]} */
    this.log = [];
    this.over = false;
    this.stopped = false;
    this.streams = false;
    this.abort = new AbortController();
    this.failures = 0;
  }

  stop() {
    this.stopped = true;
    this.abort.abort();
  }

  /** Whether it may hold a connection. @param {boolean} may */
  stream(may) {
    if (may === this.streams) return;
    this.streams = may;
    this.abort.abort();
    this.abort = new AbortController();
  }

  async go() {
    while (!this.stopped && !this.over) {
      const { signal } = this.abort;
      const before = this.cursor;
      try {
        const status = this.streams ? await read(this.url(), signal, (events) => this.take(events)) : await this.poll(signal);
        if (status === 204 || status === 404) this.finish(status);
        else if (status !== 200) throw new Error(String(status));
        this.failures = 0;
        if (this.over || this.stopped) return;
        await this.board.wake.wait(this.streams ? RETRY_MS[0] : this.cursor > before ? RETRY_MS[1] : POLL_MS, signal);
      } catch {
        if (signal.aborted) continue;
        if (this.cursor > before) this.failures = 0;
        await this.board.wake.wait(RETRY_MS[Math.min(this.failures++, RETRY_MS.length - 1)]);
      }
    }
  }

  url(more = "") {
    return `${API}/runs/${encodeURIComponent(this.run)}/events?after=${this.cursor}${more}`;
  }

  /** @param {AbortSignal} signal */
  async poll(signal) {
    const response = await fetch(this.url("&limit=1000"), { signal });
    if (response.status === 200) this.take((await response.json()).data);
    return response.status;
  }

  /** @param {any[]} given */
  take(given) {
    const events = given.filter(({ seq }) => seq > this.cursor);
    if (!events.length) return;
    this.log.push(...events);
    this.cursor = events[events.length - 1].seq;
    for (const tab of this.readers) tab.tell({ type: "events", run: this.run, events });
    if (events.some(({ type }) => ENDS.has(type))) this.finish(200);
  }

  /** @param {number} status */
  finish(status) {
    this.over = true;
    if (status !== 200) for (const tab of this.readers) tab.tell({ type: "over", run: this.run, status });
    this.board.share();
  }
}

/** How all runs are, for all tabs. */
class Feed {
  /** @param {Switchboard} board */
  constructor(board) {
    this.board = board;
    /** @type {Map<string, any>} */
    this.runs = new Map();
    this.connected = false;
    /** @type {AbortController | null} */
    this.abort = null;
  }

  /** @param {Tab} tab */
  join(tab) {
    if (this.connected) tab.tell({ type: "feed", frames: [{ type: "snapshot", runs: [...this.runs.values()] }] });
    tab.tell({ type: "connected", connected: this.connected || !this.abort });
    if (!this.abort) void this.go((this.abort = new AbortController()).signal);
  }

  stop() {
    this.abort?.abort();
    this.abort = null;
    this.connected = false;
  }

  /** @param {AbortSignal} signal */
  async go(signal) {
    for (let failures = 0; !signal.aborted; ) {
      try {
        const status = await read(`${API}/feed`, signal, (frames) => {
          failures = 0;
          this.take(frames);
        });
        if (status === 401) for (const tab of this.board.tabs) tab.tell({ type: "signed-out" });
      } catch {
        // Also what broke is tried again.
      }
      if (signal.aborted) return;
      this.tell(false);
      await this.board.wake.wait(RETRY_MS[Math.min(failures++, RETRY_MS.length - 1)], signal);
    }
  }

  /** @param {any[]} frames */
  take(frames) {
    this.tell(true);
    for (const frame of frames) {
      if (frame.type === "snapshot") this.runs = new Map(frame.runs.map((/** @type {any} */ run) => [run.id, run]));
      if (frame.type === "run") this.runs.set(frame.run.id, frame.run);
    }
    for (const tab of this.board.tabs) tab.tell({ type: "feed", frames });
  }

  /** @param {boolean} connected */
  tell(connected) {
    if (connected === this.connected) return;
    this.connected = connected;
    for (const tab of this.board.tabs) tab.tell({ type: "connected", connected });
  }
}
