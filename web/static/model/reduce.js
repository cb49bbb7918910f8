// What a run's log adds up to: one pure function from events to what is shown. Nothing here knows of a browser.

/** @import { Approval, Artifact, RunError, RunEvent, Status } from "../types.js" */

/**
 * What an event left out because it is too large; its bytes are to be asked for.
 * @typedef {{ seq: number, field: string, size: number }} Large
 *
 * @typedef {{ kind: "text", id: string, text: string, done: boolean, partial: boolean, base: string }} TextPart
 * @typedef {{ kind: "thought", id: string, text: string, done: boolean, from: string, to: string }} ThoughtPart
 * @typedef {{ kind: "tool", id: string, name: string, input: any, output: any, done: boolean, wrong: boolean,
 *   cut: boolean, inner: boolean, from: string, to: string, large: Large | null }} ToolPart
 * @typedef {{ kind: "artifact", id: string, artifact: Artifact }} ArtifactPart
 * @typedef {{ kind: "notice", id: string, level: string, code: string, message: string }} NoticePart
 * @typedef {{ kind: "lost", id: string, reason: string, resumed: boolean }} LostPart
 * @typedef {{ kind: "approval", id: string, approval: Approval }} ApprovalPart
 * @typedef {{ kind: "said", id: string, text: string }} SaidPart
 * @typedef {TextPart | ThoughtPart | ToolPart | ArtifactPart | NoticePart | LostPart | ApprovalPart | SaidPart} Part
 *
 * @typedef {{
 *   seq: number, status: Status, attempt: number, agent: string, model: string | null, parts: Part[],
 *   progress: { message: string, fraction: number | null } | null, usage: Record<string, any> | null,
 *   cost: number | null, milliseconds: number | null, error: RunError | null, startedAt: string | null,
 *   lastAt: string | null, alias: Record<string, string>,
 * }} View
 */

const ENDED = new Set(["succeeded", "failed", "cancelled"]);

/** @param {Status} status */
export const isOver = (status) => ENDED.has(status);

/** @returns {View} */
export const emptyView = () => ({
  seq: 0,
  status: "queued",
  attempt: 0,
  agent: "",
  model: null,
  parts: [],
  progress: null,
  usage: null,
  cost: null,
  milliseconds: null,
  error: null,
  startedAt: null,
  lastAt: null,
  alias: {},
});

/**
 * The view after more events. What was seen before is passed over, so that a stream may repeat itself.
 * @param {View} before
 * @param {RunEvent[]} events
 * @returns {View}
 */
export function reduce(before, events) {
  const view = { ...before, parts: [...before.parts], alias: { ...before.alias } };
  for (const event of events) {
    if (event.seq <= view.seq) continue;
    view.seq = event.seq;
    view.lastAt = event.at;
    FOLDS[event.type]?.(view, event.data, event);
  }
  return view;
}

/** @type {Record<string, (view: View, data: any, event: RunEvent) => void>} */
const FOLDS = {
  "run.queued": (view, data) => {
    view.agent = data.agent ?? view.agent;
  },
  "run.started": (view, data, event) => {
    Object.assign(view, { status: "running", attempt: data.attempt, agent: data.agent, model: data.model });
    view.startedAt ??= event.at;
    for (const [index, part] of view.parts.entries())
      if (part.kind === "lost" && !part.resumed) view.parts[index] = { ...part, resumed: true };
  },
  "run.attempt_lost": (view, data, event) => {
    Object.assign(view, { status: "queued", progress: null });
    view.parts.push({ kind: "lost", id: `lost${event.seq}`, reason: data.reason ?? "", resumed: false });
  },
  "run.waiting": (view) => {
    view.status = "waiting";
  },
  "message.started": (view, data) => void text(view, data.message_id),
  "message.delta": (view, data) => {
    const part = text(view, data.message_id);
    part.text += data.text;
  },
  "message.completed": (view, data) => {
    const part = text(view, data.message_id);
    if (typeof data.text === "string") part.text = part.base + data.text;
    part.done = true;
    part.partial = Boolean(data.partial);
  },
  "input.delivered": (view, data, event) => {
    view.parts.push({ kind: "said", id: data.message_id ?? `said${event.seq}`, text: data.text ?? "" });
  },
  "reasoning.delta": (view, data, event) => {
    const part = thought(view, data.reasoning_id, event.at);
    part.text += data.text;
    part.to = event.at;
  },
  "reasoning.completed": (view, data, event) => {
    const part = thought(view, data.reasoning_id, event.at);
    if (typeof data.text === "string") part.text = data.text;
    part.done = true;
    part.to = event.at;
  },
  "tool.delta": (view, data, event) => {
    const part = tool(view, data.tool_call_id, event.at);
    Object.assign(part, { name: data.name ?? part.name, input: (part.input ?? "") + data.text });
  },
  "tool.started": (view, data, event) => {
    const part = tool(view, data.tool_call_id, event.at);
    Object.assign(part, { name: data.name ?? "", input: data.input, large: large(data, event) });
    part.inner = Boolean(data.parent_tool_call_id);
  },
  "tool.completed": (view, data, event) => {
    const part = tool(view, data.tool_call_id, event.at);
    Object.assign(part, { output: data.output, wrong: Boolean(data.is_error), cut: Boolean(data.partial) });
    Object.assign(part, { done: true, to: event.at, large: large(data, event) ?? part.large });
  },
  "artifact.saved": (view, data) => {
    const { artifact } = data;
    if (!view.parts.some(({ id }) => id === artifact.id)) view.parts.push({ kind: "artifact", id: artifact.id, artifact });
  },
  "approval.requested": (view, data) => approve(view, data.approval),
  "approval.resolved": (view, data) => approve(view, data.approval),
  progress: (view, data) => {
    view.progress = { message: data.message ?? "", fraction: data.fraction ?? null };
  },
  notice: (view, data, event) => {
    const { level = "info", code = "", message = "" } = data;
    view.parts.push({ kind: "notice", id: `notice${event.seq}`, level, code, message });
  },
  "usage.updated": (view, data) => {
    const { cost_usd: cost, ...usage } = data;
    Object.assign(view, { usage, cost: cost ?? view.cost });
  },
  "run.succeeded": (view, data) => end(view, "succeeded", data),
  "run.failed": (view, data) => end(view, "failed", data),
  "run.cancelled": (view, data) => end(view, "cancelled", data),
};

