// A tab's line to the switchboard: the one that all tabs share where the browser can, else one of its own.

import { signal } from "@preact/signals";
import { session } from "./api.js";
import { Switchboard } from "./switchboard.js";

/** Whether the feed is there. */
export const connected = signal(true);

/** @type {Map<string, { take: (events: any[]) => void, over: () => void, cursor: () => number }>} */
const watched = new Map();
/** @type {(frames: any[]) => void} */
let takeFeed = () => {};
/** @type {(message: any) => void} */
let say = () => {};

/** @param {any} message */
function hear(message) {
  if (message.type === "events") watched.get(message.run)?.take(message.events);
  if (message.type === "over") watched.get(message.run)?.over();
  if (message.type === "feed") takeFeed(message.frames);
  if (message.type === "connected") connected.value = message.connected;
  if (message.type === "signed-out") session.value = null;
  if (message.type === "leave") void import("../state/session.js").then(({ leave }) => leave(message.forgets));
}

function shared() {
  const worker = new SharedWorker(new URL("./worker.js", import.meta.url), { type: "module", name: "longwick" });
  const lock = `longwick-tab-${crypto.getRandomValues(new Uint32Array(2)).join("-")}`;
  worker.port.onmessage = ({ data }) => hear(data);
  // A browser that has them and does not let us have one.
  worker.onerror = () => {
    own();
    for (const [run, reader] of watched) say({ type: "watch", run, after: reader.cursor() });
  };
  say = (message) => worker.port.postMessage(message);
  // Held as long as this tab lives.
  navigator.locks?.request(lock, () => {
    say({ type: "hello", lock });
    return new Promise(() => {});
  });
}

function own() {
  const board = new Switchboard();
  const tab = { tell: hear, visible: true };
  board.join(tab);
  say = (message) => board.hear(tab, message);
}

/** @param {(frames: any[]) => void} take */
export function open(take) {
  takeFeed = take;
  if (typeof SharedWorker === "function") shared();
  else own();
  const see = () => say({ type: "visible", visible: document.visibilityState === "visible" });
  const wake = () => say({ type: "wake" });
  document.addEventListener("visibilitychange", () => (see(), document.hidden || wake()));
  addEventListener("online", wake);
  addEventListener("pageshow", (event) => event.persisted && location.reload());
  addEventListener("pagehide", () => say({ type: "bye" }));
  see();
}

/** @param {any} message to the switchboard */
export const send = (message) => say(message);

/**
 * Follows a run from an event on.
 * @param {string} run
 * @param {number} after
 * @param {{ take: (events: any[]) => void, over: () => void, cursor: () => number }} reader
 */
export function watch(run, after, reader) {
  watched.set(run, reader);
  say({ type: "watch", run, after });
}

/** @param {string} run */
export function unwatch(run) {
  if (watched.delete(run)) say({ type: "unwatch", run });
}
