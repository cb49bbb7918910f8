// A CSV file as a table that can be sorted.

import { useEffect, useMemo, useState } from "preact/hooks";
import { count } from "../model/format.js";
import { t } from "../words/words.js";
import { html } from "./html.js";

const MOST_ROWS = 1000;

/** @param {{ text: string }} props */
export function Table({ text }) {
  const [rows, setRows] = useState(/** @type {string[][] | null} */ (null));
  const numeric = useMemo(() => rows?.[0]?.map((_, column) => isNumeric(rows.slice(1), column)) ?? [], [rows]);
  const [by, setBy] = useState({ column: -1, down: false });
  useEffect(() => {
    void import("papaparse").then(({ default: papa }) => setRows(papa.parse(text.trimEnd(), { skipEmptyLines: true }).data));
  }, [text]);
  const sorted = useMemo(() => rows && order(rows.slice(1), by), [rows, by]);
  if (!rows || !sorted) return html`<div class="skeleton"><i /><i /><i /></div>`;
  const press = (/** @type {number} */ column) => setBy({ column, down: by.column === column && !by.down });
  const sort = (/** @type {number} */ column) => (by.column === column ? (by.down ? "descending" : "ascending") : "none");
  return html`
    <table class="sheet-table">
      <thead><tr>${(rows[0] ?? []).map((name, column) => html`<th key=${column} scope="col" class=${numeric[column] ? "to-right" : ""} aria-sort=${sort(column)}>
        <button type="button" onClick=${() => press(column)}>${name}<span aria-hidden="true">${{ none: "", ascending: " ↑", descending: " ↓" }[sort(column)]}</span></button></th>`)}</tr></thead>
      <tbody>${sorted.slice(0, MOST_ROWS).map((row, index) => html`<tr key=${index}>${row.map((cell, column) => html`<td key=${column} class=${numeric[column] ? "to-right" : ""}>${cell}</td>`)}</tr>`)}</tbody>
    </table>
    ${sorted.length > MOST_ROWS && html`<p class="none">${t("csv.cut", { shown: count(MOST_ROWS), all: count(sorted.length) })}</p>`}
  `;
}

const isNumber = (/** @type {string} */ cell) => cell.trim() !== "" && Number.isFinite(Number(cell.replace(/[, %$€]/g, "")));

/** @param {string[][]} rows @param {number} column */
const isNumeric = (rows, column) => rows.every((row) => !row[column] || isNumber(row[column]));

/** @param {string[][]} rows @param {{ column: number, down: boolean }} by */
function order(rows, { column, down }) {
  if (column < 0) return rows;
  const numeric = isNumeric(rows, column);
  const value = (/** @type {string[]} */ row) => Number((row[column] ?? "").replace(/[, %$€]/g, ""));
  const compare = (/** @type {string[]} */ one, /** @type {string[]} */ other) =>
    numeric ? value(one) - value(other) : (one[column] ?? "").localeCompare(other[column] ?? "");
  return [...rows].sort((one, other) => (down ? -compare(one, other) : compare(one, other)));
}
