// Signing in and out. The server knows who is here by a cookie that no script can read; the key is kept nowhere.

import { ask, post, session } from "../net/api.js";
import { send } from "../net/line.js";
import { title } from "./attention.js";
import { forget } from "./drafts.js";

/** @param {string} key @throws {import("../net/api.js").Refused} */
export async function signIn(key) {
  await post("/session", { key });
  send({ type: "leave", forgets: false });
}

export async function signOut() {
  await ask("DELETE", "/session");
  send({ type: "leave", forgets: true });
}

/** Begins anew, in all tabs: whatever is shown was somebody's. @param {boolean} forgets */
export function leave(forgets) {
  if (forgets) {
    forget();
    history.replaceState(null, "", location.pathname);
    // At the door already, and maybe somebody writes a key there.
    if (session.value === null) return void (title.value = "");
  }
  location.reload();
}
