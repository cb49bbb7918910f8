// Colours for code: the library and each language are fetched when the first code in it is shown.

import { signal } from "@preact/signals";

const LONGEST = 100_000;
const ALIASES = /** @type {Record<string, string>} */ ({
  js: "javascript", jsx: "javascript", mjs: "javascript", ts: "typescript", tsx: "typescript", py: "python",
  rb: "ruby", rs: "rust", sh: "bash", zsh: "bash", console: "bash", yml: "yaml", html: "xml",
  svg: "xml", htm: "xml", vue: "xml", md: "markdown", "c++": "cpp", h: "c", hpp: "cpp", cc: "cpp", "c#": "csharp",
  cs: "csharp", kt: "kotlin", golang: "go", docker: "dockerfile", make: "makefile", toml: "ini", cfg: "ini",
  conf: "ini", jsonc: "json", json5: "json", jsonl: "json", ps1: "powershell", tex: "latex", pl: "perl",
  postgresql: "sql", sqlite: "sql", patch: "diff", hs: "haskell", ex: "elixir", proto: "protobuf",
});
// vendor.py brings these.
const KNOWN = new Set(
  (
    "bash c clojure cmake cpp csharp css dart diff dockerfile elixir erlang go gradle graphql groovy " +
    "haskell http ini java javascript json julia kotlin latex less lua makefile markdown nginx nix " +
    "objectivec ocaml perl php plaintext powershell protobuf python r ruby rust scala scss shell sql " +
    "swift typescript vim wasm xml yaml"
  ).split(" "),
);

/** Counts the languages that have come: who reads it is drawn again when another one has. */
export const languages = signal(0);

/** @type {any} */
let library = null;
/** @type {Map<string, Promise<void>>} */
const asked = new Map();

/**
 * The code as HTML with its tokens in spans; null where there are no colours for it, or not yet.
 * @param {string} code
 * @param {string} given the language, as it stands at the fence
 * @returns {string | null}
 */
export function highlighted(code, given) {
  const lower = given.toLowerCase();
  const language = ALIASES[lower] ?? lower;
  if (!KNOWN.has(language) || code.length > LONGEST) return null;
  if (library?.getLanguage(language)) return library.highlight(code, { language, ignoreIllegals: true }).value;
  if (!asked.has(language)) asked.set(language, load(language));
  return null;
}

/** @param {string} language */
async function load(language) {
  if (typeof document === "undefined") return;
  try {
    const [core, grammar] = await Promise.all([
      import("highlight-core"),
      import(`highlight-languages/${language}.min.js`),
    ]);
    library ??= core.default;
    library.registerLanguage(language, grammar.default);
    languages.value += 1;
  } catch {
    // No such language: the code is shown plain.
  }
}
