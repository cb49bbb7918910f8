// Short words to the user, each with at most one thing to do about it; they go by themselves.

import { signal } from "@preact/signals";

const SHOWN_MS = 7000;

/**
 * @typedef {{ id: number, text: string, wrong: boolean, action: { label: string, do: () => void } | null }} Toast
 * @type {import("@preact/signals").Signal<Toast[]>}
 */
export const toasts = signal([]);
let last = 0;

/** @param {string} text @param {{ wrong?: boolean, action?: Toast["action"] }} [more] */
export function tell(text, { wrong = false, action = null } = {}) {
  const id = ++last;
  toasts.value = [...toasts.value.slice(-2), { id, text, wrong, action }];
  setTimeout(() => dismiss(id), SHOWN_MS);
}

/** @param {number} id */
export function dismiss(id) {
  toasts.value = toasts.value.filter((toast) => toast.id !== id);
}

/**
 * Does what the user asked for, and says so where it fails.
 * @template T
 * @param {() => Promise<T>} action
 * @returns {Promise<T | undefined>}
 */
export async function attempt(action) {
  try {
    return await action();
  } catch (error) {
    tell(error instanceof Error ? error.message : String(error), { wrong: true });
    return undefined;
  }
}
