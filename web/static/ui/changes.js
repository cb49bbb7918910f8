// What differs between two versions of a text.

import { useEffect, useState } from "preact/hooks";
import { t } from "../words/words.js";
import { html } from "./html.js";
import { useText } from "./preview.js";

/** @import { Artifact } from "../types.js" */

const CONTEXT = 3;

/** @param {{ artifact: Artifact, older: Artifact[] }} props */
export function Changes({ artifact, older }) {
  const [against, setAgainst] = useState(older[0]);
  const now = useText(artifact);
  const before = useText(against);
  const [pieces, setPieces] = useState(/** @type {any[] | null} */ (null));
  useEffect(() => {
    setPieces(null);
    if (now.text === null || before.text === null) return;
    const [one, other] = [before.text, now.text];
    void import("diff").then(({ diffLines }) => setPieces(diffLines(one, other, { timeout: 2000 }) ?? []));
  }, [now.text, before.text]);
  return html`
    <div class="changes-head">
      <label>${t("changes.against")} <select value=${against.version}
        onChange=${(/** @type {any} */ event) => setAgainst(older.find(({ version }) => version === Number(event.target.value)) ?? older[0])}>
        ${older.map(({ version }) => html`<option key=${version} value=${version}>${t("file.version.n", { n: version })}</option>`)}
      </select></label>
    </div>
    ${pieces === null && html`<div class="skeleton"><i /><i /><i /></div>`}
    ${pieces?.every(({ added, removed }) => !added && !removed) && html`<p class="none">${t("changes.none")}</p>`}
    ${pieces && html`<pre class="changes" aria-label=${t("file.changes")}>${lines(pieces).map(({ mark, text }, index) => html`<span key=${index} class=${mark}>${text}\n</span>`)}</pre>`}
  `;
}

/** Lines with their mark; of long stretches that are the same, the ends. @param {any[]} pieces */
function lines(pieces) {
  return pieces.flatMap(({ value, added, removed }, index) => {
    const all = value.replace(/\n$/, "").split("\n");
    const mark = added ? "added" : removed ? "removed" : "same";
    const sign = added ? "+ " : removed ? "− " : "  ";
    const marked = all.map((/** @type {string} */ text) => ({ mark, text: sign + text }));
    if (mark !== "same" || all.length <= 2 * CONTEXT + 1) return marked;
    const head = index === 0 ? [] : marked.slice(0, CONTEXT);
    const tail = index === pieces.length - 1 ? [] : marked.slice(-CONTEXT);
    return [...head, { mark: "skipped", text: t("changes.skipped", { n: all.length - head.length - tail.length }) }, ...tail];
  });
}
