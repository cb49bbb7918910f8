// Signing in and out. The server knows who is here by a cookie that no script can read; the key is kept nowhere.

import { ask, post } from "../net/api.js";
import { send } from "../net/line.js";
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
  }
  location.reload();
}
