// What lies beside or over the conversation: the files, the tray, the sheet of shortcuts.

import { computed, signal } from "@preact/signals";
import { artifacts } from "./thread.js";

/** @import { Artifact } from "../types.js" */

export const filesOpen = signal(false);
/** The name of the file that is shown, and its version; the newest where it is 0. */
export const shown = signal({ name: "", version: 0 });
export const trayOpen = signal(false);
export const sheetOpen = signal(false);
export const drawerOpen = signal(false);

/** All files of the thread, each with its versions, the newest first. */
export const files = computed(() => {
  /** @type {Map<string, Artifact[]>} */
  const byName = new Map();
  for (const artifact of artifacts.value) byName.set(artifact.name, [...(byName.get(artifact.name) ?? []), artifact]);
  for (const versions of byName.values()) versions.sort((one, other) => other.version - one.version);
  return byName;
});

/** @param {Artifact} artifact */
export function show(artifact) {
  shown.value = { name: artifact.name, version: artifact.version };
  filesOpen.value = true;
}
