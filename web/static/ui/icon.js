// Icons: a few strokes each, in the colour of the text around them.

import { html } from "./html.js";

/** @type {Record<string, string>} */
const STROKES = {
  plus: "M12 5v14M5 12h14",
  menu: "M4 7h16M4 12h16M4 17h10",
  search: "M11 4a7 7 0 1 0 0 14 7 7 0 0 0 0-14zM20 20l-4-4",
  send: "M12 19V5M6 11l6-6 6 6",
  stop: "M8 8h8v8H8z",
  clip: "M20 11.5l-8 8a5 5 0 0 1-7-7l8.5-8.5a3.4 3.4 0 0 1 4.8 4.8L9.8 17.3a1.7 1.7 0 0 1-2.4-2.4l7.6-7.6",
  files: "M14 3H7a2 2 0 0 0-2 2v14a2 2 0 0 0 2 2h10a2 2 0 0 0 2-2V8zM14 3v5h5",
  file: "M14 3H7a2 2 0 0 0-2 2v14a2 2 0 0 0 2 2h10a2 2 0 0 0 2-2V8zM14 3v5h5M9 13h6M9 17h4",
  copy: "M9 9h10v10H9zM5 15V5h10",
  check: "M5 12.5l4.5 4.5L19 7.5",
  cross: "M6 6l12 12M18 6L6 18",
  again: "M4 12a8 8 0 1 0 2.6-5.9M4 4v4.5h4.5",
  edit: "M4 20l1-4L16.5 4.5a2.1 2.1 0 0 1 3 3L8 19z",
  branch: "M6 4v16M6 14c8 0 12-2 12-8M18 6m-2 0a2 2 0 1 0 4 0 2 2 0 1 0-4 0",
  bin: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13",
  down: "M6 9l6 6 6-6",
  left: "M14 6l-6 6 6 6",
  right: "M10 6l6 6-6 6",
  toEnd: "M12 5v14M6 13l6 6 6-6",
  save: "M12 4v11M7 10.5l5 5 5-5M5 20h14",
  tool: "M14.5 6.5a4 4 0 0 0-5.3 5.1L4 16.8 7.2 20l5.2-5.2a4 4 0 0 0 5.1-5.3l-2.6 2.6-2.5-.5-.5-2.5z",
  thought: "M12 4a6 6 0 0 0-3.5 10.9V17h7v-2.1A6 6 0 0 0 12 4zM10 20.5h4",
  runs: "M4 12h4l3-7 3 14 3-7h3",
  sun: "M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8zM12 2v2M12 20v2M2 12h2M20 12h2M5 5l1.4 1.4M17.6 17.6L19 19M5 19l1.4-1.4M17.6 6.4L19 5",
  moon: "M20 14.5A8 8 0 1 1 9.5 4a6.5 6.5 0 0 0 10.5 10.5z",
  auto: "M12 4a8 8 0 1 0 0 16zM12 4a8 8 0 0 1 0 16",
  keys: "M4 7h16v10H4zM8 10h.01M12 10h.01M16 10h.01M8 14h8",
  bell: "M6 16V11a6 6 0 0 1 12 0v5l1.5 2h-15zM10 20.5h4",
  clock: "M12 4a8 8 0 1 0 0 16 8 8 0 0 0 0-16zM12 8v4.5l3 1.8",
  side: "M4 5h16v14H4zM9.5 5v14",
  warn: "M12 4l9 16H3zM12 10v4M12 17h.01",
  more: "M6 12h.01M12 12h.01M18 12h.01",
  steer: "M4 12h11M11 7l5 5-5 5M20 5v14",
};

/** @param {{ name: string, size?: number }} props */
export const Icon = ({ name, size = 18 }) => html`
  <svg class="icon" width=${size} height=${size} viewBox="0 0 24 24" aria-hidden="true"><path d=${STROKES[name]} /></svg>
`;

/**
 * A button that is an icon; its label is what a screen reader says and a pointer that rests shows.
 * @param {{ name: string, label: string, onClick: (event: MouseEvent) => void, [more: string]: any }} props
 */
export const IconButton = ({ name, label, size, class: names = "", ...more }) => html`
  <button type="button" class="icon-button ${names}" aria-label=${label} title=${label} ...${more}>
    <${Icon} name=${name} size=${size} />
  </button>
`;
