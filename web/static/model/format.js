// Numbers, moments and spans in words.

import { t } from "../words/words.js";

const language = globalThis.navigator?.language ?? "en";
const clock = new Intl.DateTimeFormat(language, { hour: "2-digit", minute: "2-digit" });
const day = new Intl.DateTimeFormat(language, { dateStyle: "medium" });
const moment = new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "medium" });
const number = new Intl.NumberFormat(language);

/** @param {number} milliseconds */
export function span(milliseconds) {
  const seconds = Math.max(0, milliseconds) / 1000;
  if (seconds < 0.1) return t("span.moment");
  if (seconds < 10) return t("span.seconds", { n: Number.isInteger(seconds) ? seconds : seconds.toFixed(1) });
  if (seconds < 60) return t("span.seconds", { n: Math.round(seconds) });
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return t("span.minutes", { m: minutes, s: Math.round(seconds % 60) });
  return t("span.hours", { h: Math.floor(minutes / 60), m: minutes % 60 });
}

/** @param {string} from @param {string} to */
export const between = (from, to) => Date.parse(to) - Date.parse(from);

/** @param {number} bytes */
export function size(bytes) {
  if (bytes < 1000) return `${bytes} B`;
  const units = ["kB", "MB", "GB", "TB"];
  const power = Math.min(Math.floor(Math.log10(bytes) / 3), units.length);
  const value = bytes / 1000 ** power;
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ${units[power - 1]}`;
}

/** @param {number} dollars */
export const money = (dollars) => `$${dollars < 0.1 ? dollars.toFixed(4) : dollars.toFixed(2)}`;

/** @param {number} n */
export const count = (n) => number.format(n);

/** @param {string} at */
export const exactly = (at) => moment.format(new Date(at));

/** A clock time today, else a day. @param {string} at */
export function when(at) {
  const date = new Date(at);
  return date.toDateString() === new Date().toDateString() ? clock.format(date) : day.format(date);
}

/**
 * The heading under which something of that age is listed.
 * @param {string} at
 * @param {Date} now
 */
export function age(at, now = new Date()) {
  const midnight = new Date(now.getFullYear(), now.getMonth(), now.getDate()).getTime();
  const days = (midnight - Date.parse(at)) / 86_400_000;
  if (days <= 0) return t("age.today");
  if (days <= 1) return t("age.yesterday");
  if (days <= 7) return t("age.week");
  if (days <= 30) return t("age.month");
  return t("age.older");
}

/** The end of a file name. @param {string} name */
export const ending = (name) => (/\.([a-z0-9]{1,8})$/i.exec(name)?.[1] ?? "").toLowerCase();
