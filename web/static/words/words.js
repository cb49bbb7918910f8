// Words from the catalogue. Another language is another file beside en.js, and one line here.

import { en } from "./en.js";

/** @type {Record<string, string>} */
const catalogue = en;

/**
 * The words for a key, with what stands in braces filled in. `{n|file|files}` is one or many.
 * @param {string} key
 * @param {Record<string, string | number>} [values]
 */
export function t(key, values = {}) {
  const words = catalogue[key];
  if (words === undefined) return key;
  return words.replace(/\{(\w+)(?:\|([^|}]*)\|([^}]*))?\}/g, (_, name, one, many) =>
    one === undefined ? String(values[name] ?? "") : Number(values[name]) === 1 ? one : many,
  );
}

/** @param {string} key */
export const has = (key) => key in catalogue;
