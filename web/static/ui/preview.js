// What a file looks like. Whatever could act is shown where it reaches nothing, or not at all.

import { useEffect, useState } from "preact/hooks";
import { ending, size } from "../model/format.js";
import { highlighted, languages } from "../model/highlight.js";
import { escape } from "../model/markdown.js";
import { API, contentUrl } from "../net/api.js";
import { t } from "../words/words.js";
import { html } from "./html.js";
import { Icon } from "./icon.js";
import { Markdown } from "./markdown.js";
import { Table } from "./table.js";

/** @import { Artifact } from "../types.js" */

const LONGEST_BYTES = 3_000_000;
const CODE = /^(js|mjs|cjs|jsx|ts|tsx|py|rb|rs|go|java|kt|c|h|cc|cpp|hpp|cs|sh|bash|sql|css|scss|xml|yml|yaml|toml|ini|lua|php|pl|r|swift|scala|dart|ex|exs|hs|jl|diff|patch|dockerfile|makefile|tex|vue|graphql|proto)$/;

/**
 * @typedef {{ name: string, text: boolean, source: boolean, language: string }} Kind
 * @param {Artifact} artifact
 * @returns {Kind}
 */
export function kindOf({ name, media_type }) {
  const type = media_type.split(";")[0].trim();
  const end = ending(name);
  const of = (/** @type {string} */ kind, text = true, source = false, language = "") => ({ name: kind, text, source, language });
  if (/^image\/(png|jpeg|gif|webp)$/.test(type)) return of("image", false);
  if (type === "image/svg+xml") return of("image", true, true, "xml");
  if (type === "application/pdf") return of("pdf", false);
  if (type === "text/html" || type === "application/xhtml+xml") return of("html", true, true, "xml");
  if (type === "text/markdown" || end === "md") return of("markdown", true, true, "markdown");
  if (type === "text/csv" || end === "csv" || end === "tsv" || type === "text/tab-separated-values") return of("csv", true, true);
  if (type === "application/json" || end === "json" || type.endsWith("+json")) return of("json", true, true, "json");
  if (CODE.test(end)) return of("code", true, false, end);
  if (type.startsWith("text/") || /(javascript|xml|yaml|toml|x-sh)$/.test(type)) return of("plain");
  return of("other", false);
}

/** @param {{ artifact: Artifact }} props */
export function Preview({ artifact }) {
  const kind = kindOf(artifact);
  if (kind.name === "image") return html`<div class="picture"><img src=${contentUrl(artifact.id)} alt=${artifact.name} /></div>`;
  // Its bytes say themselves that they reach nothing; the frame says it again.
  if (kind.name === "html")
    return html`<iframe class="live" sandbox="allow-scripts" referrerpolicy="no-referrer" title=${t("file.frame", { name: artifact.name })}
      src=${`${API}/artifacts/${artifact.id}/preview`} />`;
  if (kind.name === "pdf")
    return html`<iframe class="live" title=${t("file.frame", { name: artifact.name })} src=${`${API}/artifacts/${artifact.id}/preview`} />`;
  if (!kind.text || artifact.size > LONGEST_BYTES) return html`<${Unshown} artifact=${artifact} />`;
  return html`<${Text} artifact=${artifact} kind=${kind} />`;
}

/** @param {{ artifact: Artifact }} props */
export const Source = ({ artifact }) => html`<${Text} artifact=${artifact} kind=${{ ...kindOf(artifact), name: "code" }} />`;

/** @param {{ artifact: Artifact }} props */
const Unshown = ({ artifact }) => html`
  <div class="unshown">
    <${Icon} name="file" size=${40} />
    <p>${t(artifact.size > LONGEST_BYTES ? "file.large" : "file.unshown", { size: size(artifact.size), type: artifact.media_type })}</p>
    <a class="button primary" href=${`${contentUrl(artifact.id)}?download=1`} download=${artifact.name}>${t("file.download", { name: artifact.name })}</a>
  </div>
`;

/** The text of a file, once it is here. @param {Artifact} artifact */
export function useText(artifact) {
  const [text, setText] = useState(/** @type {string | null} */ (null));
  const [wrong, setWrong] = useState("");
  useEffect(() => {
    let over = false;
    fetch(contentUrl(artifact.id))
      .then((response) => (response.ok ? response.text() : Promise.reject(new Error(t("error.status", { status: response.status })))))
      .then((found) => over || setText(found), (error) => over || setWrong(error.message));
    return () => void (over = true);
  }, [artifact.id]);
  return { text, wrong };
}

/** @param {{ artifact: Artifact, kind: Kind }} props */
function Text({ artifact, kind }) {
  const { text, wrong } = useText(artifact);
  if (wrong) return html`<p role="alert" class="none">${wrong}</p>`;
  if (text === null) return html`<div class="skeleton"><i /><i /><i /></div>`;
  if (kind.name === "markdown") return html`<div class="page"><${Markdown} text=${text} /></div>`;
  if (kind.name === "csv") return html`<${Table} text=${text} />`;
  if (kind.name === "json") return html`<${Code} text=${tidy(text)} language="json" />`;
  return html`<${Code} text=${text} language=${kind.language} />`;
}

/** @param {string} json */
function tidy(json) {
  try {
    return JSON.stringify(JSON.parse(json), null, 2);
  } catch {
    return json;
  }
}

/** @param {{ text: string, language: string }} props */
function Code({ text, language }) {
  void languages.value;
  const inner = highlighted(text, language) ?? escape(text);
  return html`<pre class="source"><code dangerouslySetInnerHTML=${{ __html: inner }} /></pre>`;
}
