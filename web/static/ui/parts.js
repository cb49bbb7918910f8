// The parts of an answer: its text, thoughts, tools, files, notices and questions.

import { useState } from "preact/hooks";
import { between, size, span } from "../model/format.js";
import { API, contentUrl } from "../net/api.js";
import { show } from "../state/panel.js";
import { decide } from "../state/thread.js";
import { has, t } from "../words/words.js";
import { html } from "./html.js";
import { Icon } from "./icon.js";
import { lazy } from "./lazy.js";
import { Markdown } from "./markdown.js";
import { memo } from "./memo.js";

/** @import { Part, TextPart, ThoughtPart, ToolPart, ArtifactPart, NoticePart, LostPart, ApprovalPart, SaidPart } from "../model/reduce.js" */

/** @param {{ part: TextPart, live: boolean }} props */
const Text = ({ part, live }) => html`
  <div class="prose ${part.partial ? "partial" : ""}"><${Markdown} text=${part.text} growing=${live && !part.done} /></div>
`;

/** @param {{ part: ThoughtPart, live: boolean }} props */
function Thought({ part, live }) {
  const growing = live && !part.done;
  const label = growing ? t("thought.now") : t("thought.took", { span: span(between(part.from, part.to)) });
  return html`
    <details class="fold thought" data-growing=${growing}>
      <summary><${Icon} name="thought" size=${16} /><span>${label}</span><${Icon} name="down" size=${14} /></summary>
      <div class="fold-body"><${Markdown} text=${part.text} growing=${growing} /></div>
    </details>
  `;
}

/** @param {any} value */
const pretty = (value) => (typeof value === "string" ? value : JSON.stringify(value, null, 2));

/** What a tool is called among people. @param {string} name */
export const toolName = (name) => name.replace(/^mcp__\w+?__/, "").replaceAll("_", " ");

/** In a word, what a tool was asked. @param {any} input */
function gist(input) {
  if (!input || typeof input !== "object") return typeof input === "string" ? input : "";
  const telling = ["command", "name", "path", "file_path", "query", "pattern", "url", "description", "message"];
  const key = telling.find((one) => typeof input[one] === "string");
  return key ? input[key].split("\n")[0].slice(0, 120) : "";
}

/** @param {{ part: ToolPart, live: boolean, run: string }} props */
function Tool({ part, live, run }) {
  const running = live && !part.done;
  const state = running ? "running" : part.wrong ? "wrong" : part.done && !part.cut ? "done" : "cut";
  return html`
    <details class="fold tool ${state} ${part.inner ? "inner" : ""}">
      <summary>
        <span class="mark"><${Icon} name=${{ running: "tool", wrong: "warn", done: "check", cut: "cross" }[state]} size=${15} /></span>
        <span class="tool-name">${toolName(part.name) || t("tool.some")}</span>
        <span class="gist">${gist(part.input)}</span>
        <span class="sr-only">${t(`tool.${state}`)}</span>
        ${part.done && between(part.from, part.to) >= 100 && html`<small>${span(between(part.from, part.to))}</small>`}
        <${Icon} name="down" size=${14} />
      </summary>
      <div class="fold-body">
        ${part.input != null && html`<p class="label">${t("tool.input")}</p><pre tabindex="0">${pretty(part.input)}</pre>`}
        ${part.output != null && html`<p class="label">${t("tool.output")}</p><pre tabindex="0">${pretty(part.output)}</pre>`}
        ${part.large && html`<${LargeValue} run=${run} large=${part.large} />`}
      </div>
    </details>
  `;
}

/** @param {{ run: string, large: { seq: number, field: string, size: number } }} props */
function LargeValue({ run, large }) {
  const [text, setText] = useState(/** @type {string | null} */ (null));
  const load = async () => setText(await (await fetch(`${API}/runs/${run}/events/${large.seq}/value`)).text());
  if (text !== null) return html`<pre tabindex="0">${text}</pre>`;
  return html`<button type="button" class="plain" onClick=${load}>${t("tool.large", { size: size(large.size) })}</button>`;
}

/** @param {{ part: ArtifactPart }} props */
export const ArtifactCard = ({ part: { artifact } }) => html`
  <div class="artifact-card">
    <button type="button" class="artifact-open" onClick=${() => show(artifact)}>
      <span class="artifact-icon"><${Icon} name="file" size=${22} /></span>
      <span class="artifact-words">
        <span class="artifact-name">${artifact.name}</span>
        <small>${t("file.about", { version: artifact.version, size: size(artifact.size) })}</small>
      </span>
    </button>
    <a class="icon-button" href=${`${contentUrl(artifact.id)}?download=1`} download=${artifact.name}
      aria-label=${t("file.download", { name: artifact.name })} title=${t("file.download", { name: artifact.name })}>
      <${Icon} name="save" />
    </a>
  </div>
`;

/** @param {{ part: NoticePart }} props */
function Notice({ part }) {
  const key = `notice.${part.code}`;
  return html`
    <p class="notice ${part.level}">
      <${Icon} name=${part.level === "info" ? "bell" : "warn"} size=${15} />
      <span>${has(key) ? t(key) : ""} ${part.message}</span>
    </p>
  `;
}

/** @param {{ part: LostPart }} props */
const Lost = ({ part }) => html`
  <p class="notice ${part.resumed ? "info" : "warning"}">
    <${Icon} name="again" size=${15} /><span>${t(part.resumed ? "lost.resumed" : "lost.waits")}</span>
  </p>
`;

const ApprovalCard = lazy(() => import("./approval.js"), "ApprovalCard");

/** @param {{ part: ApprovalPart }} props */
const Approve = ({ part }) => html`<${ApprovalCard} approval=${part.approval} decide=${decide} />`;

/** @param {{ part: SaidPart }} props */
const Said = ({ part }) => html`<div class="asked steered"><div class="bubble">${part.text}</div></div>`;

const KINDS = { text: Text, thought: Thought, tool: Tool, artifact: ArtifactCard, notice: Notice, lost: Lost, approval: Approve, said: Said };

export const PartView = memo((/** @type {{ part: Part, live: boolean, run: string }} */ { part, live, run }) => {
  const Kind = /** @type {any} */ (KINDS[part.kind]);
  return html`<${Kind} part=${part} live=${live} run=${run} />`;
});
