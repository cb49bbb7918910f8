// The branches of a thread: which of its turns follow one another, and where one may turn off.

/** @import { Run } from "../types.js" */

/** What a first message follows. */
export const NOTHING = "nothing";

/**
 * The run that each one follows, by id; those that do not say so follow the one before them.
 * @param {Run[]} runs in the order in which they were accepted
 * @returns {Map<string, string>}
 */
export function parents(runs) {
  return new Map(runs.map((run, index) => [run.id, run.follows || (runs[index - 1]?.id ?? NOTHING)]));
}

/**
 * One way through the tree: at each fork the branch that was chosen, else the newest.
 * @param {Run[]} runs in the order in which they were accepted
 * @param {Record<string, string>} chosen parent -> the run that was chosen there
 * @returns {{ run: Run, siblings: string[] }[]}
 */
export function path(runs, chosen) {
  const parent = parents(runs);
  /** @type {Map<string, Run[]>} */
  const children = new Map();
  for (const run of runs) {
    const at = parent.get(run.id) ?? NOTHING;
    children.set(at, [...(children.get(at) ?? []), run]);
  }
  const steps = [];
  for (let at = NOTHING, next; (next = children.get(at)); ) {
    const run = next.find(({ id }) => id === chosen[at]) ?? next[next.length - 1];
    steps.push({ run, siblings: next.map(({ id }) => id) });
    at = run.id;
  }
  return steps;
}

/**
 * The choices that lead to a run.
 * @param {Run[]} runs
 * @param {string} id
 * @returns {Record<string, string>}
 */
export function wayTo(runs, id) {
  const parent = parents(runs);
  /** @type {Record<string, string>} */
  const chosen = {};
  for (let at = id; at && at !== NOTHING; at = parent.get(at) ?? NOTHING) chosen[parent.get(at) ?? NOTHING] = at;
  return chosen;
}
