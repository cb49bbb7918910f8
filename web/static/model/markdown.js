// Markdown to safe HTML, a block at a time: of a text that grows, only its last block is ever laid out again.

import DOMPurify from "dompurify";
import { Marked } from "marked";
import { t } from "../words/words.js";
import { highlighted } from "./highlight.js";

/** @import { Token, Tokens } from "marked" */

/**
 * A text in blocks. All but the last are closed: whatever follows, they stay as they are.
 * @typedef {{ text: string, closed: string[], length: number, open: string }} Blocks
 */

/** @type {Blocks} */
const NONE = { text: "", closed: [], length: 0, open: "" };
const SAFE_LINK = /^(https?:|mailto:)/i;
// The few tags that models write and that only shape text. Everything else is shown as it was written.
const SHAPES = /^<\/?(br|sub|sup|kbd|mark)\s*\/?>$/i;

/** @param {string} text */
export const escape = (text) =>
  text.replace(/[&<>"']/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" })[c] ?? c);

/** @param {string} tex @param {boolean} display */
const math = (tex, display) => `<code class="math${display ? " math-display" : ""}">${escape(tex)}</code>`;

const blockMath = {
  name: "blockMath",
  level: /** @type {const} */ ("block"),
  start: (/** @type {string} */ source) => source.match(/\$\$|\\\[/)?.index,
  tokenizer(/** @type {string} */ source) {
    const found = /^ {0,3}(?:\$\$([\s\S]+?)\$\$|\\\[([\s\S]+?)\\\])[ \t]*(?:\n|$)/.exec(source);
    return found ? { type: "blockMath", raw: found[0], tex: (found[1] ?? found[2]).trim() } : undefined;
  },
  renderer: (/** @type {any} */ token) => math(token.tex, true),
};

const inlineMath = {
  name: "inlineMath",
  level: /** @type {const} */ ("inline"),
  start: (/** @type {string} */ source) => source.match(/\$|\\\(|\\\[/)?.index,
  tokenizer(/** @type {string} */ source) {
    // A dollar before a space or a digit after the closing one is money.
    const found =
      /^\$\$([^$]+?)\$\$|^\\\[([\s\S]+?)\\\]/.exec(source) ??
      /^\\\(([\s\S]+?)\\\)|^\$(?![\s\d])((?:\\.|[^\\$\n])+?)(?<!\s)\$(?!\d)|^\$(\d[^$\n]*[\\^_={}][^$\n]*?)(?<!\s)\$(?!\d)/.exec(source);
    if (!found) return undefined;
    const tex = found.slice(1).find(Boolean) ?? "";
    return { type: "inlineMath", raw: found[0], tex: tex.trim(), display: /^(\$\$|\\\[)/.test(found[0]) };
  },
  renderer: (/** @type {any} */ token) => math(token.tex, token.display),
};

const marked = new Marked({ gfm: true, extensions: [blockMath, inlineMath] });
marked.use({
  renderer: {
    html: ({ text }) => (SHAPES.test(text.trim()) ? text : escape(text)),
    // Never loaded: a picture from elsewhere tells its owner that, when and what was read.
    image: ({ href, text }) => link(href, escape(text || href), "image-link"),
    link({ href, tokens }) {
      return link(href, this.parser.parseInline(tokens));
    },
    checkbox: ({ checked }) => `<span class="box">${checked ? "☑" : "☐"}</span> `,
    table(token) {
      const row = (/** @type {Tokens.TableCell[]} */ cells) =>
        cells
          .map((cell) => {
            const tag = cell.header ? "th" : "td";
            const align = cell.align ? ` class="to-${cell.align}"` : "";
            return `<${tag}${align}>${this.parser.parseInline(cell.tokens)}</${tag}>`;
          })
          .join("");
      const body = token.rows.map((cells) => `<tr>${row(cells)}</tr>`).join("");
      const table = `<table><thead><tr>${row(token.header)}</tr></thead><tbody>${body}</tbody></table>`;
      return `<div class="table" tabindex="0" role="region" aria-label="${t("code.table")}">${table}</div>`;
    },
    code({ text, lang }) {
      const language = (lang ?? "").trim().split(/\s/)[0];
      const label = escape(language || t("code.plain"));
      const copy = `<button type="button" class="copy-code">${t("copy")}</button>`;
      const code = `<pre tabindex="0"><code>${highlighted(text, language) ?? escape(text)}</code></pre>`;
      return `<figure class="code"><figcaption><span>${label}</span>${copy}</figcaption>${code}</figure>`;
    },
  },
});

/** @param {string} href @param {string} inner @param {string} kind */
function link(href, inner, kind = "") {
  if (!SAFE_LINK.test(href)) return `<span class="dead-link">${inner}</span>`;
  const names = kind ? ` class="${kind}"` : "";
  return `<a${names} href="${escape(href)}" title="${escape(href)}" target="_blank" rel="noopener noreferrer">${inner}</a>`;
}

/**
 * The text in blocks, given how an earlier part of it was divided.
 * @param {string} text
 * @param {Blocks | null} before
 * @returns {Blocks}
 */
export function divide(text, before = null) {
  if (before?.text === text) return before;
  const kept = before && text.startsWith(before.text.slice(0, before.length)) ? before : NONE;
  /** @type {Token[]} */
  const tokens = marked.lexer(text.slice(kept.length));
  let last = tokens.length - 1;
  while (last > 0 && tokens[last].type === "space") last -= 1;
  const closing = tokens.slice(0, Math.max(last, 0));
  const raws = closing.filter(({ type }) => type !== "space").map(({ raw }) => raw);
  const length = kept.length + closing.reduce((sum, { raw }) => sum + raw.length, 0);
  return { text, closed: raws.length ? [...kept.closed, ...raws] : kept.closed, length, open: text.slice(length) };
}

/** Ends what was begun in a block; fetched with the first text that grows. @type {((text: string) => string) | null} */
let ended = null;
/** @type {Promise<void> | null} */
let fetching = null;

async function fetchEnding() {
  const { default: remend } = await import("remend");
  ended = (text) => remend(text, { linkMode: "text-only", katex: false });
}

/**
 * The HTML of a block; of one that is being written, with what was begun in it ended.
 * @param {string} block
 * @param {boolean} growing
 */
export function toHtml(block, growing = false) {
  if (growing) fetching ??= fetchEnding();
  const whole = growing && ended ? ended(block) : block;
  return DOMPurify.sanitize(/** @type {string} */ (marked.parse(whole)), SAFE);
}

const SAFE = {
  ALLOWED_TAGS: (
    "a b blockquote br button code del div em figcaption figure h1 h2 h3 h4 h5 h6 hr i kbd li mark ol p pre s " +
    "span strong sub sup table tbody td th thead tr u ul"
  ).split(" "),
  ALLOWED_ATTR: ["aria-label", "class", "href", "rel", "role", "start", "tabindex", "target", "title", "type"],
  ALLOWED_URI_REGEXP: SAFE_LINK,
  // These hold no address, and are not to be held against the pattern of one.
  ADD_URI_SAFE_ATTR: ["rel", "role", "start", "tabindex", "target", "type"],
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
};
