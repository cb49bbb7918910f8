// Style sheets that are fetched when they are needed.

/** @type {Map<string, Promise<void>>} */
const fetched = new Map();

/** Resolves when what the sheet says is in force. @param {string} href */
export function style(href) {
  const before = fetched.get(href);
  if (before) return before;
  const link = Object.assign(document.createElement("link"), { rel: "stylesheet", href });
  /** @type {Promise<void>} */
  const done = new Promise((resolve) => {
    link.onload = link.onerror = () => resolve();
  });
  fetched.set(href, done);
  document.head.append(link);
  return done;
}
