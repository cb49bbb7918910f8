// The agents that can be asked, and what each of them can.

import { computed, signal } from "@preact/signals";
import { get } from "../net/api.js";
import { kept } from "./settings.js";
import { thread } from "./thread.js";

/** @import { Agent } from "../types.js" */

/** @type {import("@preact/signals").Signal<Agent[]>} */
export const agents = signal([]);
/** What was chosen for the next message; empty is the thread's, or the default one. */
export const agentChoice = kept("agent", "");
export const modelChoice = signal("");
export const background = signal(false);

/** The agent of the next message, as far as it is known here. */
export const agent = computed(() => {
  const wanted = agentChoice.value || thread.value?.agent || "";
  return agents.value.find(({ id }) => id === wanted) ?? null;
});

/** @param {Agent | null | undefined} one @param {string} what */
export function can(one, what) {
  const known = one?.capabilities;
  if (!known) return false;
  return Array.isArray(known) ? known.includes(what) : Boolean(known[what]);
}

export async function loadAgents() {
  agents.value = (await get("/agents")).data;
  if (agentChoice.value && !agents.value.some(({ id, available }) => available && id === agentChoice.value))
    agentChoice.value = "";
}
