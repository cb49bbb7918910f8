// Formulas, drawn where their sources stand. Fetched with the first of them, and brings what draws them.

import { style } from "./style.js";

const [{ default: katex }] = await Promise.all([import("katex"), style("vendor/katex/katex.css")]);

/** @param {HTMLElement} element */
export function drawMaths(element) {
  for (const formula of element.querySelectorAll("code.math")) {
    const place = document.createElement("span");
    place.className = formula.className;
    // Built as elements: its styles then pass a policy that allows none in the markup.
    katex.render(formula.textContent ?? "", place, {
      displayMode: formula.classList.contains("math-display"),
      throwOnError: false,
      trust: false,
      maxSize: 20,
      maxExpand: 200,
    });
    formula.replaceWith(place);
  }
}