/**
 * A part of its own for this reduction, for it to be changed: the one before stays as it was.
 * @template {Part} P
 * @param {View} view
 * @param {P["kind"]} kind
 * @param {string} id
 * @param {() => P} made
 * @returns {P}
 */
function part(view, kind, id, made) {
  const index = view.parts.findLastIndex((one) => one.kind === kind && one.id === id);
  const own = /** @type {P} */ (index < 0 ? made() : { ...view.parts[index] });
  if (index < 0) view.parts.push(own);
  else view.parts[index] = own;
  return own;
}

/**
 * The block of an answer. The first one after a lost attempt goes on where the last one was cut off.
 * @param {View} view
 * @param {string} given
 */
function text(view, given) {
  const id = view.alias[given] ?? given;
  const index = view.parts.findLastIndex(({ kind }) => kind === "text" || kind === "lost");
  const isNew = !view.parts.some((one) => one.kind === "text" && one.id === id);
  if (isNew && view.parts[index]?.kind === "lost") {
    const cut = view.parts.findLast((one) => one.kind === "text");
    if (cut?.kind === "text" && cut.partial) {
      view.alias[given] = cut.id;
      const own = part(view, "text", cut.id, () => cut);
      Object.assign(own, { base: cut.text, done: false, partial: false });
      return own;
    }
  }
  return part(view, "text", id, () => ({ kind: "text", id, text: "", done: false, partial: false, base: "" }));
}

/** @param {View} view @param {string} id @param {string} at */
function thought(view, id, at) {
  /** @type {ThoughtPart} */
  const begun = { kind: "thought", id, text: "", done: false, from: at, to: at };
  return part(view, "thought", id, () => begun);
}

/** @param {View} view @param {string} id @param {string} at @returns {ToolPart} */
function tool(view, id, at) {
  /** @type {ToolPart} */
  const begun = { kind: "tool", id, name: "", input: null, output: null, done: false, wrong: false, cut: false, inner: false, from: at, to: at, large: null };
  return part(view, "tool", id, () => begun);
}

/** @param {View} view @param {Approval} approval */
function approve(view, approval) {
  part(view, "approval", approval.id, () => ({ kind: "approval", id: approval.id, approval })).approval = approval;
}

/** @param {any} data @param {RunEvent} event @returns {Large | null} */
const large = (data, event) =>
  data.value ? { seq: event.seq, field: data.value.field, size: data.value.size } : null;

/** @param {View} view @param {Status} status @param {any} data */
function end(view, status, data) {
  Object.assign(view, { status, progress: null, error: data.error ?? null, milliseconds: data.duration_ms ?? null });
  view.usage = data.usage ?? view.usage;
  view.cost = data.cost_usd ?? view.cost;
  // Nobody takes over what has ended.
  view.parts = view.parts.filter((one) => one.kind !== "lost" || one.resumed);
  for (const [index, one] of view.parts.entries()) {
    if ("done" in one && !one.done) view.parts[index] = { ...one, done: true, ...(one.kind === "text" ? { partial: true } : {}) };
    if (one.kind === "approval" && one.approval.status === "pending")
      view.parts[index] = { ...one, approval: { ...one.approval, status: "expired" } };
  }
}
