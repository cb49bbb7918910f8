// What keys do, wherever one is.

import { useLayoutEffect } from "preact/hooks";
import { drawerOpen, filesOpen, sheetOpen, trayOpen } from "../state/panel.js";
import { sidebarShut } from "../state/settings.js";
import { head, stop } from "../state/thread.js";
import { open } from "./sidebar.js";

const focus = (/** @type {string} */ id) => document.getElementById(id)?.focus();
const narrow = () => matchMedia("(max-width: 860px)").matches;

/** Key (with Ctrl or ⌘) -> what it does. @type {Record<string, () => void>} */
const COMMANDS = {
  k: () => {
    if (narrow()) drawerOpen.value = true;
    sidebarShut.value = false;
    // Preact draws in a microtask, too, and by then the list can be seen.
    queueMicrotask(() => focus("search"));
  },
  "shift+o": () => open(""),
  "/": () => (sheetOpen.value = !sheetOpen.value),
  ".": () => (filesOpen.value = !filesOpen.value),
  j: () => (trayOpen.value = !trayOpen.value),
  b: () => (narrow() ? (drawerOpen.value = !drawerOpen.value) : (sidebarShut.value = !sidebarShut.value)),
  "shift+s": () => void (head.value && stop(head.value)),
};

export function useShortcuts() {
  // As soon as anything is to be seen, keys work.
  useLayoutEffect(() => {
    const press = (/** @type {KeyboardEvent} */ event) => {
      if (event.key === "Escape" && !event.defaultPrevented) {
        const topmost = [sheetOpen, trayOpen, drawerOpen, filesOpen].find((one) => one.value);
        if (topmost) topmost.value = false;
        else focus("input");
        return;
      }
      if (!(event.ctrlKey || event.metaKey) || event.altKey) return;
      const command = COMMANDS[(event.shiftKey && event.key.length === 1 && event.key !== "/" ? "shift+" : "") + event.key.toLowerCase()];
      if (!command) return;
      event.preventDefault();
      command();
    };
    addEventListener("keydown", press);
    return () => removeEventListener("keydown", press);
  }, []);
}
