// The one way in which markup is written here: htm's templates, made into Preact's elements.

import htm from "htm";
import { h } from "preact";

export const html = htm.bind(h);
