import assert from "node:assert/strict";
import { test } from "node:test";
import { path, wayTo } from "../../web/static/model/path.js";

/** @param {string} id @param {string | null} [follows] */
const run = (id, follows = null) => /** @type {any} */ ({ id, follows });
const ids = (/** @type {any[]} */ steps) => steps.map(({ run }) => run.id);

test("without branches, a thread is its runs one after the other", () => {
  assert.deepEqual(ids(path([run("a"), run("b"), run("c")], {})), ["a", "b", "c"]);
});

test("at a fork the newest branch is taken, unless another one was chosen", () => {
  const runs = [run("a"), run("b"), run("c", "a"), run("d")];
  assert.deepEqual(ids(path(runs, {})), ["a", "c", "d"]);
  assert.deepEqual(path(runs, {})[1].siblings, ["b", "c"]);
  assert.deepEqual(ids(path(runs, { a: "b" })), ["a", "b"]);
});

test("a first message may have another one beside it", () => {
  const runs = [run("a"), run("b"), run("c", "nothing")];
  assert.deepEqual(ids(path(runs, {})), ["c"]);
  assert.deepEqual(ids(path(runs, wayTo(runs, "b"))), ["a", "b"]);
});
