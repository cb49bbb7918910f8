// A component that is drawn again only when what it is given has changed.

import { Component, h } from "preact";

/**
 * @template {Record<string, any>} P
 * @param {(props: P) => any} draw
 * @returns {(props: P) => any}
 */
export function memo(draw) {
  class Memo extends Component {
    /** @param {any} next */
    shouldComponentUpdate(next) {
      const now = /** @type {any} */ (this.props);
      return Object.keys({ ...now, ...next }).some((name) => now[name] !== next[name]);
    }

    render() {
      return h(/** @type {any} */ (draw), this.props);
    }
  }
  return /** @type {any} */ (Memo);
}
