// What this browser remembers for its user: looks and habits. Nothing secret, and nothing of what was said but drafts.

import { effect, signal } from "@preact/signals";

const PREFIX = "longwick.";

/** @param {string} name @param {any} otherwise */
export function recall(name, otherwise) {
  try {
    return JSON.parse(localStorage.getItem(PREFIX + name) ?? "null") ?? otherwise;
  } catch {
    return otherwise;
  }
}

/** @param {string} name @param {any} value */
export function remember(name, value) {
  try {
    if (value === null || value === "") localStorage.removeItem(PREFIX + name);
    else localStorage.setItem(PREFIX + name, JSON.stringify(value));
  } catch {
    // A browser that keeps nothing is a browser, too.
  }
}

/**
 * A signal that outlives the tab.
 * @template T
 * @param {string} name
 * @param {T} otherwise
 * @returns {import("@preact/signals").Signal<T>}
 */
export function kept(name, otherwise) {
  const value = signal(recall(name, otherwise));
  effect(() => remember(name, value.value));
  return value;
}

/** @type {import("@preact/signals").Signal<"auto" | "light" | "dark">} */
export const theme = kept("theme", "auto");
export const sidebarShut = kept("sidebar-shut", false);
export const tells = kept("notifications", false);

effect(() => {
  if (typeof document !== "undefined") document.documentElement.dataset.theme = theme.value;
});
