// What all that opens over or beside the page does: take the focus, give it back, and go at Escape.

import { useLayoutEffect, useRef } from "preact/hooks";

/** @param {import("@preact/signals").Signal<boolean>} isOpen */
export function useDialog(isOpen) {
  const element = useRef(/** @type {HTMLElement | null} */ (null));
  // Before anything else can be pressed.
  useLayoutEffect(() => {
    const before = document.activeElement;
    element.current?.focus();
    const key = (/** @type {KeyboardEvent} */ event) => {
      if (event.key !== "Escape" || event.defaultPrevented) return;
      event.preventDefault();
      isOpen.value = false;
    };
    element.current?.addEventListener("keydown", key);
    return () => {
      if (before instanceof HTMLElement && before.isConnected) before.focus();
    };
  }, []);
  return element;
}
