// Markdown on the page: each block an element of its own, so that only the last one changes while a text grows.

import { memo } from "./memo.js";
import { useEffect, useLayoutEffect, useMemo, useRef } from "preact/hooks";
import { languages } from "../model/highlight.js";
import { divide, toHtml } from "../model/markdown.js";
import { t } from "../words/words.js";
import { html } from "./html.js";

/** @import { Blocks } from "../model/markdown.js" */

/** Fetched with the first formula. @type {((element: HTMLElement) => void) | null} */
let drawMaths = null;

const Block = memo((/** @type {{ text: string, growing: boolean, colours: number }} */ { text, growing, colours }) => {
  const element = useRef(/** @type {HTMLElement | null} */ (null));
  const inner = useMemo(() => toHtml(text, growing), [text, growing, colours]);
  useLayoutEffect(() => {
    if (!element.current?.querySelector("code.math")) return;
    if (drawMaths) drawMaths(element.current);
    else void import("./maths.js").then((maths) => ((drawMaths = maths.drawMaths), element.current && drawMaths(element.current)));
  }, [inner]);
  return html`<div class="block" ref=${element} dangerouslySetInnerHTML=${{ __html: inner }} />`;
});

/** @param {{ text: string, growing?: boolean }} props */
export function Markdown({ text, growing = false }) {
  const before = useRef(/** @type {Blocks | null} */ (null));
  before.current = divide(text, before.current);
  const { closed, open } = before.current;
  const colours = languages.value;
  const blocks = closed.map((block, index) => html`<${Block} key=${index} text=${block} growing=${false} colours=${colours} />`);
  if (open.trim()) blocks.push(html`<${Block} key=${closed.length} text=${open} growing=${growing} colours=${colours} />`);
  return html`<div class="markdown">${blocks}</div>`;
}

/** Copies the code of the block whose button was pressed. */
export function useCodeCopying() {
  useEffect(() => {
    /** @param {MouseEvent} event */
    const click = async (event) => {
      const button = event.target instanceof Element ? event.target.closest("button.copy-code") : null;
      const code = button?.closest("figure")?.querySelector("code")?.textContent;
      if (!button || code == null) return;
      await copy(code);
      button.textContent = t("copied");
      setTimeout(() => (button.textContent = t("copy")), 1500);
    };
    document.addEventListener("click", click);
    return () => document.removeEventListener("click", click);
  }, []);
}

/** @param {string} text */
export async function copy(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  // Only a secure context has a clipboard: over plain HTTP from another host there is none.
  const area = Object.assign(document.createElement("textarea"), { value: text, className: "sr-only" });
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}
