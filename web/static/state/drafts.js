// What is being written in each thread, kept until it is sent; with the files that go with it.

import { computed, signal } from "@preact/signals";
import { threadId } from "./route.js";
import { recall, remember } from "./settings.js";

const KEPT = "drafts";
const MOST = 50;

/** @type {import("@preact/signals").Signal<Record<string, string>>} */
const texts = signal(recall(KEPT, {}));
/** @type {import("@preact/signals").Signal<Record<string, File[]>>} */
const attached = signal({});
const place = () => threadId.value || "new";

export const draft = computed(() => texts.value[place()] ?? "");
/** @type {import("@preact/signals").ReadonlySignal<File[]>} */
export const files = computed(() => attached.value[place()] ?? []);

/** @type {ReturnType<typeof setTimeout> | undefined} */
let soon;

/** @param {string} text @param {string} [at] */
export function write(text, at = place()) {
  const { [at]: _, ...rest } = texts.value;
  texts.value = text ? { ...rest, [at]: text } : rest;
  clearTimeout(soon);
  soon = setTimeout(save, 200);
}

function save() {
  remember(KEPT, Object.fromEntries(Object.entries(texts.value).slice(-MOST)));
}

addEventListener("pagehide", save);

/** Whoever comes next is another. */
export function forget() {
  texts.value = {};
  save();
}

/** @param {Iterable<File>} more */
export function attach(more) {
  attached.value = { ...attached.value, [place()]: [...files.value, ...more] };
}

/** @param {File} file */
export function detach(file) {
  attached.value = { ...attached.value, [place()]: files.value.filter((one) => one !== file) };
}

/** What was sent is no draft any more. @param {string} at @param {string} sent */
export function clear(at, sent) {
  if ((texts.value[at] ?? "").trim() === sent.trim()) write("", at);
  attached.value = { ...attached.value, [at]: [] };
}
