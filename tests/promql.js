// Reads PromQL expressions, a JSON list on standard input, with Prometheus's own grammar: what each asks for, as JSON.
import { parser } from "@prometheus-io/lezer-promql";
import { readFileSync } from "node:fs";

const read = (expression) => {
  const found = { errors: 0, selectors: [], groupings: [] };
  const text = (node) => expression.slice(node.from, node.to);
  parser.parse(expression).iterate({
    enter(cursor) {
      const node = cursor.node;
      if (node.type.isError) found.errors += 1;
      if (node.name === "GroupingLabels") found.groupings.push(...node.getChildren("LabelName").map(text));
      if (node.name === "VectorSelector") {
        const name = node.getChild("Identifier");
        const matchers = node.getChild("LabelMatchers")?.getChildren("UnquotedLabelMatcher") ?? [];
        const labels = matchers.map((one) => [text(one.getChild("LabelName")), JSON.parse(text(one.getChild("StringLiteral")))]);
        found.selectors.push({ name: name ? text(name) : "", labels });
      }
    },
  });
  return found;
};
process.stdout.write(JSON.stringify(JSON.parse(readFileSync(0, "utf8")).map(read)));
