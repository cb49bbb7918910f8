// Which thread is open: it stands in the address, after the #.

import { signal } from "@preact/signals";

const THREAD = /^#(thr_[0-9a-z]{26})$/;
const read = () => THREAD.exec(location.hash)?.[1] ?? "";

/** The id of the open thread; empty for a new one. */
export const threadId = signal(read());

/** @param {string} id */
export function go(id) {
  if (id === threadId.peek()) return;
  history.pushState(null, "", id ? `#${id}` : location.pathname);
  threadId.value = id;
}

for (const event of ["hashchange", "popstate"])
  addEventListener(event, () => {
    threadId.value = read();
  });
