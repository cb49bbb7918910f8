import assert from "node:assert/strict";
import { test } from "node:test";
import { emptyView, reduce } from "../../web/static/model/reduce.js";

/** @param {...[string, any]} given */
const events = (...given) =>
  given.map(([type, data], index) => ({ seq: index + 1, run_id: "run_1", attempt: 1, at: `2026-01-01T00:00:0${index % 10}.000Z`, type, data }));

const TURN = events(
  ["run.queued", { agent: "demo", kind: "chat" }],
  ["run.started", { attempt: 1, agent: "demo", model: "m" }],
  ["reasoning.delta", { reasoning_id: "r1", text: "Hm" }],
  ["reasoning.completed", { reasoning_id: "r1", text: "Hmm" }],
  ["message.started", { message_id: "b1" }],
  ["message.delta", { message_id: "b1", text: "Hel" }],
  ["message.delta", { message_id: "b1", text: "lo" }],
  ["message.completed", { message_id: "b1", text: "Hello", partial: false }],
  ["tool.started", { tool_call_id: "t1", name: "ls", input: { a: 1 } }],
  ["artifact.saved", { artifact: { id: "art_1", name: "a.txt" }, tool_call_id: "t1" }],
  ["tool.completed", { tool_call_id: "t1", output: "done", is_error: false }],
  ["run.succeeded", { usage: { input_tokens: 3 }, cost_usd: 0.5, duration_ms: 1200 }],
);

test("a run adds up to its parts, in the order in which they began", () => {
  const view = reduce(emptyView(), TURN);
  assert.deepEqual(view.parts.map(({ kind }) => kind), ["thought", "text", "tool", "artifact"]);
  assert.deepEqual([view.status, view.cost, view.milliseconds, view.model], ["succeeded", 0.5, 1200, "m"]);
  const [thought, text, tool] = /** @type {any[]} */ (view.parts);
  assert.equal(thought.text, "Hmm");
  assert.deepEqual([text.text, text.done, text.partial], ["Hello", true, false]);
  assert.deepEqual([tool.input, tool.output, tool.wrong, tool.done], [{ a: 1 }, "done", false, true]);
});

test("however the events are divided, they add up to the same", () => {
  const whole = reduce(emptyView(), TURN);
  for (let cut = 0; cut <= TURN.length; cut++)
    assert.deepEqual(reduce(reduce(emptyView(), TURN.slice(0, cut)), TURN.slice(cut)), whole);
});

test("what comes twice counts once", () => {
  const whole = reduce(emptyView(), TURN);
  assert.deepEqual(reduce(reduce(whole, TURN), TURN.slice(4)), whole);
});

test("a view that was handed out never changes", () => {
  const half = reduce(emptyView(), TURN.slice(0, 6));
  const before = structuredClone(half);
  reduce(half, TURN.slice(6));
  assert.deepEqual(half, before);
});

test("the first text after a lost attempt goes on where the last one was cut off", () => {
  const view = reduce(
    emptyView(),
    events(
      ["message.delta", { message_id: "b1", text: "one tw" }],
      ["message.completed", { message_id: "b1", text: "one tw", partial: true }],
      ["run.attempt_lost", { attempt: 1, reason: "worker_lost" }],
      ["run.started", { attempt: 2, agent: "demo" }],
      ["message.delta", { message_id: "b2", text: "o three" }],
      ["message.completed", { message_id: "b2", text: "o three", partial: false }],
      ["message.delta", { message_id: "b3", text: "four" }],
    ),
  );
  assert.deepEqual(
    view.parts.map((part) => [part.kind, /** @type {any} */ (part).text ?? /** @type {any} */ (part).resumed]),
    [["text", "one two three"], ["lost", true], ["text", "four"]],
  );
});

test("a run that ended with a lost attempt is not said to be taken over", () => {
  const lost = events(
    ["message.delta", { message_id: "b1", text: "half" }],
    ["run.attempt_lost", { attempt: 1, reason: "worker_lost" }],
    ["run.failed", { error: { code: "worker_lost" } }],
  );
  const kinds = (/** @type {any[]} */ some) => reduce(emptyView(), some).parts.map(({ kind }) => kind);
  assert.deepEqual(kinds(lost.slice(0, 2)), ["text", "lost"]);
  assert.deepEqual(kinds(lost), ["text"]);
});

test("what was open when a run ended is closed", () => {
  const view = reduce(
    emptyView(),
    events(
      ["message.delta", { message_id: "b1", text: "half" }],
      ["tool.started", { tool_call_id: "t1", name: "ls", input: null }],
      ["approval.requested", { approval: { id: "apr_1", status: "pending" } }],
      ["run.cancelled", {}],
    ),
  );
  const [text, tool, approval] = /** @type {any[]} */ (view.parts);
  assert.deepEqual([text.done, text.partial, tool.done, approval.approval.status], [true, true, true, "expired"]);
});

test("a text that counts takes the place of its deltas, and one that is too large for an event does not", () => {
  const view = reduce(
    emptyView(),
    events(
      ["message.delta", { message_id: "b1", text: "draft" }],
      ["message.completed", { message_id: "b1", text: "final" }],
      ["message.delta", { message_id: "b2", text: "long" }],
      ["message.completed", { message_id: "b2", text: null, value: { field: "text", size: 300_000 } }],
    ),
  );
  assert.deepEqual(view.parts.map((part) => /** @type {any} */ (part).text), ["final", "long"]);
});

test("what a tool is asked is seen while it is written, and what a user adds where it was heard", () => {
  const begun = reduce(
    emptyView(),
    events(["tool.delta", { tool_call_id: "t1", name: "sh", text: '{"a"' }], ["tool.delta", { tool_call_id: "t1", text: ":1}" }], ["input.delivered", { message_id: "m1", text: "and b" }]),
  );
  const [tool, said] = /** @type {any[]} */ (begun.parts);
  assert.deepEqual([tool.name, tool.input, tool.done, said.kind, said.text], ["sh", '{"a":1}', false, "said", "and b"]);
});

test("an unknown event is passed over", () => {
  assert.deepEqual(reduce(emptyView(), events(["later.invention", { a: 1 }])).parts, []);
});

test("ten thousand events take no time to speak of", () => {
  const many = [];
  for (let n = 0; n < 5000; n++) many.push(["message.delta", { message_id: "b1", text: "word " }], ["usage.updated", { output_tokens: n }]);
  const all = events(.../** @type {any} */ (many));
  const begun = performance.now();
  const view = reduce(emptyView(), all);
  assert.equal(/** @type {any} */ (view.parts[0]).text.length, 25_000);
  assert.ok(performance.now() - begun < 400);
});
