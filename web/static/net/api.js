// The API: one function to ask it, and the words for when it does not answer.

import { signal } from "@preact/signals";
import { t } from "../words/words.js";

export const API = "/api/v1";

/** Who is here; null where the server wants to be shown a key. @type {import("@preact/signals").Signal<import("../types.js").Session | null | undefined>} */
export const session = signal(undefined);

/** An answer that is a refusal, or no answer at all (status 0). */
export class Refused extends Error {
  /** @param {number} status @param {string} code @param {string} message */
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/**
 * @param {string} method
 * @param {string} path
 * @param {any} [body] JSON, or a form with files
 * @param {Record<string, string>} [headers]
 * @returns {Promise<any>}
 * @throws {Refused}
 */
export async function ask(method, path, body, headers = {}) {
  const isForm = body instanceof FormData;
  const sent = body === undefined || isForm ? body : JSON.stringify(body);
  if (body !== undefined && !isForm) headers = { "Content-Type": "application/json", ...headers };
  const response = await fetch(API + path, { method, headers: { "X-Longwick-Page": "1", ...headers }, body: sent }).catch(() => {
    throw new Refused(0, "unreachable", t("error.unreachable"));
  });
  const answer = response.status === 204 ? null : await response.json().catch(() => null);
  if (response.ok) return answer;
  if (response.status === 401) session.value = null;
  const message = answer?.error?.message ?? answer?.detail ?? t("error.status", { status: response.status });
  throw new Refused(response.status, answer?.code ?? "", message);
}

/** @param {string} path */
export const get = (path) => ask("GET", path);

/** @param {string} path @param {any} [body] @param {string} [key] an Idempotency-Key */
export const post = (path, body, key) => ask("POST", path, body, key ? { "Idempotency-Key": key } : {});

/**
 * A whole list, page by page.
 * @param {string} path
 * @param {Record<string, string | number>} [query]
 * @returns {Promise<any[]>}
 */
export async function all(path, query = {}) {
  const found = [];
  for (let after = {}; ; ) {
    const asked = { limit: "1000", ...query, ...after };
    const page = await get(`${path}?${new URLSearchParams(/** @type {any} */ (asked))}`);
    found.push(...page.data);
    if (!page.has_more) return found;
    after = { after: page.last_id };
  }
}

/** What is sent again under the same key is not done twice. */
export const newKey = () => crypto.getRandomValues(new Uint32Array(4)).join("-");

/** @param {string} id */
export const contentUrl = (id) => `${API}/artifacts/${encodeURIComponent(id)}/content`;
