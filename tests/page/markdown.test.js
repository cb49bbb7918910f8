import assert from "node:assert/strict";
import { test } from "node:test";
import { divide } from "../../web/static/model/markdown.js";
import { parse } from "../../web/static/net/frames.js";
import { t } from "../../web/static/words/words.js";

const TEXT = "# One\n\nA paragraph.\n\n- a\n- b\n\n- c\n\n```js\nlet a = 1;\n\nlet b;\n```\n\n$$\nx^2\n$$\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\nEnd.";

test("a text that grows by letters is divided as it is at once", () => {
  /** @type {ReturnType<typeof divide> | null} */
  let grown = null;
  for (let end = 1; end <= TEXT.length; end++) grown = divide(TEXT.slice(0, end), grown);
  const whole = divide(TEXT);
  assert.deepEqual([...(grown?.closed ?? []), grown?.open].map((block) => block?.trim()), [...whole.closed, whole.open].map((block) => block.trim()));
  assert.equal(whole.closed.length, 6);
});

test("closed blocks stay the same strings", () => {
  const before = divide("One.\n\nTwo.\n\nThr");
  const after = divide("One.\n\nTwo.\n\nThree.", before);
  assert.deepEqual(before.closed.length, 2);
  assert.equal(after.closed, before.closed);
});

test("a text that was replaced is divided anew", () => {
  assert.deepEqual(divide("Other.", divide("One.\n\nTwo.")).open, "Other.");
});

test("frames are read as far as they are whole", () => {
  assert.deepEqual(parse('id: 1\ndata: {"a":1}\n\n: ping\nid: 2\ndata: {"a":2}\n\nid: 3\nda'), { data: [{ a: 1 }, { a: 2 }], rest: "id: 3\nda" });
});

test("words are filled in", () => {
  assert.equal(t("state.queued.position", { n: 3 }), "Waiting: 3 before it");
});
