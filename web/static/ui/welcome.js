// What an empty conversation says.

import { agents } from "../state/agents.js";
import { write } from "../state/drafts.js";
import { t } from "../words/words.js";
import { html } from "./html.js";

const IDEAS = ["idea.haiku", "idea.table", "idea.page", "idea.slow"];

export function Welcome() {
  const hour = new Date().getHours();
  const greeting = t(hour < 5 ? "greeting.night" : hour < 12 ? "greeting.morning" : hour < 18 ? "greeting.day" : "greeting.evening");
  const take = (/** @type {string} */ words) => {
    write(words);
    document.getElementById("input")?.focus();
  };
  // Null while no worker can run it.
  const told = agents.value.filter(({ isolated }) => isolated != null);
  return html`
    <div class="welcome">
      <img src="icon.svg" alt="" width="44" height="44" />
      <h2>${greeting}</h2>
      <p>${t("welcome")}</p>
      <div class="ideas">
        ${IDEAS.map((key) => html`<button type="button" key=${key} onClick=${() => take(t(key))}>${t(key)}</button>`)}
      </div>
      ${told.length > 0 && html`<small>${t(told.every(({ isolated }) => isolated) ? "welcome.sandbox" : "welcome.bare")}</small>`}
    </div>
  `;
}
