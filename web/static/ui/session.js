// The door of the page: what is there instead of it for who is not signed in, and who is.

import { useState } from "preact/hooks";
import { session } from "../net/api.js";
import { signIn, signOut } from "../state/session.js";
import { attempt } from "../state/toasts.js";
import { t } from "../words/words.js";
import { html } from "./html.js";

export function SignIn() {
  const [wrong, setWrong] = useState("");
  const [asking, setAsking] = useState(false);
  const submit = async (/** @type {SubmitEvent} */ event) => {
    event.preventDefault();
    const field = /** @type {HTMLInputElement} */ (document.getElementById("key"));
    setAsking(true);
    try {
      await signIn(field.value.trim());
    } catch (error) {
      setWrong(/** @type {Error} */ (error).message);
      setAsking(false);
      field.select();
    }
  };
  return html`
    <main class="sign-in">
      <form onSubmit=${submit}>
        <img src="icon.svg" alt="" width="44" height="44" />
        <h1>${t("session.title")}</h1>
        <p>${t("session.words")}</p>
        <label for="key">${t("session.key")}</label>
        <input id="key" type="password" required maxlength="200" autocomplete="current-password" autocapitalize="none"
          spellcheck=${false} autofocus aria-invalid=${wrong ? "true" : undefined} aria-describedby="key-wrong" />
        <p id="key-wrong" class="sign-in-wrong" role="alert">${wrong}</p>
        <button type="submit" disabled=${asking}>${t("session.in")}</button>
        <p class="sign-in-hint">${t("session.hint")} <code>longwick keys create</code></p>
      </form>
    </main>
  `;
}

export function Who() {
  const { owner, how } = session.value ?? {};
  return html`
    <div class="who">
      <span class="sr-only">${t("session.owner")}</span><span class="who-name" title=${owner}>${owner}</span>
      ${how === "page" && html`<button type="button" class="plain" onClick=${() => attempt(signOut)}>${t("session.out")}</button>`}
    </div>
  `;
}
