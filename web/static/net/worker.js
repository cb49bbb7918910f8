// The switchboard as a SharedWorker: one for all tabs.

import { Switchboard } from "./switchboard.js";

const board = new Switchboard();

/** @param {MessagePort} port */
function connect(port) {
  const tab = { tell: (/** @type {any} */ message) => port.postMessage(message), visible: true };
  port.onmessage = ({ data }) => {
    if (data.type === "bye") board.leave(tab);
    // A tab says no goodbye when it crashes; the lock that it holds is then free.
    else if (data.type === "hello") navigator.locks?.request(data.lock, () => board.leave(tab));
    else board.hear(tab, data);
  };
  board.join(tab);
}

/** @type {any} */ (globalThis).onconnect = (/** @type {MessageEvent} */ event) => connect(event.ports[0]);
