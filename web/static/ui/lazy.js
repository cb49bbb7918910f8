// A component whose code and style are fetched when it is first shown.

import { h } from "preact";
import { useEffect, useState } from "preact/hooks";
import { style } from "./style.js";

/**
 * @param {() => Promise<any>} load gives the module
 * @param {string} name of the component in it
 * @param {string} [sheet] its style, where it has one of its own
 */
export function lazy(load, name, sheet) {
  /** @type {any} */
  let found = null;
  return function Lazy(/** @type {any} */ props) {
    const [, arrived] = useState(false);
    useEffect(() => {
      if (!found) void Promise.all([load(), sheet && style(sheet)]).then(([module]) => ((found = module[name]), arrived(true)));
    }, []);
    return found && h(found, props);
  };
}
